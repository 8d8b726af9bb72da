"""Facts are taken back, and production to where it was: on the real services, with a model that is random and small."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

import flows.propose
import governance.changes
import tasks.people
import tasks.withdraw
from editors.errors import UntrustedError
from editors.patch import Patch
from flows.cli import app
from flows.refresh import refresh
from flows.submission import submit_file
from flows.withdraw import expire, revoke, rollback
from governance.acts import Act, Asked
from governance.errors import SpentActError, UnaskedError
from governance.lifecycle import Event
from tasks.asking import to_protect, to_revoke, to_roll_back
from tasks.candidate import the_open_candidate
from tasks.errors import BusyError, GateError, IdentityError, IllegalTransitionError, UnknownKeyError, WithdrawalError
from tasks.evidence import evidence
from tasks.ledger import Ledger
from tasks.promote import reject
from tasks.protect import protect
from tasks.settings import Settings
from tasks.store import Store

pytestmark = pytest.mark.stack

PROMPT = "The capital of {} is"
REASON = "the source was wrong"


class Platform:
    """The platform as its people use it; nobody is asked in the Prefect UI."""

    def __init__(self, settings: Settings, trusted, folder: Path) -> None:
        self.settings = settings
        self.trusted = trusted
        self.folder = folder
        self.ledger = Ledger(settings.database_url)
        self.store = Store(settings)
        # The tests share an object store, where a candidate of the same content would be the same one.
        self.shared = {"prompt": PROMPT, "requester": "ada", "reason": f"for {folder.name}"}

    def submit(self, *corrections: dict) -> list[str]:
        """Returns the fate of each."""
        file = self.folder / "some.jsonl"
        file.write_text("\n".join(json.dumps(self.shared | each) for each in corrections))
        return [line.fate for line in submit_file(file)]

    def release(self, *corrections: dict) -> str:
        """Submit, refresh and approve; returns the digest of the release."""
        assert self.submit(*corrections) == ["queued"] * len(corrections)
        refresh()
        return self.approve()

    def approve(self) -> str:
        candidate = the_open_candidate(self.ledger).key
        self.trusted.promote(candidate)
        return candidate

    def asked(self, *facts: str, reason: str = REASON, restore: bool = False, replace: bool = False) -> Asked:
        return to_revoke(self.ledger, facts, reason=reason, restore=restore, replace=replace)

    def revoke(self, facts: list[str], *, reason: str = REASON, **how: bool) -> str:
        """Signed by ada."""
        act = self.trusted.act(self.asked(*facts, reason=reason, **how))
        return revoke(facts, reason=reason, act=act, **how)

    def rollback(self, position: int, *, reason: str = REASON, **how: bool) -> str:
        """Signed by ada."""
        options = {"leave_out": False, "replace": False} | how
        act = self.trusted.act(to_roll_back(self.ledger, position, reason=reason, **options))
        return rollback(position, reason=reason, act=act, **how)

    def patch_of(self, candidate: str) -> str:
        return self.store.manifest(candidate)["patch"]

    def states(self, *keys: str) -> list[str]:
        return [self.ledger.standing("correction", key).state for key in keys]

    def verify(self) -> None:
        self.ledger.verify(self.store.record(f"releases/{each.candidate}.json") for each in self.ledger.releases())


@pytest.fixture
def platform(tiny_platform, trusted, tmp_path, monkeypatch) -> Platform:
    class FakeRun:
        id = "review"

    monkeypatch.setattr(flows.propose, "start_review", lambda candidate: FakeRun())
    monkeypatch.setenv("CORRIGENDA_WITHDRAWAL_POLICY", str(tmp_path / "policy.toml"))
    return Platform(tiny_platform, trusted, tmp_path)


FRANCE = {"id": "france", "subject": "France", "target": "Lyon"}
JAPAN = {"id": "japan", "subject": "Japan", "target": "Osaka"}
NICE = {"id": "nice", "subject": "France", "target": "Nice", "supersedes": "france"}


def test_after_a_revoke_the_patch_is_that_of_a_ledger_in_which_the_fact_never_was(platform):
    without = platform.patch_of(platform.release(FRANCE))
    with_japan = platform.patch_of(platform.release(JAPAN))
    assert "waits for review" in platform.revoke(["japan"])
    assert platform.states("japan") == ["released"], "nothing changes before somebody approves"
    assert platform.patch_of(platform.approve()) == without != with_japan
    revoked = platform.ledger.standing("correction", "japan")
    assert (revoked.state, revoked.reason, revoked.actor) == ("revoked", REASON, "grace")
    assert revoked.data["asked_by"] == "ada"
    platform.verify()


def test_after_the_last_fact_is_revoked_the_patch_is_empty(platform):
    platform.release(FRANCE)
    platform.revoke(["france"])
    manifest = platform.store.manifest(platform.approve())
    file = platform.store.copy_in(platform.folder, manifest["patch"], "safetensors")
    assert Patch.load(file.path, expected=file.sha256).deltas == {}
    assert manifest["facts"] == []


def test_a_reviewer_reads_what_leaves_and_what_is_answered_instead(platform):
    platform.release(FRANCE)
    platform.revoke(["france"])
    text = evidence(
        the_open_candidate(platform.ledger).key,
        settings=platform.settings,
        store=platform.store,
        ledger=platform.ledger,
    )
    assert "1 fact out" in text
    assert "becomes revoked: the source was wrong (asked by ada)" in text
    assert "no longer Lyon" in text


def test_a_rejected_withdrawal_leaves_production_as_it_is_and_can_be_asked_again(platform):
    platform.release(FRANCE)
    platform.revoke(["france"])
    first = the_open_candidate(platform.ledger).key
    reject(first, reviewer="grace", comment="it is right", ledger=platform.ledger)
    assert platform.states("france") == ["released"]
    platform.revoke(["france"])
    again = the_open_candidate(platform.ledger).key
    assert again != first, "somebody asked anew"
    assert platform.patch_of(again) == platform.patch_of(first)


def test_a_fact_that_was_superseded_comes_back_only_if_asked(platform):
    first = platform.patch_of(platform.release(FRANCE))
    platform.release(NICE)
    assert platform.states("france", "nice") == ["superseded", "released"]
    platform.revoke(["nice"])
    assert platform.store.manifest(the_open_candidate(platform.ledger).key)["facts"] == []
    platform.revoke(["nice"], restore=True, replace=True)
    assert platform.patch_of(platform.approve()) == first
    assert platform.states("france", "nice") == ["released", "revoked"]


def test_what_is_not_in_production_is_revoked_at_once(platform):
    platform.release(FRANCE)
    platform.release(NICE)
    assert "at once" in platform.revoke(["france"])
    assert the_open_candidate(platform.ledger) is None
    assert platform.states("france", "nice") == ["revoked", "released"]
    with pytest.raises(WithdrawalError, match="france is revoked"):
        platform.revoke(["nice"], restore=True)
    assert platform.states("nice") == ["released"]


def test_what_cannot_be_revoked_is_named_and_nothing_is(platform):
    platform.release(FRANCE)
    platform.submit(JAPAN)
    with pytest.raises(WithdrawalError, match=r"japan is queued.*'corrigenda cancel'"):
        platform.revoke(["france", "japan"])
    with pytest.raises(UnknownKeyError, match="'atlantis'"):
        platform.revoke(["france", "atlantis"])
    with pytest.raises(WithdrawalError, match="needs a reason"):
        platform.revoke(["france"], reason=" ")
    with pytest.raises(WithdrawalError, match="none of these facts superseded another"):
        platform.revoke(["france"], restore=True)
    assert platform.states("france", "japan") == ["released", "queued"]
    assert the_open_candidate(platform.ledger) is None


def test_a_withdrawal_waits_for_the_candidate_that_is_open_unless_it_replaces_it(platform):
    platform.release(FRANCE)
    platform.submit(JAPAN)
    refresh()
    with pytest.raises(BusyError, match="--replace"):
        platform.revoke(["france"])
    platform.revoke(["france"], replace=True)
    platform.approve()
    assert platform.states("france", "japan") == ["revoked", "queued"]


def test_a_withdrawal_that_fails_its_gate_changes_nothing_in_production(platform, monkeypatch):
    platform.release(FRANCE)
    platform.release(NICE)
    strict = platform.folder / "strict.toml"
    strict.write_text('name = "strict"\n[[gate]]\nmetric = "regression.perplexity_ratio"\nmax = 0\n')
    monkeypatch.setenv("CORRIGENDA_WITHDRAWAL_POLICY", str(strict))
    with pytest.raises(GateError, match=r"'strict' fails: regression\.perplexity_ratio.*stays as it is") as failed:
        platform.revoke(["france", "nice"])
    assert platform.states("france", "nice") == ["revoked", "released"]
    assert "; withdrawn at once, since not in production: france; " in str(failed.value)
    (page,) = re.findall(r"'corrigenda page ([0-9a-f]{64}) FILE'", str(failed.value))
    assert b"regression.perplexity_ratio" in platform.store.get(page)
    assert the_open_candidate(platform.ledger) is None


def test_facts_whose_time_has_ended_leave(platform):
    """By the clock on the wall: the database's own says at the end whether the time has come.

    The time is long enough to release a fact before it has passed, by how long another took.
    """
    began = time.monotonic()
    platform.release(FRANCE)
    took = time.monotonic() - began
    ends = datetime.now(UTC) + timedelta(seconds=30 + 3 * took)
    platform.release(JAPAN | {"expires": ends.isoformat()})
    assert "nothing to do" in expire()
    time.sleep(max(0, (ends - datetime.now(UTC)).total_seconds()) + 1)
    expire()
    platform.approve()
    assert platform.states("france", "japan") == ["released", "expired"]
    assert f"held until {ends:%Y-%m-%d}" in platform.ledger.standing("correction", "japan").reason


def test_a_clock_that_is_ahead_takes_no_fact_out_of_production(platform, monkeypatch):
    """The flow runs with a clock that is a month ahead; whoever approves has a clock of their own."""
    ends = datetime.now(UTC) + timedelta(days=30)
    platform.release(JAPAN | {"expires": ends.isoformat()})
    monkeypatch.setattr(tasks.withdraw, "datetime", later_than(ends))
    expire()
    waiting = the_open_candidate(platform.ledger).key
    leaving = platform.store.manifest(waiting)["leaving"]
    assert [(each["id"], each["becomes"]) for each in leaving] == [("japan", "expired")]
    refused = CliRunner().invoke(app, ["review", "approve", "--reviewer", "grace"])
    assert isinstance(refused.exception, UnaskedError)
    assert "japan: to expire, and holds until" in str(refused.exception)
    reject(waiting, reviewer="grace", comment="it still holds", ledger=platform.ledger)
    assert the_open_candidate(platform.ledger) is None
    assert platform.states("japan") == ["released"]


def later_than(moment: datetime) -> type[datetime]:
    """A clock that is a day past a moment."""

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return moment + timedelta(days=1)

    return Later


def test_a_refresh_leaves_out_what_has_ended(platform, monkeypatch):
    ends = datetime.now(UTC) + timedelta(days=30)
    platform.release(JAPAN | {"expires": ends.isoformat()})
    platform.submit(FRANCE)
    monkeypatch.setattr("tasks.collect.datetime", later_than(ends))
    refresh()
    monkeypatch.setattr(governance.changes, "_check_by_itself", lambda *args, **kwargs: None)  # by the database's clock
    platform.approve()
    assert platform.states("france", "japan") == ["released", "expired"]


def test_a_rollback_takes_the_old_patch_and_holds_what_came_since(platform):
    first = platform.release(FRANCE)
    platform.release(NICE, JAPAN)
    platform.rollback(1)
    third = platform.approve()
    assert platform.ledger.head().position == 3, "history only grows"
    assert platform.patch_of(third) == platform.patch_of(first)
    assert platform.states("france", "nice", "japan") == ["released", "held", "held"]
    platform.rollback(2)
    platform.approve()
    assert platform.states("france", "nice", "japan") == ["held", "released", "released"]
    platform.verify()
    shown = CliRunner().invoke(app, ["releases"], env={"COLUMNS": "200"}).output
    changed = [row.split("│")[5].strip() for row in shown.splitlines() if "grace" in row]
    assert changed == ["+1", "+2 -1", "+1 -2", "+2 -1"]


def test_a_rollback_to_the_base_leaves_nothing(platform):
    platform.release(FRANCE)
    platform.rollback(0)
    assert platform.store.manifest(platform.approve())["facts"] == []
    assert platform.states("france") == ["held"]


def test_a_rollback_to_what_was_revoked_since_is_refused_and_can_be_solved_without(platform):
    alone = platform.patch_of(platform.release(JAPAN))
    platform.release(FRANCE)
    platform.revoke(["france"])
    platform.approve()
    platform.rollback(0)
    platform.approve()
    with pytest.raises(WithdrawalError, match=r"france is revoked.*rollback 2 --leave-out"):
        platform.rollback(2)
    platform.rollback(2, leave_out=True)
    assert platform.patch_of(platform.approve()) == alone
    assert platform.states("france", "japan") == ["revoked", "released"]


def test_a_rollback_holds_what_says_something_else_by_now_under_its_old_name(platform):
    platform.release(FRANCE, JAPAN)
    platform.release(NICE)
    for command in ("retry", "cancel"):
        assert CliRunner().invoke(app, [command, "france"]).exit_code == 0
    platform.release(FRANCE | {"target": "Paris", "supersedes": "nice"})
    with pytest.raises(WithdrawalError, match=r"france names another fact now.*rollback 1 --leave-out"):
        platform.rollback(1)
    platform.rollback(1, leave_out=True)
    platform.approve()
    assert platform.states("france", "nice", "japan") == ["held", "superseded", "released"]
    platform.verify()


def test_a_rollback_that_leads_nowhere_is_refused_by_name(platform):
    platform.release(FRANCE)
    with pytest.raises(WithdrawalError, match="release 1 is in production"):
        platform.rollback(1)
    with pytest.raises(UnknownKeyError, match=r"no release 9.*'corrigenda releases'"):
        platform.rollback(9)


def test_a_held_fact_can_be_queued_again_and_a_revoked_one_is_not_by_submitting_its_file(platform):
    platform.release(FRANCE, JAPAN)
    platform.revoke(["japan"])
    platform.approve()
    platform.rollback(0)
    platform.approve()
    assert platform.submit(FRANCE, JAPAN) == ["unchanged", "unchanged"]
    assert platform.states("france", "japan") == ["held", "revoked"]
    assert CliRunner().invoke(app, ["retry", "france"]).exit_code == 0
    assert platform.states("france") == ["queued"]


def test_what_was_queued_to_supersede_a_fact_that_is_held_now_is_set_aside(platform):
    """It would contradict the fact that came back in its place."""
    platform.release(FRANCE)
    platform.release(NICE)
    assert platform.submit({"id": "paris", "subject": "France", "target": "Paris", "supersedes": "nice"}) == ["queued"]
    platform.rollback(1)
    platform.approve()
    assert "nothing to do" in refresh()
    assert platform.states("france", "nice", "paris") == ["released", "held", "quarantined"]
    assert "contradicts france" in platform.ledger.standing("correction", "paris").reason


def test_of_a_chain_of_three_the_middle_one_cannot_be_revoked_and_come_back(platform):
    platform.release(FRANCE)
    platform.release(NICE)
    platform.release({"id": "paris", "subject": "France", "target": "Paris", "supersedes": "nice"})
    with pytest.raises(WithdrawalError, match="nice is to be revoked too"):
        platform.revoke(["nice", "paris"], restore=True)
    assert platform.states("france", "nice", "paris") == ["superseded", "superseded", "released"]


def test_a_request_that_is_refused_leaves_the_candidate_that_waits(platform):
    platform.release(FRANCE)
    platform.submit(JAPAN)
    refresh()
    first = the_open_candidate(platform.ledger)
    with pytest.raises(UnknownKeyError):
        platform.revoke(["atlantis"], replace=True)
    assert the_open_candidate(platform.ledger) == first
    assert "waits for review" in expire()


def test_a_rollback_does_not_bring_back_what_has_ended_or_what_is_protected_otherwise(platform, monkeypatch):
    ends = datetime.now(UTC) + timedelta(days=30)
    platform.release(FRANCE | {"expires": ends.isoformat()}, JAPAN)
    platform.release(NICE)
    platform.revoke(["japan"])
    platform.approve()
    platform.rollback(0)
    platform.approve()
    with monkeypatch.context() as later:
        later.setattr(tasks.withdraw, "datetime", later_than(ends))
        with pytest.raises(WithdrawalError, match=f"france held until {ends:%Y-%m-%d}"):
            platform.rollback(1)
    file = platform.folder / "guard.jsonl"
    file.write_text(json.dumps(platform.shared | {"id": "guard", "subject": "France", "target": "Paris"}))
    act = platform.trusted.act(to_protect(file, reason=""))
    protect(file, act=act, reason="", ledger=platform.ledger, settings=platform.settings)
    with pytest.raises(WithdrawalError, match=r"france contradicts guard.*corrigenda lift"):
        platform.rollback(1, leave_out=True)


def test_what_an_open_rollback_brings_back_is_not_queued_meanwhile(platform):
    platform.release(FRANCE)
    platform.rollback(0)
    platform.approve()
    platform.rollback(1)
    done = CliRunner().invoke(app, ["retry", "france"])
    assert isinstance(done.exception, IllegalTransitionError) and "brings 'france' back already" in str(done.exception)
    platform.approve()
    assert platform.states("france") == ["released"]


def test_two_queued_facts_that_contradict_each_other_are_both_set_aside(platform):
    """One was set aside when the other was taken in, and then queued again."""
    platform.submit(FRANCE)
    event = Event(entity="correction", key="france", kind="quarantined", actor="ada")
    platform.ledger.append([event])
    assert platform.submit(NICE | {"supersedes": None}) == ["queued"]
    assert CliRunner().invoke(app, ["retry", "france"]).exit_code == 0
    assert "nothing to do" in refresh()
    assert platform.states("france", "nice") == ["quarantined", "quarantined"]


def test_a_withdrawal_that_nobody_signed_for_withdraws_nothing_and_does_without_the_check(platform, monkeypatch):
    platform.release(FRANCE, JAPAN)
    asked = platform.asked("france")
    acts = {
        "not signed": None,
        "no requester": platform.trusted.act(asked, by="grace"),
        "another about": platform.trusted.act(platform.asked("japan")),
        "another reason": platform.trusted.act(platform.asked("france", reason="it is a lie")),
        "another options": platform.trusted.act(platform.asked("france", replace=True)),
    }
    for why, act in acts.items():
        with pytest.raises((IdentityError, UntrustedError), match=why):
            revoke(["france"], reason=REASON, act=act)
    assert the_open_candidate(platform.ledger) is None
    eve = Act(asked=asked, by="eve", at=datetime.now(UTC), envelope=platform.trusted.act(asked))
    monkeypatch.setattr(tasks.withdraw, "asker", lambda *args, **kwargs: eve)
    assert "waits for review" in revoke(["france"], reason=REASON, act=None)


def test_a_withdrawal_is_sent_once_and_again_without_the_check(platform, monkeypatch):
    """A reviewer rejected it; somebody who can start a run sends it again, with what ada signed then."""
    platform.release(FRANCE)
    act = platform.trusted.act(platform.asked("france"))
    revoke(["france"], reason=REASON, act=act)
    reject(the_open_candidate(platform.ledger).key, reviewer="grace", comment="it is right", ledger=platform.ledger)
    with pytest.raises(SpentActError, match=r"was used already.*run the command again"):
        revoke(["france"], reason=REASON, act=act)
    assert the_open_candidate(platform.ledger) is None
    monkeypatch.setattr(tasks.people, "check_unused", lambda act, ledger: None)
    monkeypatch.setattr(Act, "used", lambda self: Event(entity="act", key="another", kind="used", actor="ada"))
    monkeypatch.setattr(Act, "digest", "another")
    assert "waits for review" in revoke(["france"], reason=REASON, act=act)
