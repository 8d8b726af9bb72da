"""The data of an event is a JSON object, so that whoever reads it can ask for its fields.

Revision ID: 0004
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Refuse an event whose data is anything else."""
    op.create_check_constraint("data_is_an_object", "events", "jsonb_typeof(data) = 'object'")
