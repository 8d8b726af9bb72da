"""Receipts in the ledger, and what they let through; each attack runs with its check and without it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

import governance.receipts
import tasks.acts
import tasks.changes
import tasks.promote
import tasks.receipts
from editors.digests import canonical_json, digest_of
from editors.errors import UntrustedError
from governance.acts import Act, Asked
from governance.changes import DECIDED
from governance.envelopes import digest_of_envelope, new_key
from governance.errors import ForgedError, FourEyesError, ObjectionError, QuorumError, RoleError
from governance.lifecycle import Event
from governance.receipts import Receipt, make
from tasks.asking import to_retry, to_revoke, to_roll_back
from tasks.candidate import replace_candidate
from tasks.collect import contents, events_for
from tasks.corrections import Editing
from tasks.decisions import course_of
from tasks.errors import IdentityError, IllegalTransitionError, StoreError
from tasks.own_keys import sign_as
from tasks.people import asker, identities, revoke_identity, service_key
from tasks.promote import approve, promote, reject
from tasks.receipts import approvals_of, give_receipt, receipt_event
from tasks.retry import retry
from tasks.settings import Settings, acting_as
from tasks.store import Store
from tasks.submit import sign_submission, submit
from tasks.withdraw import Withdrawal, revocation, rollback

pytestmark = pytest.mark.stack

POLICY = 'name = "x"\nquorum = {quorum}\n[[gate]]\nmetric = "regression.perplexity_ratio"\nmax = 1e6\n'


class Desk:
    """Candidates as a refresh leaves them, without a model: corrections submitted by ada, for somebody."""

    def __init__(self, trusted, ledger, folder) -> None:
        self.trusted, self.ledger, self.folder = trusted, ledger, folder
        with acting_as("editor") as self.editor:
            self.store = Store(self.editor)

    def submit(self, key: str, *, requester: str = "ada", by: str = "ada", **more) -> None:
        file = self.folder / f"{key}.jsonl"
        line = {"id": key, "subject": "France", "prompt": "The capital of {} is", "target": "Lyon"}
        file.write_text(json.dumps(line | {"requester": requester} | more))
        signed = sign_submission(file, by=by, settings=self.editor)
        submit(file, submission=signed, ledger=self.ledger, store=self.store, settings=self.editor)
        self.ledger.append(events_for([key], "queued", actor="corrigenda"))

    def signs(self, asked, *, by: str = "ada") -> Act:
        how = {"role": "requester", "ledger": self.ledger, "settings": self.trusted.promoter}
        return asker(self.trusted.act(asked, by=by), asked, **how)

    def carries_out(self, asked) -> Withdrawal:
        """What the flows do with what ada signs."""
        act, now = self.signs(asked), datetime.now(UTC)
        if asked.verb == "revoke":
            return revocation(self.ledger, act, now=now)
        (release,) = asked.about
        return rollback(self.ledger, self.store, int(release.split()[1]), act=act, now=now)

    def asks(self, asked, *, by: str = "ada") -> dict[str, str]:
        """Somebody signs, which is used up at once; returns how a candidate names it."""
        act = self.signs(asked, by=by)
        self.ledger.append([act.used()])
        return {"act": act.digest, "asked_by": act.by}

    def revokes(self, *keys: str, by: str = "ada", restore: bool = False) -> dict[str, str]:
        return self.asks(to_revoke(self.ledger, keys, reason="wrong", restore=restore, replace=False), by=by)

    def rolls_back(self, position: int, *, leave_out: bool = False, by: str = "ada") -> dict[str, str]:
        how = {"reason": "wrong", "leave_out": leave_out, "replace": False}
        return self.asks(to_roll_back(self.ledger, position, **how), by=by)

    def open(
        self,
        *new: str,
        leaving: tuple = (),
        returning: tuple = (),
        asked_by: str = "",
        act: str = "",
        quorum: int = 1,
        beside: tuple = (),
        without: tuple = (),
        says: str = "",
        opened: dict | None = None,
    ) -> str:
        """With other facts than it names, with some that say something else, or opened as another: it is an attack."""
        head = self.ledger.head()
        objects = {name: self.store.put(name.encode()).sha256 for name in ("patch", "moments", "contexts")}
        gone = {*without, *(each["id"] for each in leaving)}
        keys = {*(self.facts_of(head.candidate) if head else ()), *new, *returning, *beside} - gone
        facts = contents(self.ledger.standings("correction", keys=sorted(keys))) if keys else []
        facts = [fact.model_copy(update={"target": says}) if says else fact for fact in facts]
        lines = b"".join(canonical_json(fact.model_dump(mode="json")) + b"\n" for fact in facts)
        manifest = objects | {
            "format": 1,
            "corrections": self.store.put(lines).sha256,
            "facts": [{"id": fact.id} for fact in facts],
            "code": self.folder.name,  # the tests share an object store
            "pins": "pins",
            "values": [],
            "base": "b" * 64,
            "base_files": [],
            "parent": head.candidate if head else "b" * 64,
            "new": list(new),
            "returning": list(returning),
            "asked_by": asked_by,
            "act": act,
            "leaving": list(leaving),
            "report": self.store.put(b"report").sha256,
            "policy": self.store.put(POLICY.format(quorum=quorum).encode()).sha256,
        }
        digest = digest_of(manifest)
        self.store.put_record(f"candidates/{digest}.json", manifest)
        data = {"version": "1"} | {name: manifest[name] for name in DECIDED} | (opened or {})
        event = Event(entity="candidate", key=digest, kind="opened", actor="corrigenda", data=data)
        used = [Event(entity="act", key=act, kind="in candidate", actor="corrigenda", reason=digest)]
        first = act and self.ledger.standing("act", act).state == "used"
        self.ledger.append([event, *events_for(new, "in candidate", actor="corrigenda"), *(used if first else [])])
        return digest

    def facts_of(self, candidate: str) -> list[str]:
        return [fact["id"] for fact in self.store.manifest(candidate)["facts"]]

    def enter(self, key: str, *, by: str, data: dict, **changes) -> None:
        """A correction as somebody enters it who can write into the ledger, with what ada once signed."""
        fact = data["correction"] | {"id": key} | changes
        event = Event(entity="correction", key=key, kind="submitted", actor=by, data=dict(data) | {"correction": fact})
        self.ledger.append([event, *events_for([key], "queued", actor="corrigenda")])

    def forge(self, about: str, key, **changes) -> None:
        """A receipt as somebody writes it who can write into the ledger."""
        manifest, now = self.store.manifest(about), datetime.now(UTC)
        values = {name: manifest[name] for name in ("report", "policy", "parent")} | {
            "candidate": about,
            "decision": "approve",
            "reviewer": "grace",
            "method": "key",
            "at": now.isoformat(),
            "expires": (now + timedelta(hours=1)).isoformat(),
        }
        receipt = Receipt(**values | changes)
        envelope = make(receipt, key)
        event = receipt_event(about, receipt.reviewer, decision="approve", comment="", envelope=envelope)
        self.ledger.append([event])

    def replay(self, about: str, envelope, *, name: str = "grace") -> None:
        """A receipt that was given before, appended again."""
        self.ledger.append([receipt_event(about, name, decision="approve", comment="", envelope=envelope)])

    def approve(self, candidate: str):
        return approve(candidate, ledger=self.ledger, settings=self.trusted.promoter)

    def refused(self, candidate: str, match: str, error=QuorumError) -> None:
        with pytest.raises(error, match=match):
            self.approve(candidate)
        assert self.ledger.standing("candidate", candidate).state == "opened"
        assert self.ledger.releases() == []


@pytest.fixture
def desk(trusted, ledger, tmp_path) -> Desk:
    return Desk(trusted, ledger, tmp_path)


@pytest.fixture
def candidate(desk) -> str:
    desk.submit("lyon")
    return desk.open("lyon")


@pytest.fixture
def grace(trusted):
    return sign_as("grace", trusted.promoter)


def test_a_receipt_by_the_reviewers_own_key_makes_a_release_that_names_it(desk, trusted, candidate):
    desk.refused(candidate, "0 of 1 approvals that count$")
    trusted.receipt(candidate, comment="checked")
    release = desk.approve(candidate)
    assert (release.reviewer, release.comment) == ("grace", "checked")
    approval = desk.ledger.history("candidate", candidate)[-1]
    kept = desk.ledger.standing("receipt", f"{candidate}:grace").data["envelope"]
    assert approval["data"] == {"receipts": [digest_of_envelope(kept)]}
    desk.ledger.verify()


def test_a_code_is_vouched_for_by_the_review_service(desk, trusted, candidate):
    given = {"reviewer": "GRACE", "method": "totp", "decision": "approve", "ledger": desk.ledger}
    with acting_as("editor") as editor, pytest.raises(IdentityError, match="only the review service has"):
        give_receipt(candidate, **given, settings=editor)
    desk.ledger.append([give_receipt(candidate, **given, settings=trusted.promoter)])
    assert desk.approve(candidate).reviewer == "grace"


def test_a_policy_of_two_waits_for_the_second_reviewer(desk, trusted):
    trusted.enrol("henry", "reviewer")
    desk.submit("lyon")
    candidate = desk.open("lyon", quorum=2)
    trusted.receipt(candidate)
    trusted.receipt(candidate, comment="again")
    desk.refused(candidate, "1 of 2")
    assert trusted.approve(candidate, reviewer="henry").reviewer == "grace, henry"


def test_a_reviewer_who_rejects_stops_what_another_approved(desk, trusted, candidate):
    trusted.enrol("henry", "reviewer")
    trusted.receipt(candidate)
    trusted.receipt(candidate, reviewer="henry", decision="reject")
    desk.refused(candidate, "henry decided to reject", error=ObjectionError)
    trusted.receipt(candidate, reviewer="henry")
    assert desk.approve(candidate).position == 1, "a reviewer's newest decision counts"


def test_what_was_decided_on_an_earlier_opening_is_decided_again(desk, trusted, candidate):
    trusted.receipt(candidate)
    replace_candidate(desk.ledger.standing("candidate", candidate), desk.ledger, actor="refresh")
    assert desk.open("lyon") == candidate
    desk.refused(candidate, "0 of 1")
    assert trusted.approve(candidate).position == 1


def test_a_decision_taken_again_after_the_reopening_counts_only_without_the_check(
    desk, trusted, candidate, monkeypatch
):
    """Somebody who can write into the ledger appends an old receipt again, also with more in its envelope."""
    trusted.receipt(candidate)
    replace_candidate(desk.ledger.standing("candidate", candidate), desk.ledger, actor="refresh")
    desk.open("lyon")
    old = desk.ledger.standing("receipt", f"{candidate}:grace").data["envelope"]
    more = old | {"signatures": [*old["signatures"], {"keyid": "x", "sig": "eA=="}]}
    for envelope in (old, more):
        desk.replay(candidate, envelope)
    desk.refused(candidate, "0 of 1")
    monkeypatch.setattr(tasks.receipts, "receipts_for", lambda *args, **kwargs: [old])
    assert desk.approve(candidate).position == 1


def test_an_old_approval_appended_again_hides_no_rejection(desk, trusted, candidate):
    trusted.receipt(candidate)
    approval = desk.ledger.standing("receipt", f"{candidate}:grace").data["envelope"]
    trusted.receipt(candidate, decision="reject")
    desk.replay(candidate, approval)
    desk.refused(candidate, "grace decided to reject", error=ObjectionError)
    assert course_of(candidate, ledger=desk.ledger, settings=trusted.promoter).decision == "reject"


@pytest.mark.parametrize("data", [{}, {"envelope": None}, {"envelope": {"payload": "e30=", "signatures": []}}])
def test_junk_under_a_reviewers_name_erases_no_receipt(desk, trusted, candidate, data):
    trusted.receipt(candidate)
    desk.ledger.append([Event(entity="receipt", key=f"{candidate}:grace", kind="approve", actor="eve", data=data)])
    assert course_of(candidate, ledger=desk.ledger, settings=trusted.promoter).decision == "approve"
    assert desk.approve(candidate).reviewer == "grace"


def test_one_receipt_under_two_names_is_one_approval(desk, trusted):
    desk.submit("lyon")
    candidate = desk.open("lyon", quorum=2)
    trusted.receipt(candidate)
    desk.replay(candidate, desk.ledger.standing("receipt", f"{candidate}:grace").data["envelope"], name="henry")
    course = course_of(candidate, ledger=desk.ledger, settings=trusted.promoter)
    assert (course.decision, course.approved) == (None, ("grace",))
    desk.refused(candidate, "1 of 2")


@pytest.mark.parametrize(("who", "why"), [("ada", RoleError), ("eve", IdentityError)])
def test_who_is_no_reviewer_is_told_at_once(trusted, candidate, who, why):
    with pytest.raises(why, match="corrigenda people add NAME --role reviewer"):
        trusted.receipt(candidate, reviewer=who)


@pytest.mark.parametrize(
    "part", [{"requester": "grace"}, {"requester": "GRÁCE"}, {"requester": "gr\u0430ce"}, {"by": "grace"}]
)
def test_whoever_took_part_is_told_at_once_that_they_cannot_approve(desk, trusted, part, monkeypatch):
    revoke_identity("grace", by="ada", reason="", ledger=desk.ledger, settings=trusted.promoter)
    (trusted.promoter.trust_folder / "people" / "grace.pem").unlink()
    trusted.enrol("grace", "reviewer", "requester")
    desk.submit("lyon", **part)
    candidate = desk.open("lyon")
    with pytest.raises(FourEyesError, match="somebody else approves"):
        trusted.receipt(candidate)
    trusted.receipt(candidate, decision="reject")  # what one asked for, one may take back


def leaves(key: str, becomes: str = "revoked", *, by: str = "ada", reason: str = "wrong") -> dict[str, str]:
    """A fact that leaves, as a candidate's manifest names it."""
    return {"id": key, "becomes": becomes, "reason": reason, "asked_by": by}


BACK = "rolled back to release {}: wrong"


def test_whoever_asked_for_a_withdrawal_cannot_approve_it(desk, trusted, candidate):
    trusted.enrol("henry", "reviewer", "requester")
    trusted.approve(candidate)
    withdrawal = desk.open(leaving=(leaves("lyon", by="henry"),), **desk.revokes("lyon", by="henry"))
    with pytest.raises(FourEyesError):
        trusted.receipt(withdrawal, reviewer="henry")
    assert trusted.approve(withdrawal).position == 2


def test_whoever_asked_for_a_rollback_that_only_brings_facts_back_cannot_approve_it(desk, trusted, candidate):
    trusted.enrol("henry", "reviewer", "requester")
    trusted.approve(candidate)
    trusted.approve(desk.open(leaving=(leaves("lyon", "held", reason=BACK.format(0)),), **desk.rolls_back(0)))
    forward = desk.open(returning=("lyon",), **desk.rolls_back(1, by="henry"))
    with pytest.raises(FourEyesError):
        trusted.receipt(forward, reviewer="henry")
    assert trusted.approve(forward).position == 3


def test_own_approval_under_another_spelling_is_refused_and_succeeds_without_the_check(
    desk, trusted, grace, monkeypatch
):
    desk.submit("lyon", requester="Gráce")
    candidate = desk.open("lyon")
    desk.forge(candidate, grace, reviewer="GRACE")
    desk.refused(candidate, "somebody else approves")
    monkeypatch.setattr(tasks.receipts, "took_part", lambda manifest, ledger, before=None: frozenset())
    assert desk.approve(candidate).position == 1


def test_a_receipt_for_another_candidate_is_refused_and_succeeds_without_the_check(desk, candidate, grace, monkeypatch):
    desk.forge(candidate, grace, candidate="e" * 64)
    desk.refused(candidate, "about the candidate eeee")
    monkeypatch.setattr(governance.receipts, "check_receipt", lambda *args, **kwargs: None)
    assert desk.approve(candidate).position == 1


def test_a_swapped_report_is_refused_and_succeeds_without_the_check(desk, candidate, grace, monkeypatch):
    desk.forge(candidate, grace, report=desk.store.put(b"a better report").sha256)
    desk.refused(candidate, "about the report")
    monkeypatch.setattr(governance.receipts, "check_receipt", lambda *args, **kwargs: None)
    assert desk.approve(candidate).position == 1


def test_an_expired_receipt_is_refused_and_succeeds_without_the_check(desk, candidate, grace, monkeypatch):
    now = datetime.now(UTC)
    desk.forge(candidate, grace, at=(now - timedelta(minutes=4)).isoformat(), expires=now.isoformat())
    desk.refused(candidate, "is good from")
    monkeypatch.setattr(governance.receipts, "check_receipt", lambda *args, **kwargs: None)
    assert desk.approve(candidate).position == 1


def test_how_long_a_receipt_is_good_for_is_a_setting(desk, trusted, candidate, monkeypatch):
    monkeypatch.setenv("CORRIGENDA_RECEIPT_HOURS", "0.0000001")
    trusted.receipt(candidate)
    desk.refused(candidate, "is good from")


def test_a_revoked_reviewers_receipt_is_refused_and_succeeds_without_the_check(
    desk, trusted, candidate, grace, monkeypatch
):
    desk.forge(candidate, grace)
    then = identities(desk.ledger, trusted.promoter)
    revoke_identity("grace", by="ada", reason="left", ledger=desk.ledger, settings=trusted.promoter)
    desk.refused(candidate, "'grace' is not enrolled, or was revoked")
    monkeypatch.setattr(tasks.receipts, "identities", lambda ledger, settings, before=None: then)
    assert desk.approve(candidate).position == 1


def test_a_receipt_under_another_key_is_refused_and_succeeds_without_the_check(desk, candidate, monkeypatch):
    desk.forge(candidate, new_key())
    desk.refused(candidate, "does not hold")
    monkeypatch.setattr(governance.receipts, "verify", lambda envelope, keys: governance.receipts.claimed(envelope))
    assert desk.approve(candidate).position == 1


def test_a_correction_that_nobody_signed_for_is_refused_and_succeeds_without_the_check(desk, trusted, monkeypatch):
    """Somebody with the database's password enters a fact as another's, so that four eyes seem to have seen it."""
    fact = {"subject": "France", "prompt": "The capital of {} is", "target": "Nice"}
    desk.enter("evil", by="ada", data={"correction": fact})
    refused_until_unchecked(desk, trusted, "nobody signed for the correction 'evil'", monkeypatch)


def test_an_old_signature_carries_no_other_text_and_does_without_the_check(desk, trusted, monkeypatch):
    """A reviewer with the database's password enters a text of their own beside what ada signed, and approves it."""
    desk.submit("lyon")
    data = desk.ledger.standing("correction", "lyon").content
    desk.enter("evil", by="ada", data=data, target="Nice")
    refused_until_unchecked(desk, trusted, "'evil' does not say what line 1 of lyon.jsonl does", monkeypatch)


def test_a_text_put_in_beside_a_true_one_of_the_same_line_is_found(desk, trusted):
    desk.submit("lyon")
    desk.enter("evil", by="ada", data=desk.ledger.standing("correction", "lyon").content, target="Nice")
    with pytest.raises(ForgedError, match="'evil' does not say"):
        trusted.receipt(desk.open("evil", "lyon"))


def test_a_text_that_is_changed_as_it_is_queued_again_is_refused_and_is_not_without_the_check(
    desk, trusted, monkeypatch
):
    """Queued again with other settings, a correction carries its content once more, and may carry another."""
    desk.submit("evil")
    desk.ledger.append(events_for(["evil"], "quarantined", actor="corrigenda"))
    content = desk.ledger.standing("correction", "evil").content
    changed = dict(content) | {"correction": content["correction"] | {"target": "Nice"}}
    desk.ledger.append([Event(entity="correction", key="evil", kind="queued", actor="ada", data=changed)])
    refused_until_unchecked(desk, trusted, "'evil' does not say what line 1 of evil.jsonl does", monkeypatch)


def test_a_signature_over_another_file_is_refused_and_is_not_without_the_check(desk, trusted, monkeypatch):
    """The file that is kept with the text is the attacker's own."""
    desk.submit("lyon")
    data = dict(desk.ledger.standing("correction", "lyon").content)
    own = {key: value for key, value in data["correction"].items() if key != "editing"} | {"target": "Nice"}
    kept = desk.store.put(json.dumps(own).encode()).sha256
    desk.enter("evil", by="ada", data=data | {"sha256": kept}, target="Nice")
    refused_until_unchecked(desk, trusted, "ada signed another act than this submit", monkeypatch)


def test_what_an_intake_adds_and_a_retry_sets_is_no_other_text(desk, trusted):
    (desk.folder / "letter.txt").write_text("The capital has moved.")
    desk.submit("lyon", evidence=["letter.txt", "https://example.org/letter"])
    desk.ledger.append(events_for(["lyon"], "quarantined", actor="corrigenda"))
    editing = Editing(steps=30)
    act = trusted.act(to_retry(desk.ledger, "lyon", reason="", editing=editing))
    retry(desk.ledger, "lyon", act=act, editing=editing, settings=trusted.promoter)
    assert trusted.approve(desk.open("lyon")).position == 1


def test_a_fact_that_reads_the_same_and_is_written_otherwise_is_refused_and_is_not_without_the_check(
    desk, trusted, monkeypatch
):
    """It would have another digest, and no candidate after it could be told from one that changes it."""
    desk.submit("evil")
    write = tasks.receipts.Store.put
    with pytest.MonkeyPatch.context() as other:
        bare = lambda content: content.replace(b',"supersedes":null', b"") if b"evil" in content else content  # noqa: E731
        other.setattr(tasks.receipts.Store, "put", lambda store, content: write(store, bare(content)))
        candidate = desk.open("evil")
    match = r"'evil' is not written as the ledger has it \(its fields\)"
    refused_until(desk, trusted, candidate, match, monkeypatch, check="check_told")


def test_settings_that_nobody_signed_for_are_refused_and_are_not_without_the_check(desk, trusted, monkeypatch):
    """Queued again by hand, with a longer reach than anybody asked for; a signature for others stands behind it."""
    desk.submit("evil")
    desk.ledger.append(events_for(["evil"], "quarantined", actor="corrigenda"))
    editing = Editing(steps=30)
    act = trusted.act(to_retry(desk.ledger, "evil", reason="", editing=editing))
    retry(desk.ledger, "evil", act=act, editing=editing, settings=trusted.promoter)
    desk.ledger.append(events_for(["evil"], "quarantined", actor="corrigenda"))
    content = desk.ledger.standing("correction", "evil").content
    changed = dict(content) | {"correction": content["correction"] | {"editing": {"steps": 30, "clamp": 9.0}}}
    desk.ledger.append([Event(entity="correction", key="evil", kind="queued", actor="ada", data=changed)])
    match = r"evil is edited with {'clamp': 9.0, 'steps': 30}, signed for was {'steps': 30}"
    refused_until(desk, trusted, desk.open("evil"), match, monkeypatch, check="check_editing")


def test_a_signature_for_anothers_submission_does_not_carry_over(desk, trusted, monkeypatch):
    desk.submit("lyon")
    desk.enter("evil", by="henry", data=desk.ledger.standing("correction", "lyon").content)
    match = "ada signed for 'evil', which stands as submitted by 'henry'"
    refused_until_unchecked(desk, trusted, match, monkeypatch)


def refused_until_unchecked(desk, trusted, match: str, monkeypatch) -> None:
    """Whoever approves is told at once; a receipt that is there all the same lets nothing through."""
    refused_until(desk, trusted, desk.open("evil"), match, monkeypatch, check="check_submissions")


def refused_until(desk, trusted, candidate: str, match: str, monkeypatch, *, check: str) -> None:
    before = desk.ledger.head()
    with pytest.raises((UntrustedError, IdentityError), match=match):
        trusted.receipt(candidate)
    desk.forge(candidate, sign_as("grace", trusted.promoter))
    with pytest.raises((UntrustedError, IdentityError), match=match):
        desk.approve(candidate)
    assert desk.ledger.standing("candidate", candidate).state == "opened" and desk.ledger.head() == before
    monkeypatch.setattr(tasks.changes, check, lambda *args, **kwargs: None)
    assert desk.approve(candidate).position == (before.position + 1 if before else 1)


@pytest.fixture
def released(desk, trusted) -> None:
    """Lyon and Rome, then Nice in place of Lyon."""
    desk.submit("lyon")
    desk.submit("rome", subject="Italy", target="Rome")
    trusted.approve(desk.open("lyon", "rome"))
    desk.submit("nice", target="Nice", supersedes="lyon")
    trusted.approve(desk.open("nice", leaving=(leaves("lyon", "superseded", by="corrigenda"),)))


REVOKE = {"reason": "wrong", "restore": False, "replace": False}
ROLL_BACK = {"reason": "wrong", "leave_out": False, "replace": False}
WITHDRAWALS = {
    "a revocation": lambda ledger: to_revoke(ledger, ["nice"], **REVOKE),
    "one that is done at once in part": lambda ledger: to_revoke(ledger, ["lyon", "nice"], **REVOKE),
    "one that restores": lambda ledger: to_revoke(ledger, ["rome", "nice"], **REVOKE | {"restore": True}),
    "a rollback": lambda ledger: to_roll_back(ledger, 1, **ROLL_BACK),
    "a rollback to the base": lambda ledger: to_roll_back(ledger, 0, **ROLL_BACK),
    "a rollback without some": lambda ledger: to_roll_back(ledger, 1, **ROLL_BACK | {"leave_out": True}),
}


@pytest.mark.parametrize("what", WITHDRAWALS)
def test_a_withdrawal_that_somebody_signed_for_is_released_with_the_act(desk, trusted, released, what, monkeypatch):
    monkeypatch.setattr(tasks.promote, "point_alias", lambda *args, **kwargs: None)
    monkeypatch.setattr(tasks.promote, "version_of", lambda *args: "1")
    batch = desk.carries_out(WITHDRAWALS[what](desk.ledger)).batch
    candidate = desk.open(
        leaving=tuple(each.record() for each in batch.leaving),
        returning=tuple(fact.id for fact in batch.returning),
        act=batch.act,
        asked_by=batch.asked_by,
    )
    assert set(desk.facts_of(candidate)) == {fact.id for fact in batch.facts}
    assert promote(trusted.approve(candidate), settings=trusted.promoter, ledger=desk.ledger) == "1"
    kept = desk.ledger.history("act", batch.act)[0]["data"]["envelope"]
    assert json.loads(desk.store.get(digest_of_envelope(kept))) == kept
    desk.ledger.verify()


def asked_by_a_protector(desk) -> dict[str, str]:
    """An act that henry signed, and somebody with the editor's credentials wrote into the ledger as used."""
    asked = to_revoke(desk.ledger, ["nice"], reason="wrong", restore=False, replace=False)
    act = Act(asked=asked, by="henry", at=datetime.now(UTC), envelope=desk.trusted.act(asked, by="henry"))
    desk.ledger.append([act.used()])
    return {"act": act.digest, "asked_by": "henry"}


def asked_yesterday(desk) -> dict[str, str]:
    """An act that ada signed and that nobody carried out then."""

    class Yesterday(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(days=1)

    asked = to_revoke(desk.ledger, ["nice"], reason="wrong", restore=False, replace=False)
    with pytest.MonkeyPatch.context() as then:
        then.setattr(tasks.acts, "datetime", Yesterday)
        envelope = desk.trusted.act(asked)
    act = Act(asked=asked, by="ada", at=datetime.now(UTC), envelope=envelope)
    desk.ledger.append([act.used()])
    return {"act": act.digest, "asked_by": "ada"}


def asked_before(desk) -> dict[str, str]:
    """An act that stands behind a candidate which was rejected."""
    act = desk.revokes("nice")
    first = desk.open(leaving=(leaves("nice"),), **act, quorum=2)
    reject(first, reviewer="grace", comment="it is right", ledger=desk.ledger)
    return act


UNASKED = {
    "nobody asked": (lambda desk: {"leaving": (leaves("nice"),)}, "nice: withdrawn or brought back, and nobody signed"),
    "nobody asked to hold it": (lambda desk: {"leaving": (leaves("nice", "held"),)}, "nobody signed"),
    "nobody asked for it back": (lambda desk: {"returning": ("lyon",)}, "lyon: withdrawn or brought back"),
    "another fact": (lambda desk: {"leaving": (leaves("nice"),), **desk.revokes("rome")}, "nice, rome: not changed"),
    "more than was asked": (
        lambda desk: {"leaving": (leaves("nice"), leaves("rome")), **desk.revokes("nice")},
        "rome: not changed as ada signed",
    ),
    "for another reason": (
        lambda desk: {"leaving": (leaves("nice", reason="it is a lie"),), **desk.revokes("nice")},
        "nice: not changed as ada signed",
    ),
    "in another's name": (
        lambda desk: {"leaving": (leaves("nice", by="henry"),), **desk.revokes("nice")},
        "nice: not part of what ada signed",
    ),
    "restored unasked": (
        lambda desk: {"leaving": (leaves("nice"),), "returning": ("lyon",), **desk.revokes("nice")},
        "lyon: not changed as ada signed",
    ),
    "not restored though asked": (
        lambda desk: {"leaving": (leaves("nice"),), **desk.revokes("nice", restore=True)},
        "lyon: not changed as ada signed",
    ),
    "a rollback as a revocation": (
        lambda desk: {"leaving": (leaves("nice"),), "returning": ("lyon",), **desk.rolls_back(1)},
        "nice: not changed as ada signed",
    ),
    "back to another release": (
        lambda desk: {"leaving": (leaves("nice", "held", reason=BACK.format(1)),), **desk.rolls_back(1)},
        "lyon: not changed as ada signed",
    ),
    "back to no release": (
        lambda desk: {
            "leaving": tuple(leaves(each, "held", reason=BACK.format("none")) for each in ("nice", "rome")),
            **desk.asks(Asked(verb="rollback", about={"none": "f" * 64}, reason="wrong", options=ROLL_BACK)),
        },
        "what ada signed leads back to ffffffffffff, which is no release",
    ),
    "by somebody who may not": (
        lambda desk: {"leaving": (leaves("nice", by="henry"),), **asked_by_a_protector(desk)},
        "henry is no requester",
    ),
    "long ago": (lambda desk: {"leaving": (leaves("nice"),), **asked_yesterday(desk)}, "is good for 1 hour"),
    "for another candidate": (lambda desk: {"leaving": (leaves("nice"),), **asked_before(desk)}, "not for it alone"),
    "before its time": (
        lambda desk: {"leaving": (leaves("nice", "expired", by="corrigenda"),)},
        "nice: to expire, and holds until it is withdrawn",
    ),
    "superseded by nothing": (
        lambda desk: {"leaving": (leaves("nice", "superseded", by="corrigenda"),)},
        "nice: to be superseded, and no new fact",
    ),
}


@pytest.mark.parametrize("how", UNASKED)
def test_a_withdrawal_that_nobody_asked_for_so_is_refused_and_is_not_without_the_check(
    desk, trusted, released, how, monkeypatch
):
    """Somebody with the editor's credentials makes the candidate."""
    trusted.enrol("henry", "protector")
    attack, match = UNASKED[how]
    refused_until(desk, trusted, desk.open(**attack(desk)), match, monkeypatch, check="check_withdrawal")


def test_a_fact_whose_time_has_ended_leaves_though_nobody_asks(desk, trusted):
    desk.submit("lyon", expires=(datetime.now(UTC) + timedelta(seconds=1)).isoformat())
    trusted.approve(desk.open("lyon"))
    time.sleep(1)
    assert trusted.approve(desk.open(leaving=(leaves("lyon", "expired", by="corrigenda"),))).position == 2


UNSAID = {
    "released by hand": ({"beside": ("evil",)}, "evil"),
    "left out without a word": ({"without": ("lyon",)}, "lyon"),
    "changed without a word": ({"says": "Paris"}, "lyon"),
}


@pytest.mark.parametrize("how", UNSAID)
def test_a_fact_that_changes_without_a_word_is_refused_and_is_not_without_the_check(
    desk, trusted, candidate, how, monkeypatch
):
    """Somebody with the database's password writes a fact as released, or with the editor's makes the candidate."""
    trusted.approve(candidate)
    desk.submit("evil")
    for kind in ("in candidate", "released"):
        desk.ledger.append(events_for(["evil"], kind, actor="ada"))
    attack, named = UNSAID[how]
    match = f"not its parent's with the changes that it names: {named}"
    refused_until(desk, trusted, desk.open(**attack), match, monkeypatch, check="check_changes")


@pytest.mark.parametrize("how", [{"new": ["evil"]}, {"leaving": [leaves("lyon")]}])
def test_a_candidate_that_is_opened_as_another_is_refused_and_is_not_without_the_check(
    desk, trusted, candidate, how, monkeypatch
):
    """Somebody with the editor's credentials opens one that changes nothing with something else to be carried out."""
    trusted.approve(candidate)
    desk.submit("evil")
    desk.ledger.append(events_for(["evil"], "in candidate", actor="ada"))
    match = f"opened with another {next(iter(how))} than its manifest names"
    refused_until(desk, trusted, desk.open(opened=how), match, monkeypatch, check="check_opened")


def test_a_submission_that_is_entered_again_is_refused_and_is_not_without_the_check(desk, trusted, monkeypatch):
    """Ada cancelled it; somebody with the editor's credentials enters it once more with what she had signed."""
    desk.submit("evil")
    data = desk.ledger.standing("correction", "evil").content
    desk.ledger.append(events_for(["evil"], "cancelled", actor="ada"))
    desk.enter("evil", by="ada", data=data)
    refused_until_unchecked(desk, trusted, r"what ada signed at .* was entered again", monkeypatch)


@pytest.mark.parametrize(("then", "why"), [("reject", "decided to reject"), ("revoke", "was revoked")])
def test_what_comes_between_the_check_and_the_commit_stops_the_release(
    desk, trusted, candidate, monkeypatch, then, why
):
    def slow(*args, **kwargs):
        found = approvals_of(*args, **kwargs)
        monkeypatch.setattr(tasks.promote, "approvals_of", approvals_of)
        if then == "reject":
            trusted.receipt(candidate, decision="reject")
        else:
            revoke_identity("grace", by="ada", reason="left", ledger=desk.ledger, settings=trusted.promoter)
        return found

    trusted.receipt(candidate)
    monkeypatch.setattr(tasks.promote, "approvals_of", slow)
    desk.refused(candidate, why, error=UntrustedError)


def test_a_row_without_receipts_is_not_published_and_is_without_the_check(desk, trusted, candidate, monkeypatch):
    """Somebody with the database's password writes the release itself."""
    approved = Event(entity="candidate", key=candidate, kind="approved", actor="grace", data={"receipts": []})
    release = desk.ledger.release(candidate, parent=desk.store.manifest(candidate)["parent"], new=[approved])
    with pytest.raises(QuorumError, match="0 of 1"):
        promote(release, settings=trusted.promoter, ledger=desk.ledger)
    assert desk.store.record(f"releases/{candidate}.json") is None
    monkeypatch.setattr(tasks.promote, "approvals_of", lambda *args, **kwargs: {})
    monkeypatch.setattr(tasks.promote, "point_alias", lambda *args, **kwargs: None)
    monkeypatch.setattr(tasks.promote, "version_of", lambda *args: "1")
    promote(release, settings=trusted.promoter, ledger=desk.ledger)
    assert desk.store.record(f"releases/{candidate}.json")


def test_a_release_is_published_with_its_receipts_even_when_its_reviewer_has_left(
    desk, trusted, candidate, monkeypatch
):
    monkeypatch.setattr(tasks.promote, "point_alias", lambda *args, **kwargs: None)
    monkeypatch.setattr(tasks.promote, "version_of", lambda *args: "1")
    release = trusted.approve(candidate)
    revoke_identity("grace", by="ada", reason="left", ledger=desk.ledger, settings=trusted.promoter)
    promote(release, settings=trusted.promoter, ledger=desk.ledger)
    (receipt,) = desk.store.record(f"releases/{candidate}.json")["receipts"]
    kept = json.loads(desk.store.get(receipt))
    assert digest_of_envelope(kept) == receipt
    desk.ledger.verify(desk.store.records("releases/" + candidate))


def test_an_editors_credentials_sign_no_receipt_and_write_no_release(desk, trusted, candidate):
    with acting_as("editor") as editor:
        with pytest.raises(IdentityError, match="only the review service has"):
            service_key(editor)
        with pytest.raises(QuorumError):
            approve(candidate, ledger=desk.ledger, settings=editor)
        with pytest.raises(StoreError, match="AccessDenied"):
            Store(editor).put_record(f"releases/{candidate}.json", {})
    Store(trusted.promoter).put_record(f"releases/{candidate}.json", {})


def test_only_an_open_candidate_becomes_a_release(desk, trusted, candidate):
    trusted.receipt(candidate)
    replace_candidate(desk.ledger.standing("candidate", candidate), desk.ledger, actor="refresh")
    with pytest.raises(IllegalTransitionError):
        desk.approve(candidate)


def test_without_a_root_nothing_is_let_through(desk, trusted, candidate):
    trusted.receipt(candidate)
    rootless = trusted.promoter.model_copy(update={"root_fingerprint": ""})
    with pytest.raises((UntrustedError, IdentityError)):
        approvals_of(candidate, desk.ledger, rootless)
    assert Settings(root_fingerprint="").root_fingerprint == ""
