"""Flow `refresh`: the queued corrections become a gated candidate, and somebody is asked to review it.

It always solves all active facts plus the queued ones on the pristine base.
"""

from __future__ import annotations

from prefect import flow

from flows.propose import ask_for_review, make_room, one_at_a_time, recorded, review_of, show
from tasks.base import base_task
from tasks.candidate import Candidate, open_candidate_task, quarantine_task, the_open_candidate
from tasks.collect import Batch, collect_task
from tasks.culprits import Culprits, culprits_task
from tasks.edit import edit_task
from tasks.errors import GateError
from tasks.evaluate import evaluate_task
from tasks.failed import where_to_look
from tasks.gate import Verdict, gate_task, policy_task
from tasks.prepare import prepare_task
from tasks.settings import Settings


@flow(name="refresh")
def refresh(replace: bool = False) -> str:
    """Make a candidate of everything that is due, and ask for review.

    Args:
        replace: close a candidate that waits for review first; its corrections are queued again.
    """
    with one_at_a_time() as ledger:
        waiting = the_open_candidate(ledger)
        if waiting and not replace:
            return f"candidate {waiting.key[:12]} {review_of(waiting.key)}"
        if waiting:
            make_room(waiting, ledger)
        batch = collect_task()
        if not batch.new:
            return "nothing to do: no correction is queued and due"
        with recorded(ledger, batch):
            candidate = make_candidate(batch)
    return ask_for_review(candidate)


def make_candidate(batch: Batch) -> Candidate:
    """Edit, evaluate, gate; then store, register and open what passed.

    Where the gate fails, the facts to blame are set aside, and the rest goes round again.

    Raises:
        GateError: it fails, and nobody or everybody is to blame; nothing is registered.
    """
    policy = policy_task(Settings().policy)
    base = base_task()
    ingredients = prepare_task(base)
    trials = Settings().culprit_trials
    while True:
        edit = edit_task(base, batch, ingredients)
        report = evaluate_task(base, batch, edit)
        verdict = gate_task(report, policy)
        page = show(batch, report, verdict)
        if verdict.passed:
            return open_candidate_task(base, batch, edit, report, policy, verdict)
        culprits = culprits_task(base, batch, edit, report, policy, budget=trials)
        trials -= culprits.trials
        if culprits.innocent:
            raise GateError(f"{verdict.failure}. Nothing was set aside: {culprits.why}; {where_to_look(page)}")
        left = quarantine_task(batch, culprits, report, verdict, page)
        if not left.new:
            raise GateError(f"{_failure(batch, culprits, verdict)}; {where_to_look(page)}")
        batch = left


def _failure(batch: Batch, culprits: Culprits, verdict: Verdict) -> str:
    """Why a refresh ends without a candidate."""
    aside = culprits.ids or [c.id for c in batch.new]
    return (
        f"{verdict.failure}. No new fact is left; set aside last: {', '.join(aside)}"
        + (f" ({culprits.why})" if culprits.why else "")
        + ". 'corrigenda corrections --state quarantined' says why, 'corrigenda retry ID' queues one again"
    )
