"""Which receipts count; every attack runs twice, with the check that holds it off and with that check taken out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

import governance.receipts
from governance.envelopes import new_key, public_key
from governance.errors import ForgedError, ObjectionError, QuorumError
from governance.identities import Identity
from governance.receipts import Receipt, check_receipts, make, quorum_of, receipt_of

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
KEYS = {name: new_key() for name in ("grace", "henry", "ada", "promoter", "eve")}
DIGESTS = {name: letter * 64 for name, letter in zip(("candidate", "report", "policy", "parent"), "abcd", strict=True)}


def identity(name: str, *roles, kind="person", by="root") -> Identity:
    day = (NOON - timedelta(days=1)).isoformat()
    return Identity(
        name=name, kind=kind, roles=roles, public_key=public_key(KEYS[name.casefold()]), enrolled_by=by, at=day
    )


KNOWN = {
    "grace": identity("Grace", "reviewer"),
    "henry": identity("henry", "reviewer"),
    "ada": identity("ada", "requester"),
    "promoter": identity("promoter", kind="service"),
}
RECEIPT = Receipt(
    **DIGESTS,
    decision="approve",
    reviewer="Grace",
    method="key",
    at=NOON.isoformat(),
    expires=(NOON + timedelta(hours=1)).isoformat(),
    comment="seen",
)


def approvals(*envelopes, known=KNOWN, quorum=1, excluded=frozenset(), now=NOON, opened=NOON, **changed) -> set[str]:
    whole = {"identities": known, "quorum": quorum, "excluded": excluded, "now": now, "opened": opened}
    found = check_receipts(envelopes, **DIGESTS | changed, **whole)
    return {receipt.reviewer for receipt in found.values()}


def by(name: str, signer: str = "", **changes) -> dict:
    return make(replace(RECEIPT, reviewer=name, **changes), KEYS[signer or name.casefold()])


def refused(*envelopes, match: str, **kwargs) -> None:
    with pytest.raises(QuorumError, match=match):
        approvals(*envelopes, **kwargs)


def test_a_reviewers_own_key_and_the_services_word_on_a_code_both_count():
    assert approvals(by("Grace"), by("henry", "promoter", method="totp"), quorum=2) == {"Grace", "henry"}


def test_one_reviewer_is_one_approval_however_often_it_is_given():
    refused(by("Grace"), by("Grace", comment="again"), by("GRACE", "grace"), quorum=2, match="1 of 2")


def test_no_receipt_is_no_approval():
    refused(match="0 of 1 approvals that count$")


@pytest.mark.parametrize("quorum", ["0", "-1", "false", "true", "nan", "1.0", '"1"', "[]"])
def test_a_policy_that_asks_for_nobody_is_refused_whatever_it_calls_that(quorum):
    with pytest.raises(QuorumError, match=r"a release takes one at least"):
        quorum_of(f"quorum = {quorum}".encode())
    refused(quorum=0, match="0 of 0 approvals that count")


def test_a_policy_says_how_many_approve_or_means_one():
    assert [quorum_of(policy) for policy in (b"quorum = 3", b'name = "x"')] == [3, 1]


@pytest.mark.parametrize(
    "odd",
    [
        {"at": "9999-12-31T23:59:59-14:00"},
        {"expires": "9999-12-31T00:00:00+00:00"},
        {"at": "0001-01-01T00:00:00+00:00"},
        {"expires": "soon"},
        {"comment": 7},
        {"candidate": 7},
    ],
)
def test_a_receipt_of_odd_times_or_types_is_none_and_breaks_nothing(odd):
    with pytest.raises(ForgedError, match="this is no receipt"):
        receipt_of(by("Grace", **odd), KNOWN)
    assert approvals(by("Grace", **odd), by("henry")) == {"henry"}


def test_an_objection_stands_against_any_number_of_approvals():
    with pytest.raises(ObjectionError, match="henry decided to reject"):
        approvals(by("Grace"), by("henry", decision="reject"))


def test_an_objection_that_does_not_count_holds_nothing_up():
    assert approvals(by("Grace"), by("henry", "eve", decision="reject")) == {"Grace"}


def test_the_receipt_of_a_stranger_says_who_is_not_enrolled():
    refused(by("eve"), match="'eve' is not enrolled, or was revoked")


def test_a_requester_is_no_reviewer():
    refused(by("ada"), match="ada is no reviewer")


def test_a_code_without_the_services_signature_does_not_count():
    refused(by("Grace", "grace", method="totp"), match="does not hold")


def test_a_person_is_not_the_review_service():
    known = KNOWN | {"promoter": identity("promoter", "reviewer")}
    refused(by("Grace", "promoter", method="totp"), known=known, match="review service is not enrolled")


def test_whoever_enrolled_themselves_is_no_reviewer():
    refused(
        by("Grace"), known=KNOWN | {"grace": identity("Grace", "reviewer", by="GRACE")}, match="enrolled themselves"
    )


def test_a_receipt_from_before_its_reviewer_was_enrolled_does_not_count():
    early = by("Grace", at=(NOON - timedelta(days=2)).isoformat())
    refused(early, match="was enrolled on")


def test_a_receipt_from_the_future_does_not_count_yet():
    refused(by("Grace", at=(NOON + timedelta(minutes=6)).isoformat()), match="is good from")
    assert approvals(by("Grace", at=(NOON + timedelta(minutes=4)).isoformat())) == {"Grace"}


def test_an_old_approval_given_again_hides_no_later_rejection():
    rejected = by("Grace", decision="reject", at=(NOON + timedelta(seconds=1)).isoformat())
    with pytest.raises(ObjectionError, match="Grace decided to reject"):
        approvals(by("Grace"), rejected, by("Grace"))


def test_a_newer_receipt_about_another_candidate_hides_no_rejection_of_this_one():
    later = (NOON + timedelta(seconds=1)).isoformat()
    with pytest.raises(ObjectionError, match="Grace decided to reject"):
        approvals(by("Grace", decision="reject"), by("Grace", candidate="e" * 64, at=later))


def test_a_rejection_whose_time_is_over_brings_no_older_approval_back():
    later = NOON + timedelta(minutes=1)
    over = by("Grace", decision="reject", at=later.isoformat(), expires=later.isoformat())
    refused(by("Grace"), over, now=later, match="is good from")


@pytest.mark.parametrize("junk", [{}, None, "text", {"payload": "e30="}, {"payload": 7}])
def test_junk_hides_no_receipt(junk):
    assert approvals(by("Grace"), junk) == {"Grace"}


ATTACKS = {
    "own approval": ({"excluded": {"grace"}}, {}, "somebody else approves", "check_receipt"),
    "own approval under another spelling": (
        {"excluded": {"grace"}},
        {"name": "GRÁCE", "signer": "grace"},
        "somebody else approves",
        "check_receipt",
    ),
    "another candidate": ({}, {"candidate": "e" * 64}, "about the candidate eeee", "check_receipt"),
    "a swapped report": ({}, {"report": "e" * 64}, "about the report eeee", "check_receipt"),
    "a softer policy": ({}, {"policy": "e" * 64}, "about the policy eeee", "check_receipt"),
    "another parent": ({}, {"parent": "e" * 64}, "about the parent eeee", "check_receipt"),
    "an earlier opening": (
        {"opened": NOON + timedelta(minutes=6), "now": NOON + timedelta(minutes=7)},
        {},
        "the candidate was opened at",
        "check_receipt",
    ),
    "expired": ({"now": NOON + timedelta(hours=1)}, {}, "is good from", "check_receipt"),
    "no role": ({}, {"name": "ada"}, "ada is no reviewer", "_check_reviewer"),
}


@pytest.mark.parametrize(("how", "given", "why", "check"), ATTACKS.values(), ids=list(ATTACKS))
def test_an_attack_is_refused_by_its_check_and_succeeds_without_it(monkeypatch, how, given, why, check):
    forged = by(**{"name": "Grace"} | given)
    refused(forged, **how, match=why)
    monkeypatch.setattr(governance.receipts, check, lambda *args, **kwargs: None)
    assert len(approvals(forged, **how)) == 1


def test_a_forged_signature_is_refused_by_verifying_and_succeeds_without(monkeypatch):
    forged = by("Grace", "eve")
    refused(forged, match="does not hold")
    monkeypatch.setattr(governance.receipts, "verify", lambda envelope, keys: governance.receipts.claimed(envelope))
    assert approvals(forged) == {"Grace"}
