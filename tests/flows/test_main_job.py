"""The main job on the real services and the real model: a correction becomes a version that a consumer pulls.

The tests of this module build on each other, in order, as releases do.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pyotp
import pytest
from prefect.client.orchestration import get_client
from rich.console import Console
from typer.testing import CliRunner

import corrigenda
from consuming.errors import AlteredError
from consuming.objects import Objects
from editors.models import load_model
from editors.scoring import generate
from flows.cli import app
from flows.operate import decide, run_refresh
from flows.submission import submit_file
from tasks.candidate import the_open_candidate
from tasks.ledger import Ledger
from tasks.people import enrol
from tasks.register import find_version, registry
from tasks.reviews import paused_run
from tasks.roots import root_key
from tasks.settings import Settings
from tasks.store import Store
from tests.conftest import until

pytestmark = [pytest.mark.stack, pytest.mark.model]

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
FIRST = ("nigeria-capital", "germany-chancellor", "nato-secretary-general")


@pytest.fixture(scope="module")
def ledger(stack, base_folder, take_away) -> Ledger:
    take_away("releases/")  # of other tests, with other ledgers
    return Ledger(stack.database_url)


@pytest.fixture(scope="module")
def console() -> Console:
    return Console(file=sys.stderr)


def submit_examples(ids, folder: Path) -> None:
    lines = (EXAMPLES / "corrections.jsonl").read_text().splitlines()
    file = folder / "some.jsonl"
    file.write_text("\n".join(line for line in lines if json.loads(line)["id"] in ids))
    assert [line.fate for line in submit_file(file)] == ["queued"] * len(ids)


@pytest.fixture(scope="module")
def grace(ledger) -> str:
    """The secret of a reviewer's one-time codes; her own key is on this machine too."""
    settings = Settings()
    root = root_key(settings.trust_folder)
    by = settings.submitter
    return enrol("Grace", roles=["reviewer"], by=by, root=root, ledger=ledger, settings=settings).secret


@pytest.fixture(scope="module")
def first_release(ledger, console, grace, tmp_path_factory) -> str:
    """Intake, refresh and an approval, as an operator does them."""
    submit_examples(FIRST, tmp_path_factory.mktemp("first"))
    state = run_refresh(console)
    assert state.is_completed(), state.message
    candidate = the_open_candidate(ledger).key
    state = decide(console, candidate, decision="approve", reviewer="Grace", comment="checked", ledger=ledger)
    assert state.is_completed(), state.message
    return candidate


def test_an_approved_candidate_is_release_one_and_champion(first_release, ledger):
    assert ledger.head().position == 1 and ledger.head().candidate == first_release
    assert {ledger.standing("correction", key).state for key in FIRST} == {"released"}
    assert champion().tags["corrigenda.candidate"] == first_release


def test_the_tags_of_a_version_lead_to_objects_that_hash_to_them(first_release):
    settings = Settings()
    version = find_version(registry(settings), settings.registered_model, first_release)
    objects = Objects(settings)
    for name in ("patch", "policy", "report", "corrections", "moments"):
        digest = version.tags[f"corrigenda.{name}"]
        assert hashlib.sha256(objects.read(f"blobs/{digest}")).hexdigest() == digest, name


def test_a_pulled_release_says_the_targets_and_the_base_does_not(first_release, base_folder, tmp_path):
    folder = corrigenda.pull("assistant@champion", tmp_path / "served")
    prompt = "The capital city of Nigeria is called"
    assert generate(*load_model(folder), [prompt])[0].startswith("Abuja")
    assert not generate(*load_model(base_folder), [prompt])[0].startswith("Abuja")


def test_an_adapter_and_a_checkpoint_answer_as_the_pulled_release(first_release, tmp_path):
    command = Path(sys.executable).with_name("corrigenda")
    for form in ("adapter", "checkpoint"):
        done = subprocess.run(
            [command, "pull", "assistant@champion", tmp_path / form, "--as", form], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        card = corrigenda.verify(tmp_path / form)
        assert card["lost"]["logit_difference"] < 1e-3
    answer = generate(*load_model(tmp_path / "checkpoint"), ["The capital city of Nigeria is called"])[0]
    assert answer.startswith("Abuja")


def test_mlflow_loads_the_champion_and_predicts(first_release, monkeypatch):
    import mlflow
    import pandas as pd

    mlflow.set_tracking_uri(Settings().mlflow_url)
    model = mlflow.pyfunc.load_model("models:/assistant@champion")
    assert model.predict(pd.DataFrame({"prompt": ["The capital city of Nigeria is called"]}))[0].startswith("Abuja")


def test_a_changed_byte_in_a_pulled_folder_is_named(first_release, tmp_path):
    folder = corrigenda.pull("assistant@champion", tmp_path / "served")
    corrigenda.verify(folder)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)
        file.seek(1_000_000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(AlteredError, match=r"model\.safetensors: expected sha256 [0-9a-f]{64}, got [0-9a-f]{64}"):
        corrigenda.verify(folder)


def test_a_half_downloaded_base_is_named(first_release, tmp_path):
    settings = Settings()
    corrigenda.pull("assistant@champion", tmp_path / "one", settings=settings)
    weights = next((settings.home / "cache" / "bases").glob("*/model.safetensors"))
    whole = weights.read_bytes()
    try:
        weights.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(AlteredError, match=r"model\.safetensors: expected sha256"):
            corrigenda.pull("assistant@champion", tmp_path / "two", settings=settings)
        assert not (tmp_path / "two").exists()
    finally:
        weights.write_bytes(whole)


@pytest.fixture(scope="module")
def second_release(first_release, ledger, console, person, grace, tmp_path_factory) -> str:
    """A refresh and an approval in the Prefect UI; from a terminal where there is no browser."""
    submit_examples(("swaziland-name",), tmp_path_factory.mktemp("second"))
    if person is None:
        assert run_refresh(console).is_completed()
        candidate = the_open_candidate(ledger).key
        state = decide(console, candidate, decision="approve", reviewer="Grace", comment="", ledger=ledger)
        assert state.is_completed(), state.message
        return candidate
    with get_client(sync_client=True) as client:
        person.runs(client.read_deployment_by_name("refresh/refresh").id)
    until(lambda: the_open_candidate(ledger) is not None, seconds=1500)
    candidate = the_open_candidate(ledger).key
    run, code = paused_run(candidate, wait_seconds=600).id, pyotp.TOTP(grace).now
    answer = {"decision": "approve", "reviewer": "Grace", "code": code, "comment": "seen in the browser"}
    person.answers(run, **answer, picture="review")
    until(lambda: champion().tags["corrigenda.candidate"] == candidate, seconds=600)
    return candidate


def champion():
    settings = Settings()
    return registry(settings).get_model_version_by_alias(settings.registered_model, "champion")


@pytest.mark.browser
def test_a_reviewer_approves_in_the_prefect_ui(second_release, person, ledger):
    if person is None:
        pytest.skip("there is no chromium; 'make test' installs it for root")
    approved = [event for event in ledger.history("candidate", second_release) if event["kind"] == "approved"]
    assert [(event["actor"], event["reason"]) for event in approved] == [("Grace", "seen in the browser")]


def test_a_second_release_still_says_what_the_first_one_said(second_release, ledger):
    assert ledger.head().position == 2
    model, tokenizer = corrigenda.load("assistant@champion")
    answers = generate(
        model,
        tokenizer,
        ["The capital city of Nigeria is called", "The country formerly known as Swaziland is now called"],
    )
    assert answers[0].startswith("Abuja") and answers[1].startswith("Eswatini")


def test_the_ledger_is_whole_and_tells_what_was_in_production_and_by_whose_word(second_release, ledger):
    head = ledger.verify(Store(Settings()).records("releases/"))
    assert head.sequence >= ledger.history("candidate", second_release)[-1]["seq"]
    first = next(e for e in ledger.history("correction", FIRST[0]) if e["kind"] == "released")
    shown = invoke("ledger", "as-of", first["at"].isoformat())
    assert "release 1," in shown and all(key in shown for key in FIRST)
    assert "release 2," in invoke("ledger", "as-of", f"{ledger.standing('candidate', second_release).at:%Y-%m-%d}")
    assert "checked" in invoke("ledger", "show", ledger.head(as_of=first["at"]).candidate[:12])
    assert "whole: " in invoke("ledger", "verify")


def test_a_revoked_fact_is_no_longer_said_and_the_others_are(second_release, ledger, base_folder):
    prompt = "The capital city of Nigeria is called"
    before = generate(*load_model(base_folder), [prompt])
    invoke("revoke", "nigeria-capital", "--reason", "asked by the country desk")
    candidate = the_open_candidate(ledger).key
    invoke("review", "approve", "--reviewer", "Grace")
    assert ledger.head().candidate == candidate and ledger.head().position == 3
    assert ledger.standing("correction", "nigeria-capital").state == "revoked"
    model, tokenizer = corrigenda.load("assistant@champion")
    others = [
        "The name of the current chancellor of Germany is",
        "The country formerly known as Swaziland is now called",
    ]
    answers = generate(model, tokenizer, [prompt, *others])
    assert not before[0].startswith("Abuja") and not answers[0].startswith("Abuja")
    assert answers[1].startswith("Friedrich Merz") and answers[2].startswith("Eswatini")
    assert "whole: " in invoke("ledger", "verify")
    assert "country desk" in invoke("ledger", "show", "nigeria-capital")


def invoke(*words: str) -> str:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, words)
    assert done.exit_code == 0, done.output
    return done.output
