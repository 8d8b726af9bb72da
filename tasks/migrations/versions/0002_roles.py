"""Roles: who may do what in the ledger.

Everybody named here reads. The editor and the requester append the kinds of events that their work needs, and only the
promoter those by which a fact enters a release or leaves it, with the release's row. Nobody but the owner rewrites
anything, and the owner's own triggers refuse it. A role is made without a login where it doesn't exist: give it one, or
grant it to the roles that log in.

Revision ID: 0002
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alembic import op

revision = "0002"
down_revision = "0001"

NOTICES = ("due", "sent", "failed")
WRITES: Mapping[str, Mapping[str, Sequence[str]] | None] = {
    "corrigenda_editor": {
        "correction": (
            "submitted",
            "refused",
            "queued",
            "cancelled",
            "in candidate",
            "quarantined",
            "revoked",  # of what is only held or superseded
            "expired",  # of what is only held
        ),
        "candidate": ("opened", "replaced"),
        "refresh": ("started", "finished", "failed", "dead"),
        "notice": NOTICES,
    },
    "corrigenda_promoter": None,
    "corrigenda_requester": {
        "correction": ("queued", "cancelled"),
        "protected": ("protected", "lifted"),
        "identity": ("enrolled", "revoked"),
        "receipt": ("approve", "strike", "reject"),
        "notice": NOTICES,
    },
}
"""Which kinds of events each role may append, by what they are about; None stands for all."""
READS = (*WRITES, "corrigenda_reader")


def upgrade() -> None:
    """Make the roles, and grant each what its work needs."""
    for role in READS:
        op.execute(
            f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role}; "
            "END IF; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        )
    op.execute(f"GRANT SELECT ON events, releases TO {', '.join(READS)}")
    op.execute(f"GRANT INSERT ON events TO {', '.join(WRITES)}")
    op.execute("GRANT INSERT ON releases TO corrigenda_promoter")
    op.execute("ALTER TABLE events ENABLE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY everybody_reads ON events FOR SELECT USING (true)")
    for role, kinds in WRITES.items():
        op.execute(f"CREATE POLICY {role}_appends ON events FOR INSERT TO {role} WITH CHECK ({_check(kinds)})")


def _check(allowed: Mapping[str, Sequence[str]] | None) -> str:
    """The condition that an event of some kinds meets."""
    if allowed is None:
        return "true"
    return " OR ".join(f"entity = '{entity}' AND kind IN {tuple(kinds)!r}" for entity, kinds in allowed.items())
