"""`corrigenda locate` on a tiny model: its table, its data and its picture; no service is needed."""

import json

import pytest
from typer.testing import CliRunner

from editors.models import load_model
from editors.restoring import KINDS
from editors.roles import ROLES
from editors.scoring import generate
from flows.cli import app
from tasks.sweeps import TraceFileError

PNG = b"\x89PNG\r\n\x1a\n"
PROMPT = "The capital of France is"
RECORD = {
    "case_id": 1,
    "prompt": PROMPT,
    "subject": "France",
    "target_new": "Boeing",
    "ground_truth": "Paris",
    "rephrase_prompt": "It is said that the capital of France is",
    "locality_prompt": "The CEO of Boeing is",
    "locality_ground_truth": "Kelly Ortberg",
}
OTHER = RECORD | {"case_id": 2, "prompt": "The CEO of Volvos is", "subject": "Volvos", "target_new": "Kelly"}


@pytest.fixture
def locate(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CORRIGENDA_MODEL", str(tiny_folder))
    monkeypatch.setenv("CORRIGENDA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        few = [] if "--suggest" in arguments else ["--samples", "2"]
        return CliRunner().invoke(app, ["locate", *few, *map(str, arguments)])

    return run


def believed(tiny_folder, subjects):
    """Facts as the tiny model has them, in the shape of known_1000.jsonl."""
    model, tokenizer = load_model(tiny_folder, device="cpu")
    prompts = [f"The capital of {subject} is" for subject in subjects]
    answers = [answer.split()[0] for answer in generate(model, tokenizer, prompts)]
    return [
        {"subject": subject, "prompt": prompt, "attribute": answer}
        for subject, prompt, answer in zip(subjects, prompts, answers, strict=True)
    ]


def test_a_prompt_is_traced_into_a_table_data_and_a_picture(locate, tmp_path):
    done = locate(PROMPT, "--subject", "France", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert all(kind in done.output for kind in KINDS)
    found = json.loads((tmp_path / "out" / "trace.json").read_text(encoding="utf-8"))
    assert "".join(found["tokens"][place] for place in found["subject_tokens"]).strip() == "France"
    assert {kind: (len(rows), len(rows[0])) for kind, rows in found["effects"].items()} == dict.fromkeys(
        KINDS, (10, len(found["tokens"]))
    )
    assert found["corrupted"] + found["effects"]["hidden"][-1][-1] == pytest.approx(found["clean"], abs=1e-5)
    assert (tmp_path / "out" / "trace.png").read_bytes().startswith(PNG)


def test_only_some_layers_are_traced_where_that_is_asked(locate, tmp_path):
    done = locate(PROMPT, "--subject", "France", "--every", "4", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out" / "trace.json").read_text(encoding="utf-8"))
    assert found["layers"] == [0, 4, 8]
    assert {len(rows) for rows in found["effects"].values()} == {3}


def test_an_average_is_over_the_facts_that_the_model_knows(locate, tiny_folder, tmp_path):
    facts = believed(tiny_folder, ["France", "Boeing", "Kelly Ortberg"])
    facts[1]["attribute"] = "nowhere"
    file = tmp_path / "facts.jsonl"
    file.write_text("\n".join(map(json.dumps, facts)), encoding="utf-8")
    done = locate("--data", file, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "2 known facts" in done.output
    found = json.loads((tmp_path / "out" / "trace.json").read_text(encoding="utf-8"))
    assert (found["facts"], found["roles"]) == (2, list(ROLES))
    last = {part: rows[-1][-1] for part, rows in found["effects"]["hidden"].items()}
    assert last["low"] <= last["mean"] <= last["high"]
    assert found["corrupted"] + last["mean"] == pytest.approx(found["clean"], abs=1e-5)
    assert (tmp_path / "out" / "trace.png").read_bytes().startswith(PNG)


@pytest.fixture
def records(tmp_path):
    """A file of two records."""
    file = tmp_path / "records.jsonl"
    file.write_text("\n".join(json.dumps(record) for record in (RECORD, OTHER)), encoding="utf-8")
    return file


@pytest.fixture
def average(tmp_path):
    """A file with an average trace over every second layer, which rises with the layer."""
    file = tmp_path / "trace.json"
    layers = list(range(0, 10, 2))
    means = [[None] * 5, [None] * 5, [layer / 100 for layer in layers], *([[None] * 5] * 3)]
    file.write_text(json.dumps({"facts": 7, "layers": layers, "effects": {"mlp": {"mean": means}}}), encoding="utf-8")
    return file


def test_a_suggestion_ranks_layers_beside_the_trace(locate, records, average, tmp_path):
    done = locate("--suggest", "--data", records, "--every", "2", "--traces", average, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out" / "suggest.json").read_text(encoding="utf-8"))
    assert (found["facts"], found["prompts"]) == (2, 6)
    assert sorted(trial["layer"] for trial in found["ranking"]) == [0, 2, 4, 6, 8]
    scores = [trial["score"] for trial in found["ranking"]]
    assert scores == sorted(scores, reverse=True)
    assert all(trial["kl"]["count"] == 2 for trial in found["ranking"])
    assert (found["trace"]["facts"], found["trace"]["layers"]) == (7, 5)
    assert found["trace"]["effects"]["8"] == 0.08
    assert "rank correlation of score and MLP trace at the last subject token over 5 layers" in done.output
    assert "try some around the best with CORRIGENDA_LAYERS='[...]' corrigenda benchmark" in done.output
    assert (tmp_path / "out" / "suggest.png").read_bytes().startswith(PNG)


def test_a_trace_of_other_layers_is_refused_before_the_sweep(locate, records, average, monkeypatch):
    monkeypatch.setattr("flows.locate.sweep", lambda *_, **__: pytest.fail("it began"))
    done = locate("--suggest", "--data", records, "--every", "5", "--traces", average)
    assert isinstance(done.exception, TraceFileError)
    assert "it has 1 of the 2 layers of the sweep" in str(done.exception)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give a prompt with --subject, or --data FILE"),
        ((PROMPT,), "give a prompt with --subject, or --data FILE"),
        ((PROMPT, "--subject", "France", "--data", "facts.jsonl"), "give a prompt with --subject, or --data FILE"),
        ((PROMPT, "--subject", "France", "--suggest"), "--suggest needs --data FILE"),
        (("--data", "facts.jsonl", "--suggest", "--samples", "5"), "leave --samples out"),
        (("--data", "facts.jsonl", "--traces", "trace.json"), "--traces needs --suggest"),
    ],
)
def test_a_wrong_call_says_what_to_give(locate, arguments, said):
    done = locate(*arguments)
    assert done.exit_code == 2
    assert said in done.output
