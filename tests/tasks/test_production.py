"""What was in production at a time is told by the ledger, and what says otherwise is named."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from editors.digests import canonical_json
from flows.cli import app
from governance.lifecycle import in_utc
from infra.layout import read_layout
from infra.objectstore import admin_client
from tasks.ledger import Ledger
from tasks.production import Difference, compare, in_production
from tasks.register import registry, version_for
from tasks.store import Store

pytestmark = pytest.mark.stack


@pytest.fixture
def told(lived):
    """Returns what was in production at a time, and what is said about it."""

    def tell(at: datetime, **changes) -> list[str | Difference]:
        found = in_production(lived.house.ledger, at=at)
        assert found is not None
        settings = lived.settings.model_copy(update=changes)
        return list(compare(found, store=Store(settings), settings=settings))

    return tell


@pytest.fixture
def times(lived) -> list[datetime]:
    return [release.at for release in lived.releases]


def differences(told) -> list[str]:
    return [str(each) for each in told if isinstance(each, Difference)]


def as_of(moment: str, *, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["ledger", "as-of", moment], env={"COLUMNS": "250"})
    assert done.exit_code == code, done.output + repr(done.exception)
    return done.output


def test_at_three_times_the_release_then_its_facts_and_why_are_told(lived, times):
    first, second, third = lived.candidates
    before = as_of((times[0] - timedelta(microseconds=1)).isoformat())
    assert "the base alone was in production; no release had been approved" in before
    one, two, now = (as_of(text) for text in (times[0].isoformat(), times[1].isoformat(), f"{times[2]:%Y-%m-%d}"))
    assert f"release 1, candidate {first}, since {in_utc(times[0])}" in one
    assert "approved by grace, with their own key: seen" in one
    assert "new in it: france" in one and "japan" not in one
    assert "The capital of France is → Lyon" in one and "ada, for country desk" in one and "moved to Lyon, as" in one
    assert f"release 2, candidate {second}" in two and "new in it: japan" in two and "France" in two
    assert f"release 3, candidate {third}" in now and "Osaka" in now and "Lyon" not in now
    assert "no longer in it: france, revoked: the source was wrong (asked by ada)" in now
    for said in (one, two, now):
        assert "ledger, object store and MLflow agree" in said
        assert "it holds what was released then and nothing else, " in said and "names the same digests" in said
    assert "the alias champion stands for version 3" in now and "the alias previous stands for version 2" in now
    assert "alias" not in one and "alias" not in two, "aliases have no history"


def test_a_time_that_cannot_be_answered_is_refused_in_words(lived):
    for moment in ("yesterday", "2026-13-01", "2026-02-30", "0001-01-01T00:00:00+14:00", "2026-11-24T25:00"):
        assert "is no date; write" in as_of(moment, code=2)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for moment in (f"{tomorrow:%Y-%m-%d}", (tomorrow - timedelta(hours=23)).isoformat(), "9999-12-31"):
        assert "is still to come" in as_of(moment, code=2)
    began = in_utc(next(lived.house.ledger.rows())["at"])
    assert f"the ledger begins at {began}, and knows of nothing before" in as_of("1999-12-31")


def test_a_day_is_meant_to_its_end_however_it_is_written(lived, times):
    for moment in (f"{times[2]:%Y%m%d}", f"{times[2]:%G-W%V-%u}"):
        assert "release 3, candidate" in as_of(moment)


def test_before_anything_was_recorded_that_is_said(ledger_url, monkeypatch):
    monkeypatch.setenv("CORRIGENDA_DATABASE_URL", ledger_url)
    Ledger(ledger_url).migrate()
    assert "the base alone was in production; nothing was recorded yet" in as_of("2026-01-01")


def test_a_tag_that_was_altered_in_mlflow_is_named_with_both_digests(lived, told, times):
    client, model = registry(lived.settings), lived.settings.registered_model
    version = version_for(lived.settings, lived.candidates[1])
    patch = version.tags["corrigenda.patch"]
    client.set_model_version_tag(model, version.version, "corrigenda.patch", "f" * 64)
    try:
        (only,) = differences(told(times[1]))
        assert only.startswith(f"version 2 of MLflow's {model}: its tag corrigenda.patch is {'f' * 64}, and by the ")
        assert patch in only
        assert "differs:" in as_of(times[1].isoformat(), code=1)
        assert differences(told(times[0])) == []
    finally:
        client.set_model_version_tag(model, version.version, "corrigenda.patch", patch)


def test_a_version_that_stands_for_another_candidate_is_missed(lived, told, times):
    client, model = registry(lived.settings), lived.settings.registered_model
    client.set_model_version_tag(model, "1", "corrigenda.candidate", "f" * 64)
    try:
        (only,) = differences(told(times[0]))
        assert "a version for release 1" in only and "is missing" in only
    finally:
        client.set_model_version_tag(model, "1", "corrigenda.candidate", lived.candidates[0])


@pytest.mark.parametrize(("alias", "version"), [("champion", "1"), ("previous", "3"), ("previous", None)])
def test_an_alias_that_was_moved_is_named_while_the_release_is_the_newest(lived, told, times, alias, version):
    client, model = registry(lived.settings), lived.settings.registered_model
    right = {"champion": "3", "previous": "2"}[alias]
    if version:
        client.set_registered_model_alias(model, alias, version)
    else:
        client.delete_registered_model_alias(model, alias)
    try:
        (only,) = differences(told(times[2]))
        stands = f"version {version}" if version else "nothing"
        assert only.startswith(f"alias {alias} of MLflow's {model}: what it stands for is {stands}, and by the ledger ")
        assert f"version {right}; 'corrigenda reconcile'" in only
        assert differences(told(times[1])) == [], "of an older release no alias tells"
    finally:
        client.set_registered_model_alias(model, alias, right)


@pytest.fixture
def owner(stack):
    """Who may put anything over a release: the owner of the object store."""
    return admin_client(read_layout(stack.home))


def test_what_was_put_over_a_release_is_not_what_is_compared(lived, told, times, owner, stack, other_record):
    other_record()  # and is put back with all that lies over it
    key = f"releases/{lived.candidates[1]}.json"
    shadow = canonical_json({"position": 7})
    owner.put_object(Bucket=stack.s3_bucket, Key=key, Body=shadow)
    newest = owner.get_object(Bucket=stack.s3_bucket, Key=key)["Body"].read()
    assert newest == shadow, "whoever takes the newest version gets another one"
    assert differences(told(times[1])) == []


@pytest.fixture
def other_record(lived, take_away):
    """Puts another manifest in the place of a release's, for a while."""
    store, candidate = Store(lived.house.promoter), lived.candidates[1]
    key = f"releases/{candidate}.json"
    kept = store.record(key)

    def put(**changes) -> None:
        take_away(key)
        store.put_record(key, kept | changes)

    yield put
    take_away(key)
    store.put_record(key, kept)


def test_another_manifest_in_a_releases_place_is_named_by_what_differs(lived, told, times, other_record):
    other_record(position=4, ledger={"sequence": 1, "digest": "0" * 64})
    position, event, signature = differences(told(times[1]))
    assert f"releases/{lived.candidates[1]}.json" in position
    assert "position is 4, and by the ledger 2; find out who holds the promoter's credentials" in position
    assert "ledger is {" in event and "'sequence': 1}" in event
    assert "its signature is none:" in signature and "release.json has sha256" in signature


def test_a_manifest_that_says_the_same_and_is_not_what_was_signed_is_named(lived, told, times, other_record):
    other_record(pins="others")
    (only,) = differences(told(times[1]))
    assert "its signature is none:" in only


def test_where_no_root_is_set_that_is_said_and_no_signature_believed(told, times):
    said = told(times[1], root_fingerprint="")
    assert differences(said) == []
    assert any("its signature was NOT VERIFIED, for no root is set" in each for each in said)


def test_a_release_without_a_manifest_is_named(lived, told, times, take_away):
    key = f"releases/{lived.candidates[2]}.json"
    kept = Store(lived.settings).record(key)
    take_away(key)
    try:
        (only,) = differences(told(times[2]))
        assert "release 3" in only and "is missing, and by the ledger released; 'corrigenda reconcile'" in only
    finally:
        Store(lived.house.promoter).put_record(key, kept)


def test_a_fact_that_the_database_says_otherwise_than_the_release_is_named(lived, told, times):
    ledger = lived.house.ledger
    engine = sa.create_engine(lived.settings.database_url)
    (row,) = (e for e in ledger.history("correction", "japan") if e["kind"] == "submitted")
    where = {"seq": row["seq"]}
    change = "UPDATE events SET data = CAST(:data AS jsonb) WHERE seq = :seq"
    other = row["data"] | {"correction": row["data"]["correction"] | {"target": "Kyoto"}}
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE events DISABLE TRIGGER USER"))
        connection.execute(sa.text(change), where | {"data": json.dumps(other)})
    try:
        (only,) = differences(told(times[2]))
        assert "the fact japan is 'The capital of Japan is' → 'Osaka'" in only and "→ 'Kyoto'" in only
    finally:
        with engine.begin() as connection:
            connection.execute(sa.text(change), where | {"data": json.dumps(row["data"])})
            connection.execute(sa.text("ALTER TABLE events ENABLE TRIGGER USER"))
        engine.dispose()
    ledger.verify()


@pytest.mark.parametrize(
    ("setting", "match"),
    [("CORRIGENDA_MLFLOW_URL", "the MLflow server at http"), ("CORRIGENDA_S3_ENDPOINT", "is the object store up")],
)
def test_with_a_service_away_the_ledgers_answer_is_told_and_then_that(lived, times, monkeypatch, setting, match):
    monkeypatch.setenv(setting, "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    done = CliRunner().invoke(app, ["ledger", "as-of", times[1].isoformat()], env={"COLUMNS": "250"})
    assert done.exit_code == 1 and match in str(done.exception)
    assert "release 2, candidate" in done.output and "Lyon" in done.output
    assert ("nothing else, 2 facts" in done.output) == (setting == "CORRIGENDA_MLFLOW_URL")
    assert "agree" not in done.output


def test_a_fact_that_the_release_holds_and_the_ledger_does_not_know_is_named(lived, times):
    found = in_production(lived.house.ledger, at=times[1])
    fewer = replace(found, facts=found.facts[:1])
    (only,) = differences(compare(fewer, store=Store(lived.settings), settings=lived.settings))
    assert "the fact japan is 'The capital of Japan is'" in only and "by the ledger not in it" in only
