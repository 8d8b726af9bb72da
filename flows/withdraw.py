"""Flows `revoke`, `expire` and `rollback`: production without some of its facts, or as it was before.

Each makes a candidate like any other, solved from the base, held against the policy for withdrawals, and reviewed.
Nothing is set aside where the gate fails: production stays as it is, and the error says which bound was missed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import flow, get_run_logger

from flows.propose import ask_for_review, make_room, one_at_a_time, recorded, show
from tasks.base import base_task
from tasks.candidate import Candidate, open_candidate_task, the_open_candidate
from tasks.edit import edit_task
from tasks.errors import BusyError, GateError
from tasks.evaluate import evaluate_task
from tasks.failed import where_to_look
from tasks.gate import gate_task, policy_task
from tasks.ledger import Ledger
from tasks.news import tell_news
from tasks.prepare import prepare_task
from tasks.settings import Settings
from tasks.withdraw import Withdrawal, expiry_task, kept_edit_task, revocation_task, rollback_task


@flow(name="revoke")
def revoke(
    facts: list[str], reason: str, act: dict[str, Any] | None = None, restore: bool = False, replace: bool = False
) -> str:
    """Make a candidate without some facts, and ask for review.

    Args:
        facts: ids of what shall no longer hold.
        reason: why; kept in the ledger, and shown to the reviewer.
        act: the signature of who wants all of this so, as 'corrigenda revoke' makes it, once and within the hour.
        restore: let the facts that these superseded hold again.
        replace: close a candidate that waits for review first; its corrections are queued again.
    """
    how = {"restore": restore, "replace": replace}
    return _withdraw(lambda: revocation_task(facts, reason=reason, act=act, **how), replace=replace)


@flow(name="expire")
def expire(replace: bool = False) -> str:
    """Make a candidate without the facts whose time has ended, and ask for review.

    Args:
        replace: close a candidate that waits for review first; its corrections are queued again.
    """
    waiting = the_open_candidate(Ledger(Settings().database_url))
    if waiting and not replace:
        return f"candidate {waiting.key[:12]} waits for review; what has ended leaves once that is decided"
    return _withdraw(expiry_task, replace=replace)


@flow(name="rollback")
def rollback(
    position: int, reason: str, act: dict[str, Any] | None = None, leave_out: bool = False, replace: bool = False
) -> str:
    """Make a candidate of an earlier release, and ask for review; facts released since become held.

    Args:
        position: of the release; 0 is the base.
        reason: why; kept in the ledger, and shown to the reviewer.
        act: the signature of who wants all of this so, as 'corrigenda rollback' makes it, once and within the hour.
        leave_out: solve it again, without the facts that were revoked or expired since.
        replace: close a candidate that waits for review first; its corrections are queued again.
    """
    how = {"leave_out": leave_out, "replace": replace}
    return _withdraw(lambda: rollback_task(position, reason=reason, act=act, **how), replace=replace)


def _withdraw(choose: Callable[[], Withdrawal], *, replace: bool) -> str:
    """Make a candidate of what remains.

    Raises:
        BusyError: another candidate waits for review.
    """
    with one_at_a_time() as ledger:
        waiting = the_open_candidate(ledger)
        if waiting and not replace:
            raise BusyError(
                f"candidate {waiting.key[:12]} waits for review, and one is open at a time: decide on it first, "
                "or close it with --replace. Nothing was withdrawn"
            )
        withdrawal = choose()
        done = _done_at_once(withdrawal)
        if done:
            get_run_logger().info(done)
            tell_news(ledger)
        if waiting:
            make_room(waiting, ledger)
        if not withdrawal.batch.leaving and not withdrawal.batch.returning:
            return done or "nothing to do: production stays as it is"
        with recorded(ledger, withdrawal.batch):
            candidate = make_candidate(withdrawal)
    return "; ".join(part for part in (done, ask_for_review(candidate)) if part)


def make_candidate(withdrawal: Withdrawal) -> Candidate:
    """Solve what remains or take an earlier patch, evaluate, gate; then store, register and open what passed.

    Raises:
        GateError: it did not pass; nothing is registered.
    """
    batch = withdrawal.batch
    policy = policy_task(Settings().withdrawal_policy)
    base = base_task()
    if withdrawal.release:
        edit = kept_edit_task(withdrawal.release, base=base)
    else:
        edit = edit_task(base, batch, prepare_task(base))
    report = evaluate_task(base, batch, edit)
    verdict = gate_task(report, policy)
    page = show(batch, report, verdict)
    if not verdict.passed:
        said = (f"{verdict.failure}. Production stays as it is", _done_at_once(withdrawal), where_to_look(page))
        raise GateError("; ".join(part for part in said if part))
    return open_candidate_task(base, batch, edit, report, policy, verdict)


def _done_at_once(withdrawal: Withdrawal) -> str:
    """Say what needed no candidate; nothing where everything does."""
    return f"withdrawn at once, since not in production: {', '.join(withdrawal.done)}" if withdrawal.done else ""
