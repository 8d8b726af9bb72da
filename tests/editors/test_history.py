"""Who was enrolled, took part and decided follows from events alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from editors.envelopes import fingerprint, new_key, public_key, sign, statement
from editors.events import GENESIS
from editors.history import History, certified_by, last_opening, receipts_since, who_took_part
from editors.identities import Identity, certify

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROOT = new_key()
FINGERPRINT = fingerprint(public_key(ROOT))


def event(seq: int, entity: str, key: str, kind: str, **data) -> dict:
    """An event of the minute that its number says."""
    at = NOON + timedelta(minutes=seq)
    row = {"seq": seq, "at": at, "entity": entity, "key": key, "kind": kind, "actor": "ada", "reason": ""}
    return row | {"data": data, "previous": GENESIS, "digest": GENESIS}


def certificate(name: str, *, minute: int, root=ROOT) -> dict:
    at = (NOON + timedelta(minutes=minute)).isoformat()
    own = public_key(new_key())
    person = Identity(name=name, kind="person", roles=("reviewer",), public_key=own, enrolled_by="ada", at=at)
    return certify(person, root)


@pytest.fixture
def people() -> list[dict]:
    """Grace is enrolled, revoked, and enrolled again by her old certificate, then by another one; Eve by none."""
    old = certificate("grace", minute=1)
    return [
        event(1, "identity", "grace", "enrolled", certificate=old),
        event(2, "identity", "eve", "enrolled", certificate=certificate("eve", minute=2, root=new_key())),
        event(3, "identity", "grace", "revoked"),
        event(4, "identity", "grace", "enrolled", certificate=old),
        event(5, "identity", "grace", "enrolled", certificate=certificate("grace", minute=5)),
        event(6, "identity", "mallory", "enrolled", certificate=certificate("henry", minute=6)),
        event(7, "identity", "ivan", "enrolled"),
    ]


def test_who_is_enrolled_at_a_time_is_whom_the_root_certified_and_nobody_revoked(people):
    then = [set(certified_by(FINGERPRINT, people, at=NOON + timedelta(minutes=minute))) for minute in range(8)]
    assert then == [set(), {"grace"}, {"grace"}, set(), set(), {"grace"}, {"grace"}, {"grace"}]
    assert certified_by(FINGERPRINT, people)["grace"][1] == people[4]["data"]["certificate"]


def test_an_enrolment_by_no_certificate_or_another_ones_takes_nobody_out(people):
    knocked = [
        event(8, "identity", "grace", "enrolled"),
        event(9, "identity", "grace", "enrolled", certificate=certificate("henry", minute=9)),
        event(10, "identity", "grace", "enrolled", certificate=certificate("grace", minute=10, root=new_key())),
    ]
    assert certified_by(FINGERPRINT, people + knocked) == certified_by(FINGERPRINT, people)
    revoked = event(11, "identity", "grace", "revoked")
    assert certified_by(FINGERPRINT, [*people, *knocked, revoked]) == {}


def test_before_an_event_counts_what_comes_before_it_whatever_its_time(people):
    at_once = [row | {"at": NOON + timedelta(minutes=1)} for row in people[:3]]
    history = History([*at_once, event(4, "act", "a", "used")], root=FINGERPRINT)
    assert [set(history.certified(row)) for row in history.rows] == [set(), {"grace"}, {"grace"}, set()]


def test_all_certificates_of_the_root_are_told_whoever_was_revoked(people):
    assert len(History(people, root=FINGERPRINT).certificates()) == 3, "of Grace two, and Henry's"


def test_a_receipt_counts_from_the_last_opening_on_and_not_given_before(people):
    envelopes = [sign(statement("urn:x", subject={"k": str(number)}, predicate={}), ROOT) for number in range(3)]
    given = [
        event(2, "receipt", "k:grace", "approve", envelope=envelopes[0]),
        event(4, "receipt", "k:grace", "approve", envelope=envelopes[0]),
        event(5, "receipt", "k:grace", "approve", envelope=envelopes[1]),
        event(6, "receipt", "k:eve", "approve", envelope="none"),
        event(7, "receipt", "k:grace", "reject", envelope=envelopes[2]),
    ]
    opened = [event(1, "candidate", "k", "opened"), event(3, "candidate", "k", "opened")]
    assert last_opening(opened, at=NOON) is None
    assert last_opening(opened, at=NOON + timedelta(minutes=2)) == NOON + timedelta(minutes=1)
    last = last_opening(opened)
    assert last == NOON + timedelta(minutes=3)
    assert receipts_since(last, given) == envelopes[1:]
    assert receipts_since(last, given, at=NOON + timedelta(minutes=6)) == [envelopes[1]]


def test_whoever_submitted_requested_or_withdrew_took_part():
    submitted = event(1, "correction", "moon", "submitted", correction={"requester": "Country Desk"})
    queued = event(2, "correction", "moon", "queued") | {"actor": "corrigenda"}
    changed = event(3, "correction", "moon", "queued", correction={"requester": None}) | {"actor": "henry"}
    histories = {"moon": [submitted, queued, changed], "mars": []}
    manifest = {"new": ["moon"], "returning": [], "leaving": [{"id": "mars", "asked_by": "Ivan"}], "asked_by": ""}
    assert who_took_part(manifest, histories.__getitem__) == {"ada", "countrydesk", "henry", "ivan"}
    early = who_took_part(manifest, histories.__getitem__, at=NOON + timedelta(minutes=2))
    assert early == {"ada", "countrydesk", "ivan"}
