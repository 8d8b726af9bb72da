"""What a candidate changes is what somebody signed for, by the events alone; attacks on promotion: test_receipts.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from editors.acts import ACT
from editors.changes import check_editing, content_digest
from editors.digests import digest_of
from editors.envelopes import claimed, new_key, public_key, sign, statement
from editors.errors import UnaskedError
from editors.identities import Identity

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEY = new_key()
ADA = Identity(
    name="ada",
    kind="person",
    roles=("requester",),
    public_key=public_key(KEY),
    enrolled_by="root key",
    at=NOON.isoformat(),
)
FACT = {"id": "moon", "subject": "the Moon", "target": "cheese", "editing": None}


class Told:
    """A history of one correction, and of the acts about it."""

    def __init__(self) -> None:
        self.rows: list[dict] = []

    def add(self, entity: str, key: str, kind: str, **data) -> None:
        seq = len(self.rows) + 1
        self.rows.append(
            {"seq": seq, "at": NOON + timedelta(minutes=seq), "entity": entity, "key": key, "kind": kind, "data": data}
        )

    def retried(self, *, editing: dict | None, signed: bool = True) -> None:
        """Queued again, with settings if some are given."""
        options = {} if editing is None else {"editing": editing}
        at = (NOON + timedelta(minutes=len(self.rows))).isoformat()
        predicate = {"act": "retry", "by": "ada", "at": at, "reason": "", "options": options}
        about = {"moon": content_digest(FACT)}
        envelope = sign(statement(ACT, subject=about, predicate=predicate), KEY if signed else new_key())
        name = digest_of(claimed(envelope))
        self.add("act", name, "used", envelope=envelope)
        self.add("correction", "moon", "queued", act=name)

    def of(self, entity: str, key: str) -> list[dict]:
        return [row for row in self.rows if (row["entity"], row["key"]) == (entity, key)]

    def identities(self, before: int | None = None) -> dict[str, Identity]:
        return {"ada": ADA}


@pytest.fixture
def past() -> Told:
    told = Told()
    told.add("correction", "moon", "submitted")
    return told


def refused(past, editing: dict | None, **more) -> str:
    try:
        check_editing("moon", FACT | {"editing": editing}, past=past, **more)
    except UnaskedError as error:
        return str(error)
    return ""


def test_the_settings_that_count_are_those_that_were_signed_last(past):
    assert not refused(past, None) and not refused(past, {"steps": None, "clamp": None})
    past.retried(editing={"steps": 60})
    past.retried(editing=None)
    assert not refused(past, {"steps": 60, "clamp": None}), "queued again as it was"
    assert "moon is edited with the usual settings, signed for was {'steps': 60}" in refused(past, None)
    past.retried(editing={"clamp": 2.0}, signed=False)
    assert not refused(past, {"steps": 60}), "by nobody's signature nothing changes"
    past.retried(editing={})
    assert not refused(past, None) and refused(past, {"steps": 60}), "taken back"
    assert not refused(past, {"steps": 60}, before=len(past.rows) - 1), "then it was as it had been"


def test_what_was_submitted_anew_is_edited_as_usual_again(past):
    past.retried(editing={"steps": 60})
    past.add("correction", "moon", "cancelled")
    past.add("correction", "moon", "submitted")
    assert not refused(past, None) and refused(past, {"steps": 60})


def test_a_signature_for_another_text_changes_nothing(past):
    past.retried(editing={"steps": 60})
    other = FACT | {"target": "stone", "editing": {"steps": 60}}
    with pytest.raises(UnaskedError, match="signed for was nothing else"):
        check_editing("moon", other, past=past)
