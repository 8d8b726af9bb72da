"""Whether an answer counts, on a real ledger and store; the candidates are made up, since no model is asked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pyotp
import pytest

import tasks.receipts
from editors.digests import digest_of
from governance.errors import RoleError
from governance.lifecycle import TRANSITIONS, Event
from tasks import codes
from tasks.answers import Form, Judgement, Pause, judge
from tasks.candidate import the_open_candidate
from tasks.decisions import Course, course_of
from tasks.errors import IllegalTransitionError
from tasks.ledger import Ledger
from tasks.people import revoke_identity
from tasks.receipts import give_receipt
from tasks.sealing import new_sealing_key
from tasks.settings import Settings, acting_as
from tasks.stale import close_stale
from tasks.store import Store
from tasks.strike import strike

pytestmark = pytest.mark.stack

NOW = datetime(2030, 1, 1, 12, 0, 10, tzinfo=UTC)
POLICY = 'name = "p"\nquorum = {quorum}\n[[gate]]\nmetric = "efficacy.argmax"\nmin = 0.5\n'
FACTS = ("france", "italy", "japan")


@dataclass
class Desk:
    """A candidate that waits for review, and the people around it."""

    trusted: Any
    candidate: str = ""
    run: str = field(default_factory=lambda: str(uuid4()))
    attempts: int = 0

    @property
    def ledger(self) -> Ledger:
        return self.trusted.ledger

    @property
    def settings(self) -> Settings:
        """Those of the review service."""
        return self.trusted.promoter

    def opens(self, *, quorum: int = 1) -> str:
        """Open a candidate of three facts that carol asked for and bob submitted."""
        with acting_as("editor") as editor:
            store = Store(editor)
        manifest = {
            "parent": "b" * 64,
            "report": uuid4().hex * 2,
            "policy": store.put(POLICY.format(quorum=quorum).encode()).sha256,
            "new": list(FACTS),
            "returning": [],
            "leaving": [],
            "asked_by": "",
        }
        first = not self.candidate
        self.candidate = digest_of(manifest)
        store.put_record(f"candidates/{self.candidate}.json", manifest)
        for key in FACTS if first else ():
            correction = {"id": key, "subject": key, "prompt": "{} is", "target": "t", "requester": "Carol"}
            event = Event(entity="correction", key=key, kind="submitted", actor="bob", data={"correction": correction})
            queued = [Event(entity="correction", key=key, kind=kind, actor="c") for kind in ("queued", "in candidate")]
            self.ledger.append([event, *queued])
        content = {name: manifest[name] for name in ("parent", "new", "returning", "leaving")}
        self.ledger.append([Event(entity="candidate", key=self.candidate, kind="opened", actor="c", data=content)])
        return self.candidate

    def code(self, name: str, *, at: datetime = NOW) -> str:
        return pyotp.TOTP(self.trusted.secrets[name]).at(at)

    def answers(self, form: Form | None = None, *, at: datetime | None = NOW, **given: str) -> Judgement:
        """Answer the next time that the form asks."""
        self.attempts += 1
        pause = Pause(candidate=self.candidate, run=self.run, attempt=self.attempts, resumed=at)
        form = Form.model_validate({"decision": "approve"} | given) if given else form
        return judge(form, pause, ledger=self.ledger, settings=self.settings)

    def signs(self, name: str, **decision: Any) -> Event:
        """A decision signed with somebody's own key."""
        return give_receipt(
            self.candidate, reviewer=name, method="key", ledger=self.ledger, settings=self.settings, **decision
        )

    def course(self) -> Course:
        return course_of(self.candidate, ledger=self.ledger, settings=self.settings)

    def recorded(self) -> list[tuple[str, str]]:
        return [(s.state, s.reason) for s in self.ledger.standings("answer")]

    def states(self) -> list[str]:
        return [self.ledger.standing("correction", key).state for key in FACTS]


@pytest.fixture
def desk(trusted, monkeypatch) -> Desk:
    """Grace and linus review what bob submitted and carol asked for, who are reviewers too.

    Whether a candidate's facts are what was signed for is asked in test_receipts.py.
    """
    monkeypatch.setattr(tasks.receipts, "check_candidate", lambda *args, **kwargs: None)
    for name in ("linus", "bob", "carol"):
        trusted.enrol(name, "reviewer")
    desk = Desk(trusted)
    desk.opens()
    return desk


def test_a_reviewer_with_the_right_code_decides_in_one_transaction(desk):
    judged = desk.answers(reviewer=" Grace ", code=desk.code("grace"), comment="seen\n{{ 7 * 7 }}")
    assert judged == Judgement(accepted=True)
    course = desk.course()
    assert (course.decision, course.reviewer, course.comment) == ("approve", "grace", "seen {{ 7 * 7 }}")
    told = [s for entity in ("answer", "code", "receipt") for s in desk.ledger.standings(entity)]
    assert [s.state for s in told] == ["accepted", "used", "approve"]
    assert len({s.at for s in told}) == 1, "one moment is one transaction"


def test_a_restarted_flow_reads_what_came_of_an_answer_and_judges_nothing_again(desk):
    form = {"reviewer": "grace", "code": desk.code("grace")}
    first = desk.answers(**form)
    before = desk.ledger.verify().sequence
    desk.attempts -= 1
    assert desk.answers(**form | {"code": "000000"}) == first
    assert desk.ledger.verify().sequence == before


def test_a_wrong_code_an_unknown_name_and_a_revoked_one_are_refused_in_the_same_words(desk):
    wrong = f"{(int(desk.code('grace')) + 1) % 10**6:06}"
    revoke_identity("linus", by="ada", reason="left", ledger=desk.ledger, settings=desk.settings)
    given = [("grace", wrong), ("nobody", desk.code("grace")), ("linus", desk.code("linus")), ("grace", "12")]
    judged = [desk.answers(reviewer=name, code=code) for name, code in given]
    assert {j.reason for j in judged} == {"reviewer and code don't match; a code is right for about a minute"}
    assert not any(j.accepted for j in judged) and desk.course().decision is None
    assert desk.ledger.standings("code") == []


@pytest.mark.parametrize(("drift", "accepted"), [(-60, False), (-30, True), (30, True), (60, False)])
def test_a_code_may_be_one_step_off_the_moment_at_which_the_run_began_to_resume(desk, drift, accepted):
    code = desk.code("grace", at=NOW + timedelta(seconds=drift))
    assert desk.answers(reviewer="grace", code=code).accepted == accepted


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ({"reviewer": "  "}, "name was blank"),
        ({"reviewer": "grace", "comment": "fine\u202e"}, "control or invisible character"),
        ({"reviewer": "grace\0"}, "control or invisible character"),
        ({"reviewer": "grace", "decision": "strike", "strike": "a\0"}, "control or invisible character"),
        ({"reviewer": "grace", "strike": "france"}, "the decision was to approve"),
        ({"reviewer": "grace", "decision": "strike", "strike": " , "}, "no id to strike"),
        ({"reviewer": "grace", "decision": "strike", "strike": "france, spain"}, "not new in this candidate.*: spain"),
        ({"reviewer": "grace", "code": ""}, "no code was given"),
    ],
)
def test_a_form_that_says_nothing_clear_is_asked_again_and_burns_no_code(desk, form, reason):
    judged = desk.answers(**{"code": desk.code("grace")} | form)
    assert not judged.accepted and re.search(reason, judged.reason)
    assert desk.recorded() == [("refused", judged.reason)]
    assert desk.ledger.standings("code") == desk.ledger.standings("receipt") == []


def test_a_run_that_goes_on_without_an_answer_decides_nothing(desk):
    assert desk.answers(None).reason == "the run was continued without an answer"
    late = desk.answers(at=None, reviewer="grace", code=desk.code("grace"))
    assert not late.accepted and desk.course().decision is None


def test_who_asked_or_submitted_does_not_approve_however_the_name_is_spelt_and_may_reject(desk):
    for name, spelt in (("carol", "C. A. R. O. L."), ("bob", "BOB")):
        judged = desk.answers(reviewer=spelt, code=desk.code(name))
        assert not judged.accepted and "somebody else approves" in judged.reason
    assert len(desk.ledger.standings("code")) == 2, "they were theirs, and count once"
    later = NOW + timedelta(minutes=5)
    assert desk.answers(reviewer="Carol", decision="reject", code=desk.code("carol", at=later), at=later).accepted
    assert desk.course().decision == "reject"


def test_who_is_enrolled_for_something_else_has_no_code_and_signs_nothing(desk):
    assert "don't match" in desk.answers(reviewer="ada", decision="reject", code="000000").reason
    with pytest.raises(RoleError, match="ada is no reviewer"):
        desk.signs("ada", decision="reject")


def test_a_policy_that_asks_for_two_gets_two_different_ones(desk):
    desk.opens(quorum=2)
    assert desk.answers(reviewer="grace", code=desk.code("grace")).accepted
    assert (desk.course().decision, desk.course().approved) == (None, ("grace",))
    later = NOW + timedelta(minutes=5)
    again = desk.answers(reviewer="grace", code=desk.code("grace", at=later), at=later)
    assert again.reason == "grace approves already; another reviewer is asked"
    assert desk.answers(reviewer="linus", code=desk.code("linus")).accepted
    assert (desk.course().decision, desk.course().approved) == ("approve", ("grace", "linus"))


def test_of_two_reviewers_one_who_rejects_is_enough(desk):
    desk.opens(quorum=2)
    desk.answers(reviewer="grace", code=desk.code("grace"))
    desk.answers(reviewer="linus", code=desk.code("linus"), decision="reject", comment="no source")
    assert (desk.course().decision, desk.course().comment) == ("reject", "no source")


def test_an_approval_of_somebody_who_was_revoked_since_counts_no_more(desk):
    desk.answers(reviewer="grace", code=desk.code("grace"))
    revoke_identity("grace", by="ada", reason="left", ledger=desk.ledger, settings=desk.settings)
    assert desk.course().decision is None


def test_a_decision_signed_with_an_own_key_needs_no_code(desk):
    desk.ledger.append([desk.signs("grace", decision="reject")])
    assert desk.answers(reviewer="grace", decision="approve").accepted
    assert (desk.course().decision, desk.ledger.standings("code")) == ("reject", [])
    assert desk.answers(reviewer="linus").reason == "no code was given"


def test_what_is_struck_is_rejected_and_the_rest_is_queued(desk):
    judged = desk.answers(
        reviewer="grace", code=desk.code("grace"), decision="strike", strike="italy japan,italy", comment="no source"
    )
    course = desk.course()
    assert judged.accepted and (course.decision, course.struck) == ("strike", ("italy", "japan"))
    for _ in range(2):
        strike(desk.candidate, facts=course.struck, reviewer="grace", comment="no source", ledger=desk.ledger)
    assert desk.states() == ["queued", "rejected", "rejected"]
    assert desk.ledger.standing("correction", "italy").reason == "no source"
    assert desk.ledger.standing("candidate", desk.candidate).data == {"struck": ["italy", "japan"]}
    assert the_open_candidate(desk.ledger) is None


def test_striking_everything_is_a_rejection(desk):
    desk.answers(reviewer="grace", code=desk.code("grace"), decision="strike", strike=" ".join(FACTS))
    assert desk.course().decision == "reject"


def test_a_stale_candidate_is_closed_once_and_its_facts_are_queued(desk):
    for _ in range(2):
        close_stale(desk.candidate, reason="production moved", ledger=desk.ledger)
    assert desk.ledger.standing("candidate", desk.candidate).state == "stale"
    assert desk.states() == ["queued"] * 3


def test_a_code_whose_secret_is_sealed_to_another_service_key_is_refused_with_the_way_out(desk, monkeypatch):
    code = desk.code("grace")
    monkeypatch.setattr(desk.trusted, "_own", desk.trusted._own | {"sealing_key": new_sealing_key()})
    refused = desk.answers(reviewer="grace", code=code)
    assert not refused.accepted and "is not sealed to this service's key; enrol them again" in refused.reason
    assert desk.recorded() == [("refused", refused.reason)]


# Attacks, each with the check and with the check patched out.


def test_a_replayed_code_is_refused(desk):
    code = desk.code("grace")
    desk.answers(reviewer="grace", decision="reject", code=code)
    assert desk.answers(reviewer="grace", code=code).reason == "this code was used already; wait for the next one"
    assert desk.course().decision == "reject"


def test_without_its_check_a_replayed_code_meets_the_ledger_which_refuses_it_too(desk, monkeypatch):
    code = desk.code("grace")
    desk.answers(reviewer="grace", decision="reject", code=code)
    monkeypatch.setattr(codes, "check_unused", lambda code, ledger: None)
    with pytest.raises(IllegalTransitionError, match="code 'grace:"):
        desk.answers(reviewer="grace", code=code)
    monkeypatch.setitem(TRANSITIONS["code"], "used", frozenset({None, "used"}))
    desk.answers(reviewer="grace", code=code)
    assert desk.course().decision == "approve", "the attack succeeds where nothing checks"


@pytest.mark.parametrize("name", ["grace", "nobody"])
def test_a_code_is_not_guessed_at_speed(desk, monkeypatch, name):
    monkeypatch.setenv("CORRIGENDA_CODE_ATTEMPTS", "3")
    for guess in range(3):
        desk.run = str(uuid4())  # a run of its own each time
        assert "don't match" in desk.answers(reviewer=name, code=f"{guess:06}").reason
    lucky = desk.answers(reviewer=name.upper(), code=desk.code("grace"))
    assert not lucky.accepted and "3 wrong codes were given under this name, so none counts until" in lucky.reason
    assert desk.answers(reviewer="linus", code=desk.code("linus")).accepted, "nobody else is kept out"


def test_without_its_check_a_code_can_be_guessed_at_speed(desk, monkeypatch):
    monkeypatch.setenv("CORRIGENDA_CODE_ATTEMPTS", "3")
    monkeypatch.setattr(codes, "check_guesses", lambda name, ledger, settings: None)
    for guess in range(9):
        desk.answers(reviewer="grace", code=f"{guess:06}")
    assert desk.answers(reviewer="grace", code=desk.code("grace")).accepted


def test_a_name_that_was_guessed_under_is_free_again_after_a_day_and_signs_with_its_key_meanwhile(desk, monkeypatch):
    monkeypatch.setenv("CORRIGENDA_CODE_ATTEMPTS", "1")
    desk.answers(reviewer="grace", code="000000")
    desk.ledger.append([desk.signs("grace", decision="strike", struck=["italy"])])
    assert desk.answers(reviewer="grace").accepted and desk.course().decision == "strike"

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(hours=25)

    monkeypatch.setattr(codes, "datetime", Tomorrow)
    assert desk.answers(reviewer="grace", code=desk.code("grace")).accepted
