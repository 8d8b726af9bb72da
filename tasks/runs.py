"""Runs: the ledger's own memory of each refresh, and which runs in Prefect are dead though it takes them for alive."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from governance.lifecycle import Event
from tasks.errors import BusyError
from tasks.ledger import Ledger
from tasks.prefect_api import prefect_client

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

ACTOR = "refresh"
MAKERS = ("refresh", "revoke", "expire", "rollback")
"""The flows that make a candidate, one at a time; they may take hours."""
SHORT = ("review", "reconcile", "housekeeping")
"""The flows that work for seconds between their pauses."""
AT_WORK = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)
SHORT_MINUTES = 15.0
"""A short flow at work for longer than that has lost its process; its own retries end within three."""
WITHOUT_A_WORD = "its process ended without a word"


def begin(ledger: Ledger, key: str, *, facts: Sequence[str]) -> None:
    """Enter a refresh that starts to edit, unless it has: a flow that is retried keeps its run."""
    if not ledger.standings("refresh", keys=[key]):
        ledger.append([Event(entity="refresh", key=key, kind="started", actor=ACTOR, data={"facts": list(facts)})])


def end(ledger: Ledger, key: str, kind: str, *, reason: str = "") -> None:
    """Enter how a refresh ended."""
    if ledger.standing("refresh", key).state == "started":
        ledger.append([Event(entity="refresh", key=key, kind=kind, actor=ACTOR, reason=reason)])


def bury_the_dead(ledger: Ledger) -> list[str]:
    """Mark refreshes dead that began and never ended; whoever holds the lock knows that none is at work.

    Returns:
        Their run ids.
    """
    dead = [standing.key for standing in ledger.standings("refresh", states=["started"])]
    ledger.append([Event(entity="refresh", key=key, kind="dead", actor=ACTOR, reason=WITHOUT_A_WORD) for key in dead])
    with prefect_client() as client:
        for key in dead:
            try:
                run = client.read_flow_run(UUID(key))
            except ObjectNotFound:
                continue
            if run.state and not run.state.is_final():
                _crash(run)
    return dead


def mark_dead_runs(ledger: Ledger, *, now: datetime, minutes: float = SHORT_MINUTES) -> list[str]:
    """Mark runs crashed whose process is gone: refreshes that nobody is at work on, and short flows at work for long.

    Args:
        ledger: whose lock tells whether a refresh is at work.
        now: the time.
        minutes: for how long a run has been at work at least.

    Returns:
        Their names.
    """
    before = now - timedelta(minutes=minutes)
    dead = _at_work_since(SHORT, before)
    for run in dead:
        _crash(run)
    try:
        with ledger.refresh_lock():
            named = [f"refresh {key}" for key in bury_the_dead(ledger)]
            makers = _at_work_since(MAKERS, before)  # killed before they began to edit, or after they had a candidate
            for run in makers:
                _crash(run)
    except BusyError:
        named, makers = [], []
    return [*named, *(run.name for run in (*dead, *makers))]


def _at_work_since(flows: Sequence[str], before: datetime) -> list[FlowRun]:
    """The runs of some flows that have been at work since before a time."""
    with prefect_client() as client:
        found = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=list(flows))),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(AT_WORK)))),
        )
    return [run for run in found if run.state and run.state.timestamp <= before]


def _crash(run: FlowRun) -> None:
    with prefect_client() as client:
        client.set_flow_run_state(run.id, Crashed(message=WITHOUT_A_WORD), force=True)
