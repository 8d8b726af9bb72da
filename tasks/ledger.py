"""The ledger: the append-only, hash-chained history of everything, and the one source of truth.

An event says that something (a correction, a candidate, a refresh) entered a state, when, by whom and why. The state of
a thing is the kind of its newest event; nothing is ever updated, and the database refuses to. Each event carries the
digest of the one before it. The chain of releases is a table of its own, whose unique parent makes promotion a
compare-and-swap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError

from governance.events import Head
from governance.lifecycle import TRANSITIONS, Entity, Event, flaw_of_transition, in_utc
from tasks.chain import links, verify
from tasks.errors import (
    BusyError,
    ClockError,
    IllegalTransitionError,
    LedgerError,
    RightsError,
    StaleParentError,
    UnknownKeyError,
    UnreachableError,
)
from tasks.tables import Release, Standing, end_of, events, releases, releases_in, standings_in

APPEND_LOCK = 0x0C0441
REFRESH_LOCK = 0x0C0442
CONNECT_SECONDS = 10
NAMED = 5
LISTS: Mapping[Entity, str] = {
    "correction": "corrections",
    "candidate": "review",
    "refresh": "corrections",
    "protected": "protected",
    "identity": "people list",
    "act": "corrections",
    "receipt": "review",
    "answer": "review",
    "code": "review",
    "notice": "notices",
}
"""The commands that list things of each kind."""
REFUSED = "42501"
"""PostgreSQL's code for a right that a role has not."""
NO_LINK = "23514"
"""Its code for a row that a rule of the table refuses; see migration 0003."""
SKEW = timedelta(minutes=5)
"""By how much the database's clock may go back."""


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

    def standings(
        self,
        entity: Entity,
        *,
        states: Sequence[str] = (),
        keys: Sequence[str] = (),
        as_of: datetime | None = None,
    ) -> list[Standing]:
        """Where each thing of one kind stands, oldest first.

        Args:
            entity: what kind.
            states: only those that stand in one of these.
            keys: only these.
            as_of: where they stood then.
        """
        with self._begin() as connection:
            found = standings_in(connection, entity, keys=keys, as_of=as_of)
        return [standing for standing in found if not states or standing.state in states]

    def standing(self, entity: Entity, key: str) -> Standing:
        """Where one thing stands.

        Raises:
            UnknownKeyError: the ledger has never heard of it.
        """
        found = self.standings(entity, keys=[key])
        if not found:
            raise UnknownKeyError(f"the ledger knows no {entity} {key!r}; list them with 'corrigenda {LISTS[entity]}'")
        return found[0]

    def history(self, entity: Entity, key: str) -> list[dict[str, Any]]:
        """Every event of one thing, oldest first."""
        query = sa.select(events).where(events.c.entity == entity, events.c.key == key).order_by(events.c.seq)
        with self._begin() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def histories(self, entity: Entity, beginning: str) -> list[dict[str, Any]]:
        """Every event of the things of one kind whose keys begin so, oldest first."""
        mine = sa.and_(events.c.entity == entity, events.c.key.startswith(beginning, autoescape=True))
        with self._begin() as connection:
            found = connection.execute(sa.select(events).where(mine).order_by(events.c.seq))
            return [dict(row) for row in found.mappings()]

    def events_since(self, moment: datetime, *, kinds: Mapping[Entity, Sequence[str]]) -> list[dict[str, Any]]:
        """Every event of some kinds since a time, oldest first.

        Args:
            moment: the time.
            kinds: those that are wanted of each kind of thing.
        """
        wanted = [sa.and_(events.c.entity == entity, events.c.kind.in_(of)) for entity, of in kinds.items()]
        query = sa.select(events).where(events.c.at >= moment, sa.or_(*wanted)).order_by(events.c.seq)
        with self._begin() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every event as the database holds it, oldest first, all as of one moment."""
        with self._begin() as connection:
            rows = connection.execution_options(yield_per=1000).execute(sa.select(events).order_by(events.c.seq))
            yield from (dict(row) for row in rows.mappings())

    def verify(self, records: Iterable[Mapping[str, Any]] = ()) -> Head:
        """Return where the chain ends, if all of it is as it was written.

        Args:
            records: releases as the object store holds them, which show a tail that was cut.

        Raises:
            BrokenChainError: it is not; the first broken link is named.
        """
        before = list(records)  # what is released meanwhile is then in the ledger, and not the other way round
        with self._begin() as connection:
            connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            released = connection.execute(sa.select(releases).order_by(releases.c.position)).mappings().all()
            rows = connection.execution_options(yield_per=1000).execute(sa.select(events).order_by(events.c.seq))
            return verify(map(dict, rows.mappings()), released=map(dict, released), records=before)

    def head(self, *, as_of: datetime | None = None) -> Release | None:
        """The newest release, or that of a day; None while the base is what is in production."""
        with self._begin() as connection:
            return next(iter(releases_in(connection, as_of=as_of, newest=True)), None)

    def release_of(self, candidate: str) -> Release | None:
        """The release that a candidate became, if it did."""
        with self._begin() as connection:
            return next(iter(releases_in(connection, candidate=candidate)), None)

    def release_at(self, position: int) -> Release:
        """The release at a place in the chain.

        Raises:
            UnknownKeyError: there is none.
        """
        with self._begin() as connection:
            found = releases_in(connection, position=position)
        if not found:
            raise UnknownKeyError(f"there is no release {position}; list them with 'corrigenda releases'")
        return found[0]

    def releases(self) -> list[Release]:
        """Every release, oldest first."""
        with self._begin() as connection:
            return releases_in(connection)

    def release(
        self,
        candidate: str,
        *,
        parent: str,
        new: Sequence[Event],
        check: Callable[[datetime], object] | None = None,
    ) -> Release:
        """Make a candidate the next release, if its parent is still the newest one; this is the commit.

        Args:
            candidate: its digest.
            parent: digest of the release that it was evaluated against; of the base for the first one.
            new: the events that go with it, the first of them the approval; all or nothing.
            check: called once nobody else can append, with the time that the events will bear; raises to refuse.

        Raises:
            StaleParentError: production has moved; nothing is recorded.
        """
        with self._begin() as connection:
            _lock(connection)
            head = next(iter(releases_in(connection, newest=True)), None)
            if head and head.candidate != parent:
                raise StaleParentError(
                    f"candidate {candidate[:12]} was evaluated against {parent[:12]}, but release {head.position} "
                    f"({head.candidate[:12]}) is in production now; run 'corrigenda refresh --replace'"
                )
            at = _now(connection, end_of(connection))
            if check:
                check(at)
            first = _append(connection, new, at=at)
            position = head.position + 1 if head else 1
            row = {"position": position, "candidate": candidate, "parent": parent, "event": first}
            connection.execute(releases.insert(), row)
            (release,) = releases_in(connection, position=position)
        return release

    def find(self, beginning: str) -> Sequence[tuple[Entity, str]]:
        """The things that are called so, each with its kind; or the one whose key begins so, with its receipts.

        Raises:
            UnknownKeyError: nothing is, or the keys of several begin so.
        """
        query = (
            sa.select(events.c.entity, events.c.key)
            .where(events.c.key.startswith(beginning, autoescape=True))
            .distinct()
            .order_by(events.c.key)
        )
        with self._begin() as connection:
            found: list[tuple[Entity, str]] = [(row.entity, row.key) for row in connection.execute(query)]
        if exact := [each for each in found if each[1] == beginning]:
            return exact
        if not found:
            raise UnknownKeyError(f"the ledger knows nothing called {beginning!r}; see 'corrigenda corrections'")
        whole = found[0][1]
        if any(key != whole and not key.startswith(f"{whole}:") for _, key in found):
            names = ", ".join(f"{entity} {key}" for entity, key in found[:NAMED])
            raise UnknownKeyError(f"{beginning!r} is the beginning of {len(found)} keys: {names}; write more of it")
        return found

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
    """Say in plain words that the database is away, or that it refuses our role."""
    try:
        yield
    except ProgrammingError as error:
        if getattr(error.orig, "pgcode", "") != REFUSED:
            raise
        raise RightsError(
            f"the ledger's database refuses {engine.url.username}: {_said(error)}; "
            "nothing was recorded. Act with the credentials of the role whose work it is"
        ) from error
    except IntegrityError as error:
        if getattr(error.orig, "pgcode", "") != NO_LINK:
            raise
        raise LedgerError(
            f"the ledger's database takes no such event: {_said(error)}; nothing was recorded. Run the command again"
        ) from error
    except OperationalError as error:
        raise UnreachableError(
            f"the ledger's database {engine.url.render_as_string(hide_password=True)} doesn't answer: "
            f"{_said(error)}; see 'corrigenda status', then run the command again"
        ) from error


def _said(error: DBAPIError) -> str:
    """What the database said, in its first line."""
    return str(error.orig).strip().splitlines()[0]


def _lock(connection: sa.Connection) -> None:
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": APPEND_LOCK})


def _append(connection: sa.Connection, new: Sequence[Event], *, at: datetime | None = None) -> int:
    """Chain the events on and insert them, of now or a time told under the lock; returns the first one's number."""
    _lock(connection)
    head = end_of(connection)
    _check_transitions(connection, new)
    if rows := links(new, head=head, at=at or _now(connection, head)):
        connection.execute(events.insert(), rows)
    return head.sequence + 1


def _now(connection: sa.Connection, head: Head) -> datetime:
    """The time that the next event bears, once the lock is held: no earlier than the newest one's.

    Raises:
        ClockError: the clock went back.
    """
    now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()  # one clock for all writers
    if head.at - now > SKEW:
        raise ClockError(
            f"the database's clock says {in_utc(now)}, and the ledger's newest event is of {in_utc(head.at)}; set the "
            "clock of the database's machine right, then run the command again. Nothing was recorded"
        )
    return max(now, head.at)


def _check_transitions(connection: sa.Connection, new: Sequence[Event]) -> None:
    states: dict[tuple[str, str], str | None] = {}
    for entity in TRANSITIONS:
        keys = [event.key for event in new if event.entity == entity]
        states.update({(entity, s.key): s.state for s in standings_in(connection, entity, keys=keys)} if keys else {})
    for event in new:
        thing = event.entity, event.key
        if flaw := flaw_of_transition(*thing, state=states.get(thing), kind=event.kind):
            raise IllegalTransitionError(flaw)
        states[thing] = event.kind
