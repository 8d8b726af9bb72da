"""What a candidate changes is what somebody signed for, by the events alone; attacks on promotion: test_receipts.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from editors.digests import digest_of
from governance.acts import ACT
from governance.changes import (
    check_changes,
    check_editing,
    check_entered_once,
    content_digest,
    submissions_of,
)
from governance.envelopes import claimed, new_key, public_key, sign, statement
from governance.errors import ForgedError, UnaskedError
from governance.identities import Identity

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


def test_an_act_of_earlier_is_not_named_again_nor_one_that_was_used_late(past):
    past.retried(editing={"steps": 60})
    first = past.rows[-1]["data"]["act"]
    past.retried(editing={})
    past.add("correction", "moon", "queued", act=first)
    assert not refused(past, None) and refused(past, {"steps": 60})
    past.retried(editing={"steps": 80})
    for row in past.rows[-2:]:
        row["at"] += timedelta(days=1)
    assert not refused(past, None) and refused(past, {"steps": 80})


@pytest.mark.parametrize("other", [{"editing": {"steps": 200}}, {"target": "stone"}])
def test_a_fact_that_stays_says_what_it_said_and_is_edited_as_it_was(other):
    manifest = {"new": [], "returning": [], "leaving": [], "facts": [{"id": "moon"}]}
    check_changes(manifest, before={"moon": FACT}, after={"moon": FACT})
    with pytest.raises(UnaskedError, match="with the changes that it names: moon"):
        check_changes(manifest, before={"moon": FACT}, after={"moon": FACT | other})


def test_what_is_kept_of_a_signature_is_the_one_that_was_used():
    told = Told()
    about = {"moon.jsonl": "a" * 64}
    predicate = {"act": "submit", "by": "ada", "at": NOON.isoformat(), "reason": "", "options": {}}
    envelope, beside = (sign(statement(ACT, subject=about, predicate=predicate), key) for key in (KEY, new_key()))
    told.add("act", digest_of(claimed(envelope)), "used", envelope=envelope)
    data = {"submission": "b" * 64, "sha256": "a" * 64, "file": "moon.jsonl", "line": 1}
    told.add("correction", "moon", "submitted", **data)
    told.rows[-1] |= {"actor": "ada", "at": told.rows[0]["at"]}
    (good,) = submissions_of(["moon"], past=told, envelope_of=lambda sha256: envelope)
    check_entered_once(good, told)
    other = envelope | {"signatures": [*envelope["signatures"], *beside["signatures"]]}
    (odd,) = submissions_of(["moon"], past=told, envelope_of=lambda sha256: other)
    with pytest.raises(ForgedError, match=r"moon\.jsonl: what is kept as its signature by ada is not the one"):
        check_entered_once(odd, told)


def test_a_signature_for_another_text_changes_nothing(past):
    past.retried(editing={"steps": 60})
    other = FACT | {"target": "stone", "editing": {"steps": 60}}
    with pytest.raises(UnaskedError, match="signed for was nothing else"):
        check_editing("moon", other, past=past)
