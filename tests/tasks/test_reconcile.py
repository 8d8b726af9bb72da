"""What a crash or a hand leaves between ledger, MLflow, store and Prefect is found, and put right where it may be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.orchestration import get_client
from prefect.states import Cancelled, Crashed, Running, Suspended

from governance.lifecycle import Event
from infra.layout import read_layout
from infra.objectstore import admin_client
from tasks.collect import events_for
from tasks.errors import UnreachableError
from tasks.findings import Finding
from tasks.housekeeping import keep_house
from tasks.ledger import Ledger
from tasks.promote import promote
from tasks.reconcile import reconcile
from tasks.register import aliased, registry
from tasks.reviews import review_runs, start_review
from tasks.runs import begin, mark_dead_runs
from tasks.store import Store

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("no_promoter")]


class Platform:
    """The promoter's view of a test's own ledger, store and registered model."""

    def __init__(self, trusted) -> None:
        self.trusted = trusted
        self.settings = trusted.promoter
        self.ledger = Ledger(self.settings.database_url)
        self.store = Store(self.settings)

    def reconcile(self, *, minutes: float = 0) -> list[Finding]:
        return reconcile(settings=self.settings, ledger=self.ledger, now=datetime.now(UTC), minutes=minutes)

    def approve(self, candidate: str):
        return self.trusted.approve(candidate)

    def release(self, candidate: str):
        release = self.approve(candidate)
        promote(release, settings=self.settings, ledger=self.ledger)
        return release

    def state(self, candidate: str) -> str:
        return self.ledger.standing("candidate", candidate).state


@pytest.fixture
def platform(trusted, tiny_platform, take_away) -> Platform:
    """The promoter's view; what other tests with other ledgers released in the same bucket is gone."""
    take_away("releases/")
    found = Platform(trusted)
    mark_dead_runs(found.ledger, now=datetime.now(UTC), minutes=0)  # what other tests left
    return found


def told(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.outcome, finding.what) for finding in findings]


def test_where_all_agree_nothing_is_found(platform, open_made):
    assert platform.reconcile() == []
    first = open_made()
    platform.release(first)
    platform.release(open_made(parent=first))
    assert platform.reconcile() == []
    assert aliased(platform.settings) == {"champion": "2", "previous": "1"}


def test_what_a_killed_process_did_not_tell_is_told(platform, open_made, monkeypatch):
    with monkeypatch.context() as killed:
        killed.setattr("tasks.promote.tell_news", lambda ledger: None)
        candidate = open_made()
        platform.release(candidate)
    assert platform.ledger.standings("notice") == []
    assert platform.reconcile() == [], "being told is no fault that anybody has to see"
    notices = [s.content["notice"] for s in platform.ledger.standings("notice")]
    assert {(each["kind"], each["candidate"]) for each in notices} == {("approved", candidate), ("promoted", candidate)}
    platform.reconcile()
    assert len(platform.ledger.standings("notice")) == 2


def test_what_was_put_right_before_a_service_went_away_is_told_all_the_same(platform, open_made, monkeypatch):
    platform.approve(open_made())

    def away(settings):
        raise UnreachableError("MLflow doesn't answer")

    with monkeypatch.context() as outage, pytest.raises(UnreachableError):
        outage.setattr("tasks.reconcile.aliased", away)
        platform.reconcile()
    told = [s.content["notice"]["text"] for s in platform.ledger.standings("notice")]
    assert any("1 repaired" in text for text in told)


def test_a_promotion_that_never_ended_is_ended(platform, open_made):
    candidate = open_made()
    platform.approve(candidate)
    assert told(platform.reconcile()) == [("repaired", "its promotion never ended")]
    assert platform.state(candidate) == "promoted" and aliased(platform.settings) == {"champion": "1"}
    assert platform.store.record(f"releases/{candidate}.json")["position"] == 1
    assert platform.reconcile() == []


def test_a_candidate_whose_reviewers_approved_it_is_promoted_whatever_became_of_the_run(platform, open_made):
    candidate = open_made()
    platform.trusted.receipt(candidate)
    assert told(platform.reconcile()) == [("repaired", "its reviewers approved it, and it was not promoted")]
    assert platform.state(candidate) == "promoted" and aliased(platform.settings) == {"champion": "1"}


def test_a_review_that_waits_when_reconcile_promotes_is_closed(platform, open_made):
    candidate = open_made()
    run = start_review(candidate)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Suspended(timeout_seconds=3600, pause_key="decision-1"), force=True)
    platform.trusted.receipt(candidate)
    platform.reconcile()
    assert platform.state(candidate) == "promoted"
    assert [each.state.name for each in review_runs(candidate)] == ["Cancelled"]


@pytest.mark.parametrize("over", [False, True])
def test_a_rejection_that_its_review_was_not_told_is_carried_out_also_when_its_time_is_over(platform, open_made, over):
    candidate = open_made()
    run = start_review(candidate)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Suspended(timeout_seconds=3600, pause_key="decision-1"), force=True)
    later = platform.settings.model_copy(update={"review_timeout_hours": 0.0}) if over else platform.settings
    platform.trusted.receipt(candidate, decision="reject")
    now = datetime.now(UTC)
    assert keep_house(settings=later, ledger=platform.ledger, now=now, minutes=1e6) == []
    (found,) = reconcile(settings=later, ledger=platform.ledger, now=now)
    assert found.outcome == "repaired" and "waited for a decision that is recorded" in found.what
    closed, following = review_runs(candidate)
    assert closed.id == run.id and closed.state.is_crashed() and not following.state.is_final()
    assert platform.reconcile() == [], "one review is enough"


def test_a_review_is_started_anew_also_where_an_earlier_run_was_deleted(platform, open_made):
    candidate = open_made()
    with get_client(sync_client=True) as client:
        runs = []
        for _ in range(2):
            runs.append(start_review(candidate))
            client.set_flow_run_state(runs[-1].id, Cancelled(), force=True)
        client.delete_flow_run(runs[0].id)
    third = start_review(candidate)
    assert third.id not in {run.id for run in runs} and not third.state.is_final()


def test_a_release_that_no_receipts_stand_behind_is_not_published(platform, open_made):
    candidate = open_made()
    platform.ledger.release(
        candidate,
        parent="base",
        new=[Event(entity="candidate", key=candidate, kind="approved", actor="eve", data={"receipts": []})],
    )
    (found,) = platform.reconcile()
    assert found.outcome == "left" and "no receipts stand behind it" in found.what
    assert aliased(platform.settings) == {} and platform.store.record(f"releases/{candidate}.json") is None


def test_a_promotion_that_a_later_one_overtook_gets_its_record_and_leaves_the_alias(platform, open_made):
    first = open_made()
    late = platform.approve(first)
    platform.release(open_made(parent=first))
    assert told(platform.reconcile()) == [("repaired", "its promotion never ended")]
    promote(late, settings=platform.settings, ledger=platform.ledger)
    assert aliased(platform.settings) == {"champion": "2", "previous": "1"}


def test_a_lost_record_is_written_again(platform, open_made, take_away):
    candidate = open_made()
    platform.release(candidate)
    record = platform.store.read(f"releases/{candidate}.json")
    take_away(f"releases/{candidate}.json")
    assert told(platform.reconcile()) == [
        ("repaired", "its manifest, its signature or a receipt was missing in the store")
    ]
    assert platform.store.read(f"releases/{candidate}.json") == record


def test_a_lost_signature_is_made_again_and_another_ones_is_told(platform, open_made, take_away):
    first = open_made()
    platform.release(first)
    second = open_made(parent=first)
    platform.release(second)
    take_away(f"releases/{second}.sig")
    assert told(platform.reconcile()) == [
        ("repaired", "its manifest, its signature or a receipt was missing in the store")
    ]
    assert platform.reconcile() == []
    take_away(f"releases/{second}.sig")
    platform.store.put_record(f"releases/{second}.sig", platform.store.record(f"releases/{first}.sig"))
    (found,) = platform.reconcile()
    assert found.outcome == "left" and "does not sign it" in found.what


def test_an_alias_moved_by_hand_is_told_and_put_back(platform, open_made):
    first = open_made()
    platform.release(first)
    open_made(parent=first)
    move = registry(platform.settings).set_registered_model_alias
    move(platform.settings.registered_model, "champion", "2")
    (found, _review) = platform.reconcile()
    assert (found.outcome, found.where) == ("repaired", "alias champion") and "version 2" in found.what
    assert aliased(platform.settings) == {"champion": "1"}


def test_an_alias_before_any_release_is_left_for_a_person(platform, open_made):
    open_made()
    registry(platform.settings).set_registered_model_alias(platform.settings.registered_model, "champion", "1")
    found = platform.reconcile()
    assert told(found)[0] == ("left", "it stands for version 1")
    assert aliased(platform.settings) == {"champion": "1"}, "nothing is deleted"


def test_missing_and_altered_objects_of_a_release_are_left_for_a_person(platform, open_made, take_away, stack):
    candidate = open_made()
    platform.release(candidate)
    manifest = platform.store.manifest(candidate)
    take_away(f"blobs/{manifest['patch']}")
    admin_client(read_layout(stack.home)).put_object(
        Bucket=stack.s3_bucket, Key=f"blobs/{manifest['report']}", Body=b"a better report"
    )
    missing, altered = platform.reconcile()
    assert missing.outcome == altered.outcome == "left"
    assert f"blobs/{manifest['patch']}" in missing.what and "is missing" in missing.what
    assert f"blobs/{manifest['report']}" in altered.what and "holds other content" in altered.what


def test_a_candidate_that_is_not_whole_is_not_promoted(platform, open_made, take_away):
    candidate = open_made()
    platform.approve(candidate)
    take_away(f"blobs/{platform.store.manifest(candidate)['patch']}")
    (found,) = platform.reconcile()
    assert found.outcome == "left"
    assert platform.state(candidate) == "approved" and aliased(platform.settings) == {}


def test_versions_that_the_ledger_does_not_know_are_told(platform, open_made):
    candidate = open_made()
    platform.release(candidate)
    client, name = registry(platform.settings), platform.settings.registered_model
    client.create_model_version(name, source="s3://none/model")
    client.create_model_version(name, source="s3://none/model", tags={"corrigenda.candidate": "f" * 64})
    client.create_model_version(name, source="s3://none/model", tags={"corrigenda.candidate": candidate})
    found = {finding.where: finding for finding in platform.reconcile()}
    assert {finding.outcome for finding in found.values()} == {"left"}
    assert found[f"version 2 of {name}"].what == "it names no candidate"
    assert "knows no candidate ffffffffffff" in found[f"version 3 of {name}"].what
    assert "delete 4 in MLflow" in found[f"version 1, 4 of {name}"].way_out


def test_a_version_that_a_killed_refresh_left_is_harmless(platform, open_made):
    candidate = open_made(opened=False)
    assert told(platform.reconcile()) == [("harmless", f"candidate {candidate[:12]} was never opened")]


def test_a_release_whose_version_was_deleted_is_left_for_a_person(platform, open_made):
    platform.release(open_made())
    registry(platform.settings).delete_model_version(platform.settings.registered_model, "1")
    (found,) = platform.reconcile()
    assert found.outcome == "left" and "has no version" in found.what


def test_where_the_ledger_is_not_whole_nothing_is_repaired(platform, open_made):
    first, second = open_made(), open_made("never released")
    platform.approve(first)
    platform.store.put_record(f"releases/{second}.json", {"candidate": second, "position": 9, "parent": first})
    (found,) = platform.reconcile()
    assert found.outcome == "left" and found.where == "the ledger"
    assert platform.state(first) == "approved"


@pytest.mark.parametrize("end", ["cancelled", "crashed", "deleted", "never started"])
def test_an_open_candidate_whose_review_ended_is_asked_about_again(platform, open_made, end):
    candidate = open_made()
    if end != "never started":
        run = start_review(candidate)
        with get_client(sync_client=True) as client:
            if end == "deleted":
                client.delete_flow_run(run.id)
            else:
                client.set_flow_run_state(run.id, {"cancelled": Cancelled, "crashed": Crashed}[end](), force=True)
    (found,) = platform.reconcile()
    assert found.outcome == "repaired" and found.where == f"candidate {candidate[:12]}"
    assert [run.state.is_final() for run in review_runs(candidate)][-1] is False
    assert platform.reconcile() == [], "one review is enough"


def test_a_review_that_broke_down_after_its_answer_is_started_again_and_no_other_is_opened(platform, open_made):
    candidate = open_made()
    run = start_review(candidate)
    with get_client(sync_client=True) as client:
        client.create_flow_run_input(run.id, "suspended-decision-1-response", "{}")
        client.set_flow_run_state(run.id, Crashed(), force=True)
    (found,) = platform.reconcile()
    assert "after it was answered" in found.what
    (again,) = review_runs(candidate)
    assert (again.id, again.state.name) == (run.id, "AwaitingRetry")


def test_a_review_that_was_killed_before_it_had_a_form_is_replaced(platform, open_made):
    candidate = open_made()
    run = start_review(candidate)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Suspended(timeout_seconds=3600, pause_key="decision-1"), force=True)
    assert platform.reconcile(minutes=15) == [], "it may be just about to have one"
    (found,) = platform.reconcile()
    assert "has no form" in found.what
    assert [each.state.is_crashed() for each in review_runs(candidate)] == [True, False]


def test_runs_without_a_process_are_marked_and_young_ones_left_alone(platform):
    run = start_review("nobody's")
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Running(), force=True)
    begin(platform.ledger, str(run.id), facts=[])
    with platform.ledger.refresh_lock():
        assert platform.reconcile(minutes=15) == []
    (found,) = [each for each in platform.reconcile(minutes=15) if str(run.id) in each.where]
    assert found.where == f"refresh {run.id}" and platform.ledger.standing("refresh", str(run.id)).state == "dead"


def test_a_review_that_nears_its_end_is_called_to_mind_and_one_that_is_over_closed(platform, open_made, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr("tasks.housekeeping.tell", lambda kind, **told: said.append(told["text"]))
    key = "c-waiting"
    platform.ledger.append([*events_for([key], "submitted", actor="ada"), *events_for([key], "queued", actor="ada")])
    candidate = open_made(new=(key,))
    run = start_review(candidate)
    opened = platform.ledger.standing("candidate", candidate).at

    def house(hours: float) -> list[Finding]:
        now = opened + timedelta(hours=hours)
        return keep_house(settings=platform.settings, ledger=platform.ledger, now=now, minutes=1e6)

    assert house(143) == [] and said == []
    assert len(house(145)) == 1 and "still waits for a decision" in said[-1]
    assert platform.state(candidate) == "opened"
    (found,) = house(168)
    assert found.what == "nobody decided in 168 hours"
    assert platform.state(candidate) == "expired" and platform.ledger.standing("correction", key).state == "queued"
    assert [each.state.name for each in review_runs(candidate) if each.id == run.id] == ["Cancelled"]
    assert house(168) == []
