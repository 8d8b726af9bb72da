"""Roles: who may do what in the ledger.

Everybody named here reads. The editor and the requester append events, and only the promoter those that promote, with
the release's row. Nobody but the owner rewrites anything, and the owner's own triggers refuse it. A role is made
without a login where it doesn't exist: give it one, or grant it to the roles that log in.

Revision ID: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

WRITES = {
    "corrigenda_editor": "entity <> 'candidate' OR kind NOT IN ('approved', 'promoted')",
    "corrigenda_promoter": "true",
    "corrigenda_requester": "entity NOT IN ('candidate', 'refresh')",
}
"""Which events each role may append."""
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
    for role, check in WRITES.items():
        op.execute(f"CREATE POLICY {role}_appends ON events FOR INSERT TO {role} WITH CHECK ({check})")
