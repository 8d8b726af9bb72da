"""Who was enrolled, took part and decided follows from events alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from editors.digests import digest_of
from governance.acts import ACT
from governance.envelopes import claimed, digest_of_envelope, fingerprint, new_key, public_key, sign, statement
from governance.events import GENESIS
from governance.history import History, last_opening, receipts_since, who_took_part
from governance.identities import Identity, certify
from governance.lifecycle import flaw_of_transition

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROOT = new_key()
FINGERPRINT = fingerprint(public_key(ROOT))


def event(seq: int, entity: str, key: str, kind: str, **data) -> dict:
    """An event of the minute that its number says."""
    at = NOON + timedelta(minutes=seq)
    row = {"seq": seq, "at": at, "entity": entity, "key": key, "kind": kind, "actor": "ada", "reason": ""}
    return row | {"data": data, "previous": GENESIS, "digest": GENESIS}


KEYS = {name: new_key() for name in ("ada", "barbara", "grace", "henry", "eve", "mallory")}


def identity(name: str, *, minute: int, roles=("reviewer",), key=None) -> Identity:
    at, own = (NOON + timedelta(minutes=minute)).isoformat(), public_key(key or new_key())
    return Identity(name=name, kind="person", roles=roles, public_key=own, enrolled_by="ada", at=at)


def certificate(name: str, *, minute: int, root=ROOT, **more) -> dict:
    return certify(identity(name, minute=minute, **more), root)


def act_about(seq: int, name: str, *, by: str, verb: str = "revoke person", key=None) -> dict:
    """The event by which somebody's act about another one's key is used up."""
    at = NOON + timedelta(minutes=seq)
    predicate = {"act": verb, "by": by, "at": at.isoformat(), "reason": "left", "options": {}}
    about = {name: fingerprint(public_key(key or KEYS[name]))}
    envelope = sign(statement(ACT, subject=about, predicate=predicate), KEYS[by])
    return event(seq, "act", digest_of(claimed(envelope)), "used", envelope=envelope)


def by_act(seq: int, used: dict) -> dict:
    """Grace is revoked by an act."""
    return event(seq, "identity", "grace", "revoked", act=used["key"])


@pytest.fixture
def people() -> list[dict]:
    """Grace is enrolled, revoked, and enrolled again by her old certificate, then by another one; Eve by none."""
    old = certificate("grace", minute=2, key=KEYS["grace"])
    revoking = act_about(4, "grace", by="ada")
    return [
        event(1, "identity", "ada", "enrolled", certificate=certificate("ada", minute=1, **ADMINISTRATOR)),
        event(2, "identity", "grace", "enrolled", certificate=old),
        event(3, "identity", "eve", "enrolled", certificate=certificate("eve", minute=3, root=new_key())),
        revoking,
        by_act(5, revoking),
        event(6, "identity", "grace", "enrolled", certificate=old),
        event(7, "identity", "grace", "enrolled", certificate=certificate("grace", minute=7, key=KEYS["grace"])),
        event(8, "identity", "mallory", "enrolled", certificate=certificate("henry", minute=8)),
        event(9, "identity", "ivan", "enrolled"),
    ]


ADMINISTRATOR = {"roles": ("administrator",), "key": KEYS["ada"]}
WITHOUT, WITH = {"ada"}, {"ada", "grace"}


def enrolled(events, *, before: int | None = None) -> set[str]:
    return set(History(events, root=FINGERPRINT).certified(before))


def test_who_is_enrolled_before_an_event_is_whom_the_root_certified_and_nobody_revoked(people):
    history = History(people, root=FINGERPRINT)
    told = [set(history.certified(number)) for number in range(1, 11)]
    assert told == [set(), WITHOUT, WITH, WITH, WITH, WITHOUT, WITHOUT, WITH, WITH, WITH]
    assert history.certified()["grace"][1] == people[6]["data"]["certificate"]
    assert history.without_effect() == [3, 6, 8, 9]
    assert history.certified_after(6) == {digest_of_envelope(people[n]["data"]["certificate"]) for n in (6, 7)}


def test_before_an_event_counts_what_comes_before_it_whatever_its_time(people):
    late = [row | {"at": NOON + timedelta(minutes=6)} for row in people]
    assert [enrolled(late, before=number) for number in (4, 5, 6, 8)] == [WITH, WITH, WITHOUT, WITH]


def test_an_enrolment_by_no_certificate_or_another_ones_takes_nobody_out(people):
    knocked = [
        event(10, "identity", "grace", "enrolled"),
        event(11, "identity", "grace", "enrolled", certificate=certificate("henry", minute=11)),
        event(12, "identity", "grace", "enrolled", certificate=certificate("grace", minute=12, root=new_key())),
    ]
    assert enrolled(people + knocked) == WITH
    revoking = act_about(13, "grace", by="ada")
    assert enrolled([*people, *knocked, revoking, by_act(14, revoking)]) == WITHOUT


def test_who_revokes_somebody_is_an_administrator_who_signed_for_that_since_they_were_enrolled(people):
    barbara = event(
        10, "identity", "barbara", "enrolled", certificate=certificate("barbara", minute=10, key=KEYS["barbara"])
    )
    refused = {
        "by no act": event(12, "identity", "grace", "revoked"),
        "by an act that nobody knows": by_act(12, act_about(11, "grace", by="ada")),
        "by the act that revoked them before": by_act(12, people[3]),
    }
    for why, revoked in refused.items():
        assert enrolled([*people, barbara, revoked]) == {*WITH, "barbara"}, why
    acts = {
        "of a reviewer": act_about(11, "grace", by="barbara"),
        "about somebody else": act_about(11, "eve", by="ada"),
        "about another key": act_about(11, "grace", by="ada", key=new_key()),
        "of another kind": act_about(11, "grace", by="ada", verb="enrol"),
        "from behind": act_about(13, "grace", by="ada"),
    }
    for why, used in acts.items():
        assert enrolled([*people, barbara, used, by_act(12, used)]) == {*WITH, "barbara"}, why
    used = act_about(11, "grace", by="ada")
    late = by_act(12, used) | {"at": used["at"] + timedelta(days=1)}
    for revoked in (by_act(12, used), late):
        assert enrolled([*people, barbara, used, revoked]) == {*WITHOUT, "barbara"}, "whatever the clocks say"


def test_a_certificate_enrols_its_owner_once_whatever_its_time(people):
    ahead = certificate("eve", minute=10_000, key=KEYS["eve"])
    revoking = act_about(12, "eve", by="ada")
    rows = [
        *people,
        event(11, "identity", "eve", "enrolled", certificate=ahead),
        revoking,
        event(13, "identity", "eve", "revoked", act=revoking["key"]),
        event(14, "identity", "eve", "enrolled", certificate=ahead),
    ]
    assert [enrolled(rows, before=number) for number in (12, 14, 15)] == [{*WITH, "eve"}, WITH, WITH]


def test_a_revocation_that_counts_for_nothing_is_no_obstacle_to_one_that_counts(people):
    revoking = act_about(11, "grace", by="ada")
    assert enrolled([*people, event(10, "identity", "grace", "revoked"), revoking, by_act(12, revoking)]) == WITHOUT
    assert not flaw_of_transition("identity", "grace", state="revoked", kind="revoked")


def test_all_certificates_of_the_root_are_told_whoever_was_revoked(people):
    assert len(History(people, root=FINGERPRINT).certificates()) == 4, "Ada's, of Grace two, and Henry's"


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
    assert last_opening(opened, before=1) is None
    assert last_opening(opened, before=3) == opened[0]
    last = last_opening(opened)
    assert last == opened[1]
    assert receipts_since(last, given) == envelopes[1:]
    assert receipts_since(last, given, before=7) == [envelopes[1]]
    at_once = [each | {"at": NOON} for each in given]
    assert receipts_since(last | {"at": NOON}, at_once, before=7) == [envelopes[1]], "whatever their times"


def test_whoever_submitted_requested_or_withdrew_took_part():
    submitted = event(1, "correction", "moon", "submitted", correction={"requester": "Country Desk"})
    queued = event(2, "correction", "moon", "queued") | {"actor": "corrigenda"}
    changed = event(3, "correction", "moon", "queued", correction={"requester": None}) | {"actor": "henry"}
    histories = {"moon": [submitted, queued, changed], "mars": []}
    manifest = {"new": ["moon"], "returning": [], "leaving": [{"id": "mars", "asked_by": "Ivan"}], "asked_by": ""}
    assert who_took_part(manifest, histories.__getitem__) == {"ada", "countrydesk", "henry", "ivan"}
    early = who_took_part(manifest, histories.__getitem__, before=3)
    assert early == {"ada", "countrydesk", "ivan"}
