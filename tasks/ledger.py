"""The ledger: the append-only, hash-chained history of everything, and the one source of truth.

An event says that something (a correction, a candidate, a refresh) entered a state, when, by whom and why. The state of
a thing is the kind of its newest event; nothing is ever updated, and the database refuses to. Each event carries the
digest of the one before it. The chain of releases is a table of its own, whose unique parent makes promotion a
compare-and-swap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.dialects.postgresql import JSONB, distinct_on
from sqlalchemy.exc import OperationalError

from editors.digests import digest_of
from tasks.errors import BusyError, IllegalTransitionError, StaleParentError, UnknownKeyError, UnreachableError

Entity = Literal["correction", "candidate", "refresh"]

GENESIS = "0" * 64
APPEND_LOCK = 0x0C0441
REFRESH_LOCK = 0x0C0442
CONNECT_SECONDS = 10

# From which states an event of this kind may follow; None stands for "nothing yet".
TRANSITIONS: Mapping[Entity, Mapping[str, frozenset[str | None]]] = {
    "correction": {
        "submitted": frozenset({None, "refused", "cancelled", "rejected"}),
        "refused": frozenset({None, "refused", "submitted"}),
        "queued": frozenset({"submitted", "in candidate", "quarantined"}),
        "cancelled": frozenset({"submitted", "queued", "quarantined"}),
        "in candidate": frozenset({"queued"}),
        "quarantined": frozenset({"queued"}),
        "released": frozenset({"in candidate"}),
        "rejected": frozenset({"in candidate"}),
        "superseded": frozenset({"released"}),
    },
    "candidate": {
        "opened": frozenset({None, "replaced"}),
        "approved": frozenset({"opened"}),
        "rejected": frozenset({"opened"}),
        "replaced": frozenset({"opened"}),
        "promoted": frozenset({"approved"}),
    },
    "refresh": {
        "started": frozenset({None}),
        "finished": frozenset({"started"}),
        "failed": frozenset({"started"}),
        "dead": frozenset({"started"}),
    },
}

# The events that carry a thing's content; the later ones only say what became of it.
CONTENT_KINDS = ("submitted", "opened", "started")

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
class Event:
    """Something entered a state: what, by whom, why, and the facts that go with it."""

    entity: Entity
    key: str
    kind: str
    actor: str
    reason: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One link of the chain: position n, the candidate that became it, and the one it replaced."""

    position: int
    candidate: str
    parent: str


class Ledger:
    """The ledger in one PostgreSQL database."""

    def __init__(self, url: str) -> None:
        if not url:
            raise UnreachableError(
                "no ledger: the setting database_url is empty; start the local stack with 'corrigenda up', "
                "or set CORRIGENDA_DATABASE_URL"
            )
        self._engine = sa.create_engine(
            url,
            pool_pre_ping=True,
            isolation_level="READ COMMITTED",
            connect_args={"connect_timeout": CONNECT_SECONDS},
        )

    def migrate(self) -> None:
        """Bring the database's tables to the newest revision."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self._begin() as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": APPEND_LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def append(self, new: Sequence[Event]) -> None:
        """Append events in one transaction.

        Raises:
            IllegalTransitionError: a thing isn't in a state from which the event may follow; nothing is appended.
        """
        with self._begin() as connection:
            _append(connection, new)

    def standings(self, entity: Entity, *, states: Sequence[str] = (), keys: Sequence[str] = ()) -> list[Standing]:
        """Where each thing of one kind stands, oldest first; narrowed to some states or some keys."""
        with self._begin() as connection:
            found = _standings(connection, entity, keys=keys)
        return [standing for standing in found if not states or standing.state in states]

    def standing(self, entity: Entity, key: str) -> Standing:
        """Where one thing stands.

        Raises:
            UnknownKeyError: the ledger has never heard of it.
        """
        found = self.standings(entity, keys=[key])
        if not found:
            raise UnknownKeyError(f"the ledger knows no {entity} {key!r}; list them with 'corrigenda {entity}s'")
        return found[0]

    def history(self, entity: Entity, key: str) -> list[dict[str, Any]]:
        """Every event of one thing, oldest first."""
        query = sa.select(events).where(events.c.entity == entity, events.c.key == key).order_by(events.c.seq)
        with self._begin() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def head(self) -> Release | None:
        """The newest release, or None while the base is what is in production."""
        with self._begin() as connection:
            return _head(connection)

    def release_of(self, candidate: str) -> Release | None:
        """The release that a candidate became, if it did."""
        query = sa.select(releases).where(releases.c.candidate == candidate)
        with self._begin() as connection:
            row = connection.execute(query).first()
        return Release(position=row.position, candidate=row.candidate, parent=row.parent) if row else None

    def release(self, candidate: str, *, parent: str, new: Sequence[Event]) -> Release:
        """Make a candidate the next release, if its parent is still the newest one; this is the commit.

        Args:
            candidate: its digest.
            parent: digest of the release that it was evaluated against; of the base for the first one.
            new: the events that go with it, the first of them the approval; all or nothing.

        Raises:
            StaleParentError: production has moved; nothing is recorded.
        """
        with self._begin() as connection:
            _lock(connection)
            head = _head(connection)
            if head and head.candidate != parent:
                raise StaleParentError(
                    f"candidate {candidate[:12]} was evaluated against {parent[:12]}, but release {head.position} "
                    f"({head.candidate[:12]}) is in production now; run 'corrigenda refresh --replace'"
                )
            first = _append(connection, new)
            release = Release(position=head.position + 1 if head else 1, candidate=candidate, parent=parent)
            row = {"position": release.position, "candidate": candidate, "parent": parent, "event": first}
            connection.execute(releases.insert(), row)
        return release

    @contextmanager
    def named_lock(self, name: str) -> Iterator[None]:
        """Wait for, and hold, the lock of that name; PostgreSQL gives it back when the holder dies."""
        query = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
        with self._begin() as connection:
            connection.execute(query, {"name": name})
            yield

    @contextmanager
    def refresh_lock(self) -> Iterator[None]:
        """Hold the right to refresh; PostgreSQL gives it back by itself when the holder dies.

        Raises:
            BusyError: another process holds it.
        """
        with _reachable(self._engine), self._engine.connect() as connection:
            connection.detach()  # closed for good at the end, not put back with the lock still on it
            taken = connection.execute(sa.text("SELECT pg_try_advisory_lock(:lock)"), {"lock": REFRESH_LOCK}).scalar()
            connection.commit()
            if not taken:
                raise BusyError("another refresh is at work; wait for it to end, or see it in the Prefect UI")
            yield

    @contextmanager
    def _begin(self) -> Iterator[sa.Connection]:
        with _reachable(self._engine), self._engine.begin() as connection:
            yield connection


@contextmanager
def _reachable(engine: sa.Engine) -> Iterator[None]:
    """Say in plain words that the database is away."""
    try:
        yield
    except OperationalError as error:
        raise UnreachableError(
            f"the ledger's database {engine.url.render_as_string(hide_password=True)} doesn't answer: "
            f"{str(error.orig).strip().splitlines()[0]}; see 'corrigenda status', then run the command again"
        ) from error


def _lock(connection: sa.Connection) -> None:
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": APPEND_LOCK})


def _append(connection: sa.Connection, new: Sequence[Event]) -> int:
    """Chain the events on and insert them; returns the first one's sequence number."""
    _lock(connection)
    last = connection.execute(sa.select(events.c.seq, events.c.digest).order_by(events.c.seq.desc()).limit(1)).first()
    seq, previous = (last.seq, last.digest) if last else (0, GENESIS)
    _check_transitions(connection, new)
    now = datetime.now(UTC)
    rows: list[dict[str, Any]] = []
    for offset, event in enumerate(new, start=1):
        row = _row(event, seq=seq + offset, at=now, previous=previous)
        rows.append(row)
        previous = row["digest"]
    if rows:
        connection.execute(events.insert(), rows)
    return seq + 1


def _row(event: Event, *, seq: int, at: datetime, previous: str) -> dict[str, Any]:
    row = {
        "seq": seq,
        "at": at.isoformat(),
        "entity": event.entity,
        "key": event.key,
        "kind": event.kind,
        "actor": event.actor,
        "reason": event.reason,
        "data": dict(event.data),
        "previous": previous,
    }
    return row | {"digest": digest_of(row), "at": at}


def _check_transitions(connection: sa.Connection, new: Sequence[Event]) -> None:
    states: dict[tuple[str, str], str | None] = {}
    for entity in TRANSITIONS:
        keys = [event.key for event in new if event.entity == entity]
        states.update({(entity, s.key): s.state for s in _standings(connection, entity, keys=keys)} if keys else {})
    for event in new:
        now = states.get((event.entity, event.key))
        allowed = TRANSITIONS[event.entity][event.kind]
        if now not in allowed:
            raise IllegalTransitionError(
                f"{event.entity} {event.key!r} is {now or 'unknown'}, so it can't become {event.kind!r}: "
                f"that follows only on {', '.join(sorted(state or 'nothing' for state in allowed))}"
            )
        states[event.entity, event.key] = event.kind


def _standings(connection: sa.Connection, entity: Entity, *, keys: Sequence[str]) -> list[Standing]:
    mine = sa.select(events).where(events.c.entity == entity)
    if keys:
        mine = mine.where(events.c.key == sa.any_(sa.cast(list(keys), sa.ARRAY(sa.Text))))
    newest = mine.ext(distinct_on(events.c.key)).order_by(events.c.key, events.c.seq.desc()).subquery()
    opening = mine.where(events.c.kind.in_(CONTENT_KINDS))
    content = opening.ext(distinct_on(events.c.key)).order_by(events.c.key, events.c.seq.desc()).subquery()
    query = (
        sa.select(newest, content.c.data.label("content"))
        .outerjoin(content, newest.c.key == content.c.key)
        .order_by(sa.func.coalesce(content.c.seq, newest.c.seq))
    )
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


def _head(connection: sa.Connection) -> Release | None:
    row = connection.execute(sa.select(releases).order_by(releases.c.position.desc()).limit(1)).first()
    return Release(position=row.position, candidate=row.candidate, parent=row.parent) if row else None
