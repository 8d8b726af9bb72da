"""The ledger's tables, and what one question to them answers; nothing here writes."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, distinct_on

from governance.events import EMPTY, Head
from governance.lifecycle import CONTENT_KINDS, Entity

metadata = sa.MetaData()
events = sa.Table(
    "events",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.DateTime(timezone=True)),
    sa.Column("entity", sa.Text),
    sa.Column("key", sa.Text),
    sa.Column("kind", sa.Text),
    sa.Column("actor", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("data", JSONB),
    sa.Column("previous", sa.CHAR(64)),
    sa.Column("digest", sa.CHAR(64)),
)
releases = sa.Table(
    "releases",
    metadata,
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("candidate", sa.Text),
    sa.Column("parent", sa.Text),
    sa.Column("event", sa.BigInteger),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where something stands: its newest event, and the content that it was last submitted or opened with."""

    key: str
    state: str
    actor: str
    reason: str
    at: datetime
    data: Mapping[str, Any]
    content: Mapping[str, Any]

    @property
    def fact(self) -> str:
        """What a correction or a protected fact says, on one line; hardly anything of what could not be read."""
        correction = self.content.get("correction", {})
        prompt = str(correction.get("prompt", "")).replace("{}", str(correction.get("subject", "")))
        return f"{prompt} → {correction.get('target', '')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One link of the chain: position n, the candidate that became it, the one it replaced, and its approval."""

    position: int
    candidate: str
    parent: str
    event: int
    at: datetime
    reviewer: str
    comment: str


def end_of(connection: sa.Connection) -> Head:
    """Where the chain ends."""
    query = sa.select(events.c.seq, events.c.digest, events.c.at).order_by(events.c.seq.desc()).limit(1)
    last = connection.execute(query).first()
    return Head(sequence=last.seq, digest=last.digest, at=last.at) if last else EMPTY


def standings_in(
    connection: sa.Connection, entity: Entity, *, keys: Sequence[str] = (), as_of: datetime | None = None
) -> list[Standing]:
    """Where each thing of one kind stands, oldest first: of all, or of some keys, now or at a time."""
    mine = sa.select(events).where(events.c.entity == entity)
    if as_of:
        mine = mine.where(events.c.at <= as_of)
    if keys:
        mine = mine.where(events.c.key == sa.any_(sa.cast(list(keys), sa.ARRAY(sa.Text))))
    newest = mine.ext(distinct_on(events.c.key)).order_by(events.c.key, events.c.seq.desc()).subquery()
    opening = mine.where(sa.or_(events.c.kind.in_(CONTENT_KINDS), events.c.data.has_key("correction")))
    content = opening.ext(distinct_on(events.c.key)).order_by(events.c.key, events.c.seq.desc()).subquery()
    query = (
        sa.select(newest, content.c.data.label("content"))
        .outerjoin(content, newest.c.key == content.c.key)
        .order_by(sa.func.coalesce(content.c.seq, newest.c.seq))
    )
    with _uncollected():
        return [
            Standing(
                key=row.key,
                state=row.kind,
                actor=row.actor,
                reason=row.reason,
                at=row.at,
                data=row.data,
                content=row.content or {},
            )
            for row in connection.execute(query)
        ]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Hold the garbage collector off while many rows are read: it would look through all of them again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def releases_in(
    connection: sa.Connection,
    *,
    position: int | None = None,
    candidate: str | None = None,
    as_of: datetime | None = None,
    newest: bool = False,
) -> list[Release]:
    """The releases, oldest first.

    Args:
        connection: in a transaction.
        position: only the one at this place.
        candidate: only the one that this became.
        as_of: only those that were approved by then.
        newest: only the newest one of them.
    """
    query = sa.select(releases, events.c.at, events.c.actor, events.c.reason).join(
        events, events.c.seq == releases.c.event
    )
    if position is not None:
        query = query.where(releases.c.position == position)
    if candidate is not None:
        query = query.where(releases.c.candidate == candidate)
    if as_of is not None:
        query = query.where(events.c.at <= as_of)
    query = query.order_by(releases.c.position.desc()).limit(1) if newest else query.order_by(releases.c.position)
    return [
        Release(
            position=row.position,
            candidate=row.candidate,
            parent=row.parent,
            event=row.event,
            at=row.at,
            reviewer=row.actor,
            comment=row.reason,
        )
        for row in connection.execute(query)
    ]
