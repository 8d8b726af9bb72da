"""The command `corrigenda benchmark` on a tiny random model: no services, no data of others."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from editors.digests import sha256_file
from editors.errors import InvalidConfigError
from editors.models import weights_digest
from editors.registry import EDITORS
from flows.cli import app
from tasks.benchmark import Request, benchmark
from tasks.settings import Settings

RECORD = {
    "case_id": 1,
    "prompt": "The capital of France is",
    "subject": "France",
    "target_new": "Boeing",
    "ground_truth": "Paris",
    "rephrase_prompt": "It is said that the capital of France is",
    "locality_prompt": "The CEO of Boeing is",
    "locality_ground_truth": "Kelly Ortberg",
}
OTHER = RECORD | {"case_id": 2, "prompt": "The CEO of Volvos is", "subject": "Volvos", "target_new": "Kelly"}
SHARED = Path(__file__).parents[3] / "shared" / "data" / "counterfact_full.jsonl"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where the command keeps the material of a base; shared, since sampling it takes a while."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def call(tmp_path, monkeypatch, tiny_folder, home):
    """Run the command on records."""
    monkeypatch.setenv("CORRIGENDA_HOME", str(home))
    monkeypatch.setenv("CORRIGENDA_DEVICE", "cpu")
    monkeypatch.setenv("COLUMNS", "160")

    def run(*options, records=(RECORD, OTHER)):
        data = tmp_path / "records.jsonl"
        data.write_text("\n".join(map(json.dumps, records)))
        words = ["benchmark", "--data", str(data), "--model", str(tiny_folder), *options]
        return CliRunner().invoke(app, words)

    return run


def test_the_table_and_the_report_tell_of_the_same_run(call, tmp_path, tiny_folder):
    out = tmp_path / "report.json"
    result = call("--method", "memit", "--out", str(out))
    assert result.exit_code == 0, result.output
    for word in ("efficacy", "paraphrase", "neighbourhood", "score", "KL at neighbours", "perplexity", "peak memory"):
        assert word in result.output
    report = json.loads(out.read_bytes())
    assert report["setting"]["data_sha256"] == sha256_file(tmp_path / "records.jsonl")
    assert report["setting"]["material"]["base"] == weights_digest(tiny_folder)
    assert report["setting"]["config"]["values"]["steps"] == EDITORS["memit"].config().values.steps
    assert report["peak_memory_bytes"]["process"] > 1 << 20
    (only,) = report["rounds"]
    assert only["facts"] == 2
    assert {"values", "keys", "solve", "evaluation"} <= only["seconds"].keys()
    assert not out.with_suffix(".png").exists()


def test_rounds_are_told_of_in_order_with_a_picture_beside_the_report(call, tmp_path):
    out = tmp_path / "report.json"
    result = call("--method", "memit", "--rounds", "2", "--sequential", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "edits the edited model" in result.output
    assert [(each["facts"], each["new"]) for each in json.loads(out.read_bytes())["rounds"]] == [(1, 1), (2, 1)]
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_joint_is_measured_at_the_layers_that_are_set_and_others_at_their_own(call, tmp_path, monkeypatch):
    monkeypatch.setenv("CORRIGENDA_LAYERS", "[1, 3]")
    out = tmp_path / "report.json"
    for method, layers in (("joint", [1, 3]), ("memit", list(EDITORS["memit"].config().layers))):
        assert call("--method", method, "--limit", "1", "--out", str(out)).exit_code == 0
        assert json.loads(out.read_bytes())["setting"]["config"]["layers"] == layers


def test_a_second_run_finds_the_material_of_the_base(call, home):
    call("--method", "memit", "--limit", "1")
    cache = home / "cache" / "material"
    kept = {file: file.stat().st_mtime_ns for file in cache.iterdir()}
    assert {file.suffix for file in kept} == {".safetensors"}
    assert call("--method", "memit", "--limit", "2").exit_code == 0
    assert {file: file.stat().st_mtime_ns for file in cache.iterdir()} == kept


def test_more_rounds_than_records_are_refused_before_the_model_is_loaded(tmp_path):
    data = tmp_path / "records.jsonl"
    data.write_text("\n".join(map(json.dumps, (RECORD, OTHER))))
    request = Request(data=data, method="joint", rounds=10)
    settings = Settings(home=tmp_path, device="cpu", model=str(tmp_path / "no model here"))
    with pytest.raises(InvalidConfigError, match="2 records can't be divided into 10 rounds"):
        benchmark(request, settings=settings, progress=lambda what, done, total: None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "memory"], ["memory", *EDITORS]),
        (["--method", "memit", "--rounds", "0"], ["--rounds"]),
        (["--method", "memit", "--sequential"], ["--sequential", "--rounds 2"]),
        (["--method", "memit", "--data", "nowhere.jsonl"], ["nowhere.jsonl"]),
        ([], ["--method"]),
    ],
)
def test_a_wrong_call_exits_with_2_and_says_what_is_wrong(call, options, said):
    result = call(*options)
    assert result.exit_code == 2
    assert all(word in result.output for word in said), result.output


def test_what_contradicts_an_earlier_record_is_shown_as_left_out(call):
    again = RECORD | {"case_id": 3, "target_new": "Volvos"}
    result = call("--method", "memit", records=(RECORD, again))
    assert "case 3 contradicts case 1" in result.output


@pytest.mark.model
def test_an_edit_of_the_real_model_shows_on_published_records(call, base_folder, prepared, tmp_path, monkeypatch):
    if not SHARED.is_file():
        pytest.skip(f"{SHARED} is not on this machine")
    monkeypatch.setenv("CORRIGENDA_HOME", str(base_folder.parents[1]))  # where `prepared` has kept its material
    out = tmp_path / "report.json"
    words = ["--method", "memit", "--model", str(base_folder), "--data", str(SHARED), "--limit", "3", "--out", str(out)]
    result = call(*words)
    assert result.exit_code == 0, result.output
    (only,) = json.loads(out.read_bytes())["rounds"]
    found = {(metric["name"], metric["how"]): metric for metric in only["metrics"]}
    assert found["efficacy", "argmax"]["edited"]["value"] == 1 > found["efficacy", "argmax"]["unedited"]["value"]
