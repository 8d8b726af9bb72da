"""Runs: the ledger's own memory of each refresh, so that one which was killed is found and said to be dead."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from tasks.ledger import Ledger
from tasks.lifecycle import Event
from tasks.prefect_api import prefect_client

ACTOR = "refresh"


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
    reason = "its process ended without a word"
    ledger.append([Event(entity="refresh", key=key, kind="dead", actor=ACTOR, reason=reason) for key in dead])
    with prefect_client() as client:
        for key in dead:
            try:
                run = client.read_flow_run(UUID(key))
            except ObjectNotFound:
                continue
            if run.state and not run.state.is_final():
                client.set_flow_run_state(run.id, Crashed(message=reason), force=True)
    return dead
