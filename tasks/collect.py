"""Collect: which facts the next candidate shall hold.

A candidate holds all active facts and the queued ones that are due, oldest first. A queued correction that expired
while it waited is cancelled; an active one that a queued one supersedes is left out, and stays released until the other
is released.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from prefect import task
from pydantic import BaseModel, ConfigDict

from tasks.corrections import Correction
from tasks.ledger import Ledger, Standing
from tasks.lifecycle import Event
from tasks.retries import WHILE_AWAY
from tasks.settings import Settings

ACTOR = "corrigenda"


class Batch(BaseModel):
    """The facts of one candidate.

    Attributes:
        new: queued until now; what the reviewer decides on.
        earlier: released before, and still to hold.
        protected: facts that must stay as they are, and are asked with every candidate.
        parent: digest of the release in production; None where that is the base.
        waiting: how many more are due than one refresh takes.
    """

    model_config = ConfigDict(frozen=True)

    new: tuple[Correction, ...]
    earlier: tuple[Correction, ...]
    protected: tuple[Correction, ...] = ()
    parent: str | None
    waiting: int = 0

    @property
    def facts(self) -> tuple[Correction, ...]:
        """All facts, in the order of their ids: history leaves no trace in the patch."""
        return tuple(sorted((*self.new, *self.earlier), key=lambda correction: correction.id))


def collect(ledger: Ledger, *, now: datetime, limit: int) -> Batch:
    """Choose the facts of the next candidate."""
    queued = corrections_in(ledger, "queued")
    ledger.append([_expired(c) for c in queued if c.expires and c.expires <= now])
    due = [c for c in queued if (not c.expires or c.expires > now) and (not c.effective or c.effective <= now)]
    new = due[:limit]
    superseded = {c.supersedes for c in new}
    earlier = [c for c in corrections_in(ledger, "released") if c.id not in superseded]
    head = ledger.head()
    return Batch(
        new=tuple(new),
        earlier=tuple(earlier),
        protected=tuple(protected_facts(ledger)),
        parent=head.candidate if head else None,
        waiting=len(due) - len(new),
    )


def corrections_in(ledger: Ledger, *states: str) -> list[Correction]:
    """The corrections that stand in one of some states, oldest first."""
    return _contents(ledger.standings("correction", states=states))


def protected_facts(ledger: Ledger) -> list[Correction]:
    """The facts that must stay as they are, oldest first."""
    return _contents(ledger.standings("protected", states=["protected"]))


def _contents(standings: Sequence[Standing]) -> list[Correction]:
    return [Correction.model_validate(standing.content["correction"]) for standing in standings]


def events_for(corrections: Sequence[Correction], kind: str, *, actor: str, reason: str = "") -> list[Event]:
    """The same event for each of some corrections."""
    return [Event(entity="correction", key=c.id, kind=kind, actor=actor, reason=reason) for c in corrections]


def _expired(correction: Correction) -> Event:
    reason = f"expired on {correction.expires:%Y-%m-%d}, before it was released"
    return Event(entity="correction", key=correction.id, kind="cancelled", actor=ACTOR, reason=reason)


@task(name="collect", **WHILE_AWAY)
def collect_task() -> Batch:
    """Choose the facts of the next candidate."""
    settings = Settings()
    return collect(Ledger(settings.database_url), now=datetime.now(UTC), limit=settings.refresh_limit)
