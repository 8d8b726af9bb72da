"""The chain, held by the database, and what a requester may do to a correction.

Whoever may append can append one link and no other: the next number, the digest of the event before it, and the time at
which it is written. The digest of the event itself is not computed here; `corrigenda ledger verify` checks it. A
requester queues again what was set aside, and cancels what waits: what is only submitted goes through an intake first.

Writers need no lock for this. Of two that see the same end of the chain, the second one finds its number taken.

Revision ID: 0003
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

GENESIS = "0" * 64
AHEAD = "5 minutes"
"""By how much an event may be ahead of the clock; by more, nobody could append behind it."""
BEHIND = "15 minutes"
"""By how much it may be behind: as long as whoever holds the append lock may check receipts before the insert."""

ACTS: Mapping[str, Sequence[str]] = {
    "corrigenda_editor": ("used", "in candidate"),
    "corrigenda_requester": ("used",),
}
REQUESTER: Mapping[str, Sequence[str]] = {
    "protected": ("protected", "lifted"),
    "identity": ("enrolled", "revoked"),
    "receipt": ("approve", "strike", "reject"),
    "notice": ("due", "sent", "failed"),
}
OF_CORRECTIONS: Mapping[str, Sequence[str]] = {
    "queued": ("quarantined", "held", "superseded"),
    "cancelled": ("submitted", "queued", "quarantined"),
}
"""What a requester appends of a correction, and from which states."""


def upgrade() -> None:
    """Hold the chain, let both roles use acts, and narrow what a requester does to corrections."""
    # Tables are named with their schema: a temporary one of the same name would be found before them.
    events = f'"{op.get_bind().scalar(sa.text("SELECT current_schema()"))}".events'
    op.execute(_link_function(events))
    op.execute("CREATE TRIGGER one_chain BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION check_link()")
    op.execute(_state_function(events))
    for role, kinds in ACTS.items():
        allowed = f"entity = 'act' AND kind IN ({_quoted(kinds)})"
        op.execute(f"CREATE POLICY {role}_uses_acts ON events FOR INSERT TO {role} WITH CHECK ({allowed})")
    others = [f"entity = '{entity}' AND kind IN ({_quoted(kinds)})" for entity, kinds in REQUESTER.items()]
    corrections = [
        f"entity = 'correction' AND kind = '{kind}' AND correction_state(key) IN ({_quoted(states)})"
        for kind, states in OF_CORRECTIONS.items()
    ]
    allowed = " OR ".join([*others, *corrections])
    op.execute(f"ALTER POLICY corrigenda_requester_appends ON events WITH CHECK ({allowed})")


def _link_function(events: str) -> str:
    """The trigger's function: whether a row is the next link."""
    return f"""
        CREATE FUNCTION check_link() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE last record; clock timestamptz := clock_timestamp();
        BEGIN
            SELECT coalesce(max(seq), 0) AS seq, coalesce(max(digest), '{GENESIS}') AS digest, max(at) AS at INTO last
                FROM (SELECT seq, digest, at FROM {events} ORDER BY seq DESC LIMIT 1) AS newest;
            IF NEW.seq <> last.seq + 1 OR NEW.previous <> last.digest THEN
                RAISE EXCEPTION 'event % is no link behind event %', NEW.seq, last.seq USING ERRCODE = '23514';
            ELSIF NEW.at < last.at THEN
                RAISE EXCEPTION 'event % is of %, before event %, which is of %', NEW.seq, NEW.at, last.seq, last.at
                    USING ERRCODE = '23514';
            ELSIF NEW.at < clock - interval '{BEHIND}' OR NEW.at > greatest(clock + interval '{AHEAD}', last.at) THEN
                RAISE EXCEPTION 'event % is of %, and it is % now', NEW.seq, NEW.at, clock USING ERRCODE = '23514';
            END IF;
            RETURN NEW;
        END $$"""  # noqa: S608


def _state_function(events: str) -> str:
    """Where a correction stands; volatile, so that it sees the rows that the same statement has inserted."""
    newest = "WHERE entity = 'correction' AND key = wanted ORDER BY seq DESC LIMIT 1"
    return f"""
        CREATE FUNCTION correction_state(wanted text) RETURNS text LANGUAGE sql VOLATILE AS $$
            SELECT kind FROM {events} {newest}
        $$"""  # noqa: S608


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)
