"""`corrigenda locate` on a tiny model: its table, its data and its picture; no service is needed."""

import json

import pytest
from typer.testing import CliRunner

from editors.models import load_model
from editors.restoring import KINDS
from editors.roles import ROLES
from editors.scoring import generate
from flows.cli import app

PNG = b"\x89PNG\r\n\x1a\n"
PROMPT = "The capital of France is"


@pytest.fixture
def locate(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CORRIGENDA_MODEL", str(tiny_folder))
    monkeypatch.setenv("CORRIGENDA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        return CliRunner().invoke(app, ["locate", "--samples", "2", *map(str, arguments)])

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


@pytest.mark.parametrize("arguments", [(), (PROMPT,), (PROMPT, "--subject", "France", "--data", "facts.jsonl")])
def test_a_wrong_call_says_what_to_give(locate, arguments):
    done = locate(*arguments)
    assert done.exit_code == 2
    assert "give a prompt with --subject, or --data FILE" in done.output
