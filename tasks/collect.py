"""Collect: which facts the next candidate shall hold.

A candidate holds all active facts and the queued ones that are due, oldest first. A queued correction that expired
while it waited is cancelled, one that contradicts what came to hold meanwhile is set aside. An active one that expired,
or that a queued one supersedes, is left out, and stays released until the candidate is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from prefect import task
from pydantic import BaseModel, ConfigDict

from governance.lifecycle import ACTOR, Event
from tasks.conflicts import find_conflicts
from tasks.corrections import Correction
from tasks.ledger import Ledger
from tasks.retries import WHILE_AWAY
from tasks.settings import Settings
from tasks.tables import Standing


class Leaving(BaseModel):
    """A released fact that a candidate leaves out.

    Attributes:
        becomes: the state that it enters once the candidate is released.
        reason: why, in the words of whoever asked.
        asked_by: who did.
    """

    model_config = ConfigDict(frozen=True)

    correction: Correction
    becomes: Literal["superseded", "revoked", "expired", "held"]
    reason: str
    asked_by: str

    def record(self) -> dict[str, Any]:
        """The leaving as a candidate's manifest names it."""
        return {"id": self.correction.id} | self.model_dump(mode="json", exclude={"correction"})


class Batch(BaseModel):
    """The facts of one candidate.

    Attributes:
        new: queued until now; what the reviewer decides on.
        earlier: released before, and still to hold.
        returning: released once, then superseded or held, and to hold again.
        leaving: released before, and left out.
        protected: facts that must stay as they are, and are asked with every candidate.
        parent: digest of the release in production; None where that is the base.
        waiting: how many more are due than one refresh takes.
        asked_by: who wants a withdrawal; nobody where corrections or their own dates ask for it.
        act: digest of what that one signed.
    """

    model_config = ConfigDict(frozen=True)

    new: tuple[Correction, ...] = ()
    earlier: tuple[Correction, ...]
    returning: tuple[Correction, ...] = ()
    leaving: tuple[Leaving, ...] = ()
    protected: tuple[Correction, ...] = ()
    parent: str | None
    waiting: int = 0
    asked_by: str = ""
    act: str = ""

    @property
    def facts(self) -> tuple[Correction, ...]:
        """All facts, in the order of their ids: history leaves no trace in the patch."""
        return tuple(sorted((*self.new, *self.earlier, *self.returning), key=lambda correction: correction.id))

    @property
    def withdrawn(self) -> tuple[Correction, ...]:
        """What the model shall no longer say: all that leaves, but for what is superseded and says something else."""
        return tuple(leaving.correction for leaving in self.leaving if leaving.becomes != "superseded")


def collect(ledger: Ledger, *, now: datetime, limit: int) -> Batch:
    """Choose the facts of the next candidate."""
    queued = corrections_in(ledger, "queued")
    ledger.append([_expired(c) for c in queued if c.expires and c.expires <= now])
    due = [c for c in queued if (not c.expires or c.expires > now) and (not c.effective or c.effective <= now)]
    overtaken = _overtaken(ledger, due)
    ledger.append(overtaken)
    due = [c for c in due if c.id not in {event.key for event in overtaken}]
    new = due[:limit]
    return batch_of(ledger, new=new, leaving=_left_behind(ledger, new, now=now), waiting=len(due) - len(new))


def batch_of(
    ledger: Ledger,
    *,
    new: Sequence[Correction] = (),
    returning: Sequence[Correction] = (),
    leaving: Sequence[Leaving] = (),
    waiting: int = 0,
    asked_by: str = "",
    act: str = "",
) -> Batch:
    """The facts of a candidate that changes what is released so."""
    gone = {each.correction.id for each in leaving}
    head = ledger.head()
    return Batch(
        new=tuple(new),
        earlier=tuple(c for c in corrections_in(ledger, "released") if c.id not in gone),
        returning=tuple(returning),
        leaving=tuple(leaving),
        protected=tuple(protected_facts(ledger)),
        parent=head.candidate if head else None,
        waiting=waiting,
        asked_by=asked_by,
        act=act,
    )


def remaining(batch: Batch, aside: Collection[str], *, now: datetime) -> Batch:
    """A batch without some of its new facts; what one of them would have superseded stays in it until its time ends."""
    out = {c.supersedes for c in batch.new if c.id in aside}
    back = tuple(each for each in batch.leaving if each.becomes == "superseded" and each.correction.id in out)
    ended = expiring((each.correction for each in back), now=now)
    over = {each.correction.id for each in ended}
    return batch.model_copy(
        update={
            "new": tuple(c for c in batch.new if c.id not in aside),
            "earlier": (*batch.earlier, *(each.correction for each in back if each.correction.id not in over)),
            "leaving": (*(each for each in batch.leaving if each not in back), *ended),
        }
    )


def expiring(released: Iterable[Correction], *, now: datetime) -> list[Leaving]:
    """The released facts that no longer hold."""
    return [
        Leaving(correction=c, becomes="expired", reason=f"held until {c.expires:%Y-%m-%d}", asked_by=ACTOR)
        for c in released
        if c.expires and c.expires <= now
    ]


def corrections_in(ledger: Ledger, *states: str) -> list[Correction]:
    """The corrections that stand in one of some states, oldest first."""
    return contents(ledger.standings("correction", states=states))


def corrections_by_state(ledger: Ledger, *states: str) -> dict[str, list[Correction]]:
    """The corrections that stand in each of some states, oldest first, by one look at the ledger."""
    found = ledger.standings("correction", states=states)
    return {state: contents([standing for standing in found if standing.state == state]) for state in states}


def protected_facts(ledger: Ledger) -> list[Correction]:
    """The facts that must stay as they are, oldest first."""
    return contents(ledger.standings("protected", states=["protected"]))


def contents(standings: Sequence[Standing]) -> list[Correction]:
    """The facts that stand so."""
    return [Correction.model_validate(standing.content["correction"]) for standing in standings]


def events_for(
    ids: Iterable[str], kind: str, *, actor: str, reason: str = "", data: Mapping[str, Any] | None = None
) -> list[Event]:
    """The same event for each of some corrections."""
    return [Event(entity="correction", key=key, kind=kind, actor=actor, reason=reason, data=data or {}) for key in ids]


def _overtaken(ledger: Ledger, due: Sequence[Correction]) -> list[Event]:
    """What contradicts a fact that holds or is queued now, and did not when it was queued, is set aside.

    A rollback brings facts back, and a retry queues them again.
    """
    found = find_conflicts(due, corrections_in(ledger, "released"), protected_facts(ledger))
    others = {c.id: one.with_standing or one.contradicts or one.disagrees for c, one in zip(due, found, strict=True)}
    return [
        Event(
            entity="correction",
            key=key,
            kind="quarantined",
            actor=ACTOR,
            reason=f"contradicts {named}; cancel it, or submit it anew with 'supersedes'",
        )
        for key, named in others.items()
        if named
    ]


def _left_behind(ledger: Ledger, new: Sequence[Correction], *, now: datetime) -> list[Leaving]:
    """The released facts that some queued ones supersede, or that no longer hold."""
    superseders = {c.supersedes: c.id for c in new if c.supersedes}
    released = corrections_in(ledger, "released")
    superseded = [
        Leaving(correction=c, becomes="superseded", reason=f"superseded by {superseders[c.id]}", asked_by=ACTOR)
        for c in released
        if c.id in superseders
    ]
    return superseded + expiring((c for c in released if c.id not in superseders), now=now)


def _expired(correction: Correction) -> Event:
    reason = f"expired on {correction.expires:%Y-%m-%d}, before it was released"
    return Event(entity="correction", key=correction.id, kind="cancelled", actor=ACTOR, reason=reason)


@task(name="collect", **WHILE_AWAY)
def collect_task() -> Batch:
    """Choose the facts of the next candidate."""
    settings = Settings()
    return collect(Ledger(settings.database_url), now=datetime.now(UTC), limit=settings.refresh_limit)
