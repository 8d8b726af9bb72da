"""The ledger: append-only events, and the chain of releases.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create both tables, and the rule that nobody rewrites them."""
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("entity", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("data", JSONB, nullable=False),
        sa.Column("previous", sa.CHAR(64), nullable=False, unique=True),
        sa.Column("digest", sa.CHAR(64), nullable=False, unique=True),
    )
    op.create_index("events_by_key", "events", ["entity", "key", "seq"])
    op.create_table(
        "releases",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("candidate", sa.Text, nullable=False, unique=True),
        sa.Column("parent", sa.Text, nullable=False, unique=True),
        sa.Column("event", sa.BigInteger, sa.ForeignKey("events.seq"), nullable=False),
    )
    op.execute(
        "CREATE FUNCTION refuse_rewriting() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN RAISE EXCEPTION 'the ledger is append-only: % on % is refused', TG_OP, TG_TABLE_NAME; END $$"
    )
    for table in ("events", "releases"):
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting()"
        )
