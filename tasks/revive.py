"""Revive: an open candidate whose review ended without a decision gets one that goes on.

A run that broke down after somebody had answered is started again, and finds that answer: nobody is asked twice. Where
nothing was answered, or somebody cancelled or deleted the run, a new one asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from prefect.states import Crashed, Scheduled

from tasks.prefect_api import prefect_client
from tasks.reviews import review_runs, start_review
from tasks.runs import SHORT_MINUTES

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

FAILURES = 5
"""How many times a run may have begun that failed by itself; then a new one asks anew. A crash is never its fault."""
INPUTS = 1000


def revive(candidate: str, *, now: datetime, minutes: float = SHORT_MINUTES, decided: bool = False) -> str:
    """Let an open candidate's review go on; returns why it did not, empty where it does.

    Args:
        candidate: its digest.
        now: the time.
        minutes: how long a run may be paused and have no form yet.
        decided: whether a decision is recorded, so that no run has to wait for one; the next run carries it out.
    """
    runs = review_runs(candidate)
    alive = [run for run in runs if run.state and not run.state.is_final()]
    if decided:
        mute = [run for run in alive if run.state and run.state.is_paused()]
    else:
        mute = [run for run in alive if _is_mute(run, before=now - timedelta(minutes=minutes))]
    if len(alive) > len(mute):
        return ""
    _close(mute, "it waits for a decision that is recorded" if decided else "it waits for an answer and has no form")
    broken = [run for run in runs if _broke_down(run) and _is_answered(run)]
    if broken:
        _start_again(broken[-1])
        return f"review run {broken[-1].name!r} {_end_of(broken[-1])} after it was answered"
    start_review(candidate)
    if decided and mute:
        return f"review run {mute[-1].name!r} waited for a decision that is recorded"
    return "no review was started" if not runs else f"review run {runs[-1].name!r} {_end_of(runs[-1])}"


def _is_mute(run: FlowRun, *, before: datetime) -> bool:
    """Whether a run waits for an answer that nobody can give: it was killed between its pause and its form."""
    state = run.state
    if not state or not state.is_paused() or state.timestamp > before:
        return False
    keys = state.state_details.run_input_keyset or {}
    return not {keys.get("schema"), keys.get("description")} <= _inputs(run)


def _broke_down(run: FlowRun) -> bool:
    """Whether a run ended by itself, and may go on."""
    if not run.state:
        return False
    return run.state.is_crashed() or (run.state.is_failed() and run.run_count <= FAILURES)


def _is_answered(run: FlowRun) -> bool:
    return any(key.endswith("-response") for key in _inputs(run))


def _inputs(run: FlowRun) -> set[str]:
    """The names under which Prefect keeps forms and answers of a run."""
    with prefect_client() as client:
        found = client.filter_flow_run_input(run.id, key_prefix="suspended-", limit=INPUTS, exclude_keys=set())
    return {each.key for each in found}


def _close(runs: Sequence[FlowRun], why: str) -> None:
    with prefect_client() as client:
        for run in runs:
            client.set_flow_run_state(run.id, Crashed(message=why), force=True)


def _start_again(run: FlowRun) -> None:
    """Let a runner take a run up again. By force, for else Prefect forgets which pauses it has behind it."""
    with prefect_client() as client:
        client.set_flow_run_state(run.id, Scheduled(name="AwaitingRetry", scheduled_time=datetime.now(UTC)), force=True)


def _end_of(run: FlowRun) -> str:
    """How a run ended, as a clause."""
    assert run.state is not None, "a run that has no state has not ended"
    if not run.state.is_final():
        return "waits for an answer and has no form"
    if run.state.is_cancelled():
        return "was cancelled"
    return f"ended as {(run.state.name or run.state.type.value).lower()}"
