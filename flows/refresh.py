"""Flow `refresh`: the queued corrections become a gated candidate, and somebody is asked to review it.

It always solves all active facts plus the queued ones on the pristine base. One refresh runs at a time, and one
candidate is open at a time. A run that is killed leaves nothing that counts: the next one marks it dead and goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from tasks.base import base_task
from tasks.candidate import Candidate, open_candidate_task, quarantine_task, replace_candidate, the_open_candidate
from tasks.collect import Batch, collect_task
from tasks.describe import answers_list, changed_neighbours, counted, lost_protected, metrics_table
from tasks.edit import edit_task
from tasks.errors import GateError
from tasks.evaluate import evaluate_task
from tasks.gate import Verdict, gate_task, policy_task
from tasks.ledger import Ledger
from tasks.prepare import prepare_task
from tasks.report import Report
from tasks.reviews import close_reviews, start_review
from tasks.runs import begin, bury_the_dead, end
from tasks.settings import Settings

ACTOR = "refresh"


@flow(name="refresh")
def refresh(replace: bool = False) -> str:
    """Make a candidate of everything that is due, and ask for review.

    Args:
        replace: close a candidate that waits for review first; its corrections are queued again.
    """
    settings = Settings()
    ledger = Ledger(settings.database_url)
    with ledger.refresh_lock():
        bury_the_dead(ledger)
        waiting = the_open_candidate(ledger)
        if waiting and not replace:
            run = start_review(waiting.key)
            return f"candidate {waiting.key[:12]} waits for review: {settings.prefect_ui_url}/runs/flow-run/{run.id}"
        if waiting:
            replace_candidate(waiting, ledger, actor=ACTOR)
            close_reviews(waiting.key)
        batch = collect_task()
        if not batch.new:
            return "nothing to do: no correction is queued and due"
        with _recorded(ledger, batch):
            candidate = make_candidate(batch)
    run = start_review(candidate.digest)
    return (
        f"candidate {candidate.digest[:12]} (version {candidate.registered.version}) waits for review: "
        f"{settings.prefect_ui_url}/runs/flow-run/{run.id}"
    )


def make_candidate(batch: Batch) -> Candidate:
    """Edit, evaluate, gate; then store, register and open what passed.

    Raises:
        GateError: it did not; the facts to blame are set aside, and nothing is registered.
    """
    policy = policy_task()
    base = base_task()
    ingredients = prepare_task(base)
    edit = edit_task(base, batch, ingredients)
    report = evaluate_task(base, batch, edit)
    verdict = gate_task(report, policy)
    create_markdown_artifact(_page(batch, report, verdict), key="refresh", description="verdict and answers")
    if not verdict.passed:
        aside = quarantine_task(batch, report, verdict)
        failures = "; ".join(f"{o.bound.metric} {o.why}" for o in verdict.failures)
        raise GateError(f"the gate {verdict.policy!r} fails: {failures}. Set aside: {', '.join(aside)}")
    return open_candidate_task(base, batch, edit, report, policy, verdict)


@contextmanager
def _recorded(ledger: Ledger, batch: Batch) -> Iterator[None]:
    """Keep in the ledger that a refresh began, and how it ended."""
    key = str(flow_run.id)
    begin(ledger, key, facts=[c.id for c in batch.facts])
    try:
        yield
    except BaseException as error:
        get_run_logger().error("the refresh ends without a candidate: %s", error)
        end(ledger, key, "failed", reason=f"{type(error).__name__}: {error}"[:2000])
        raise
    end(ledger, key, "finished")


def _page(batch: Batch, report: Report, verdict: Verdict) -> str:
    """The verdict and the answers before and after, as the run's artifact shows them."""
    return "\n".join(
        [
            f"# {counted(len(batch.new), 'new fact')} on {len(batch.earlier)} earlier: **{verdict.word}**",
            "",
            metrics_table(verdict),
            lost_protected(report),
            answers_list("New facts", report.of_kind("efficacy")),
            answers_list("Asked differently", report.of_kind("generalization")),
            answers_list("Earlier facts", report.of_kind("retention")),
            changed_neighbours(report),
        ]
    )
