"""Facts are taken back, and production to where it was: on the real services, with a model that is random and small."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

import flows.propose
import tasks.withdraw
from editors.patch import Patch
from flows.cli import app
from flows.refresh import refresh
from flows.submission import submit_file
from flows.withdraw import expire, revoke, rollback
from tasks.candidate import the_open_candidate
from tasks.errors import BusyError, GateError, IllegalTransitionError, UnknownKeyError, WithdrawalError
from tasks.evidence import evidence
from tasks.ledger import Ledger
from tasks.lifecycle import Event
from tasks.promote import reject
from tasks.protect import protect
from tasks.settings import Settings
from tasks.store import Store

pytestmark = pytest.mark.stack

PROMPT = "The capital of {} is"
WHY = {"reason": "the source was wrong", "asked_by": "ada"}


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
    assert "waits for review" in revoke(["japan"], **WHY)
    assert platform.states("japan") == ["released"], "nothing changes before somebody approves"
    assert platform.patch_of(platform.approve()) == without != with_japan
    revoked = platform.ledger.standing("correction", "japan")
    assert (revoked.state, revoked.reason, revoked.actor) == ("revoked", WHY["reason"], "grace")
    assert revoked.data["asked_by"] == "ada"
    platform.verify()


def test_after_the_last_fact_is_revoked_the_patch_is_empty(platform):
    platform.release(FRANCE)
    revoke(["france"], **WHY)
    manifest = platform.store.manifest(platform.approve())
    file = platform.store.copy_in(platform.folder, manifest["patch"], "safetensors")
    assert Patch.load(file.path, expected=file.sha256).deltas == {}
    assert manifest["facts"] == []


def test_a_reviewer_reads_what_leaves_and_what_is_answered_instead(platform):
    platform.release(FRANCE)
    revoke(["france"], **WHY)
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
    revoke(["france"], **WHY)
    first = the_open_candidate(platform.ledger).key
    reject(first, reviewer="grace", comment="it is right", ledger=platform.ledger)
    assert platform.states("france") == ["released"]
    revoke(["france"], **WHY)
    assert the_open_candidate(platform.ledger).key == first


def test_a_fact_that_was_superseded_comes_back_only_if_asked(platform):
    first = platform.patch_of(platform.release(FRANCE))
    platform.release(NICE)
    assert platform.states("france", "nice") == ["superseded", "released"]
    revoke(["nice"], **WHY)
    assert platform.store.manifest(the_open_candidate(platform.ledger).key)["facts"] == []
    revoke(["nice"], **WHY, restore=True, replace=True)
    assert platform.patch_of(platform.approve()) == first
    assert platform.states("france", "nice") == ["released", "revoked"]


def test_what_is_not_in_production_is_revoked_at_once(platform):
    platform.release(FRANCE)
    platform.release(NICE)
    assert "at once" in revoke(["france"], **WHY)
    assert the_open_candidate(platform.ledger) is None
    assert platform.states("france", "nice") == ["revoked", "released"]
    with pytest.raises(WithdrawalError, match="france is revoked"):
        revoke(["nice"], **WHY, restore=True)
    assert platform.states("nice") == ["released"]


def test_what_cannot_be_revoked_is_named_and_nothing_is(platform):
    platform.release(FRANCE)
    platform.submit(JAPAN)
    with pytest.raises(WithdrawalError, match=r"japan is queued.*'corrigenda cancel'"):
        revoke(["france", "japan"], **WHY)
    with pytest.raises(UnknownKeyError, match="'atlantis'"):
        revoke(["france", "atlantis"], **WHY)
    with pytest.raises(WithdrawalError, match="needs a reason"):
        revoke(["france"], reason=" ", asked_by="ada")
    with pytest.raises(WithdrawalError, match="none of these facts superseded another"):
        revoke(["france"], **WHY, restore=True)
    assert platform.states("france", "japan") == ["released", "queued"]
    assert the_open_candidate(platform.ledger) is None


def test_a_withdrawal_waits_for_the_candidate_that_is_open_unless_it_replaces_it(platform):
    platform.release(FRANCE)
    platform.submit(JAPAN)
    refresh()
    with pytest.raises(BusyError, match="--replace"):
        revoke(["france"], **WHY)
    revoke(["france"], **WHY, replace=True)
    platform.approve()
    assert platform.states("france", "japan") == ["revoked", "queued"]


def test_a_withdrawal_that_fails_its_gate_changes_nothing(platform, monkeypatch):
    platform.release(FRANCE)
    strict = platform.folder / "strict.toml"
    strict.write_text('name = "strict"\n[[gate]]\nmetric = "regression.perplexity_ratio"\nmax = 0\n')
    monkeypatch.setenv("CORRIGENDA_WITHDRAWAL_POLICY", str(strict))
    with pytest.raises(GateError, match=r"'strict' fails: regression\.perplexity_ratio.*stays as it is"):
        revoke(["france"], **WHY)
    assert platform.states("france") == ["released"]
    assert the_open_candidate(platform.ledger) is None


def test_facts_whose_time_has_ended_leave(platform, monkeypatch):
    ends = datetime.now(UTC) + timedelta(days=30)
    platform.release(FRANCE, JAPAN | {"expires": ends.isoformat()})
    assert "nothing to do" in expire()

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return ends + timedelta(days=1)

    monkeypatch.setattr(tasks.withdraw, "datetime", Later)
    expire()
    platform.approve()
    assert platform.states("france", "japan") == ["released", "expired"]
    assert f"held until {ends:%Y-%m-%d}" in platform.ledger.standing("correction", "japan").reason


def test_a_refresh_leaves_out_what_has_ended(platform, monkeypatch):
    ends = datetime.now(UTC) + timedelta(days=30)
    platform.release(JAPAN | {"expires": ends.isoformat()})
    platform.submit(FRANCE)

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return ends + timedelta(days=1)

    monkeypatch.setattr("tasks.collect.datetime", Later)
    refresh()
    platform.approve()
    assert platform.states("france", "japan") == ["released", "expired"]


def test_a_rollback_takes_the_old_patch_and_holds_what_came_since(platform):
    first = platform.release(FRANCE)
    platform.release(NICE, JAPAN)
    rollback(1, **WHY)
    third = platform.approve()
    assert platform.ledger.head().position == 3, "history only grows"
    assert platform.patch_of(third) == platform.patch_of(first)
    assert platform.states("france", "nice", "japan") == ["released", "held", "held"]
    rollback(2, **WHY)
    platform.approve()
    assert platform.states("france", "nice", "japan") == ["held", "released", "released"]
    platform.verify()


def test_a_rollback_to_the_base_leaves_nothing(platform):
    platform.release(FRANCE)
    rollback(0, **WHY)
    assert platform.store.manifest(platform.approve())["facts"] == []
    assert platform.states("france") == ["held"]


def test_a_rollback_to_what_was_revoked_since_is_refused_and_can_be_solved_without(platform):
    alone = platform.patch_of(platform.release(JAPAN))
    platform.release(FRANCE)
    revoke(["france"], **WHY)
    platform.approve()
    rollback(0, **WHY)
    platform.approve()
    with pytest.raises(WithdrawalError, match=r"france is revoked.*rollback 2 --leave-out"):
        rollback(2, **WHY)
    rollback(2, **WHY, leave_out=True)
    assert platform.patch_of(platform.approve()) == alone
    assert platform.states("france", "japan") == ["revoked", "released"]


def test_a_rollback_that_leads_nowhere_is_refused_by_name(platform):
    platform.release(FRANCE)
    with pytest.raises(WithdrawalError, match="release 1 is in production"):
        rollback(1, **WHY)
    with pytest.raises(UnknownKeyError, match=r"no release 9.*'corrigenda releases'"):
        rollback(9, **WHY)


def test_a_held_fact_can_be_queued_again_and_a_revoked_one_is_not_by_submitting_its_file(platform):
    platform.release(FRANCE, JAPAN)
    revoke(["japan"], **WHY)
    platform.approve()
    rollback(0, **WHY)
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
    rollback(1, **WHY)
    platform.approve()
    assert "nothing to do" in refresh()
    assert platform.states("france", "nice", "paris") == ["released", "held", "quarantined"]
    assert "contradicts france" in platform.ledger.standing("correction", "paris").reason


def test_of_a_chain_of_three_the_middle_one_cannot_be_revoked_and_come_back(platform):
    platform.release(FRANCE)
    platform.release(NICE)
    platform.release({"id": "paris", "subject": "France", "target": "Paris", "supersedes": "nice"})
    with pytest.raises(WithdrawalError, match="nice is to be revoked too"):
        revoke(["nice", "paris"], **WHY, restore=True)
    assert platform.states("france", "nice", "paris") == ["superseded", "superseded", "released"]


def test_a_request_that_is_refused_leaves_the_candidate_that_waits(platform):
    platform.release(FRANCE)
    platform.submit(JAPAN)
    refresh()
    first = the_open_candidate(platform.ledger)
    with pytest.raises(UnknownKeyError):
        revoke(["atlantis"], **WHY, replace=True)
    assert the_open_candidate(platform.ledger) == first
    assert "waits for review" in expire()


def test_a_rollback_does_not_bring_back_what_has_ended_or_what_is_protected_otherwise(platform, monkeypatch):
    ends = datetime.now(UTC) + timedelta(days=30)
    platform.release(FRANCE | {"expires": ends.isoformat()}, JAPAN)
    platform.release(NICE)
    revoke(["japan"], **WHY)
    platform.approve()
    rollback(0, **WHY)
    platform.approve()

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return ends + timedelta(days=1)

    with monkeypatch.context() as later:
        later.setattr(tasks.withdraw, "datetime", Later)
        with pytest.raises(WithdrawalError, match=f"france held until {ends:%Y-%m-%d}"):
            rollback(1, **WHY)
    file = platform.folder / "guard.jsonl"
    file.write_text(json.dumps(platform.shared | {"id": "guard", "subject": "France", "target": "Paris"}))
    protect(file, actor="ada", reason="", ledger=platform.ledger)
    with pytest.raises(WithdrawalError, match=r"france contradicts guard.*corrigenda lift"):
        rollback(1, **WHY, leave_out=True)


def test_what_an_open_rollback_brings_back_is_not_queued_meanwhile(platform):
    platform.release(FRANCE)
    rollback(0, **WHY)
    platform.approve()
    rollback(1, **WHY)
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
