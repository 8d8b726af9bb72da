"""The benchmarks on a tiny random model: what they measure means nothing there, that they measure it does."""

import json
import sys
from importlib import import_module

import pytest
import torch

from benchmarks.outcome import Result
from benchmarks.stored_values import StoredValues
from editors.joint import values_of


def record(number, subject, prompt):
    return {
        "case_id": number,
        "requested_rewrite": {
            "subject": subject,
            "prompt": prompt,
            "target_new": {"str": "Boeing"},
            "target_true": {"str": "Paris"},
        },
        "paraphrase_prompts": [f"It is said that {prompt.replace('{}', subject)}"],
        "neighborhood_prompts": ["The CEO of Volvos is"],
    }


RECORDS = [
    record(1, "France", "The capital of {} is"),
    record(2, "Kelly", "{} is led by"),
    record(3, "Ortberg", "The CEO of {} is"),
    record(4, "Boeings", "The capital of {} is"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where material and values are kept; shared, since sampling takes a while."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def measure(tmp_path, monkeypatch, tiny_folder, home):
    """Run a benchmark by its name and return what it kept."""
    monkeypatch.setenv("CORRIGENDA_HOME", str(home))
    data = tmp_path / "records.jsonl"
    data.write_text("\n".join(map(json.dumps, RECORDS)))

    def run(name, *options, on_records=True):
        words = [*options, *(["--data", data] if on_records else []), "--model", tiny_folder, "--results", tmp_path]
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        import_module(f"benchmarks.{name}").main()
        return Result.load(tmp_path / f"{name}.json")

    return run


@pytest.mark.parametrize(
    ("name", "options", "rows"),
    [
        ("solve", ["--d-in", 64, "--facts", 8], 1),
        ("moments", ["--tokens", 200], 1),
        ("values", ["--facts", 2, "--steps", 2], 1),
        ("evaluation", [], 1),
        ("late_round", ["--active", 2, "--new", 2], 1),
        ("memory", ["--facts", 2], 1),
        ("quality", ["--limit", 2], 5),
        ("rounds", ["--facts", 4, "--rounds", 2, "--again", 2], 2),
        ("capacity", ["--facts", 2, 4], 2),
    ],
)
def test_a_benchmark_keeps_what_it_reached_of_each_goal(measure, tmp_path, name, options, rows):
    result = measure(name, *options, on_records=name not in ("solve", "moments"))
    assert len(result.outcomes) == rows
    assert result.figures and result.machine["threads"]
    assert (tmp_path / f"{name}.png").is_file() == (name in ("rounds", "capacity"))


def test_the_gate_keeps_every_metric_that_was_measured_and_what_each_policy_says(measure, tmp_path):
    result = measure("gate", "--facts", 2)
    found = [each.what for each in result.outcomes]
    measured = [name for name, metric in result.figures["metrics"].items() if metric["count"]]
    assert found == [*measured, "the policy 'default'", "the policy 'strict'", "a candidate of 2 facts"]
    assert {"efficacy.generation", "specificity.argmax", "blast.kl_p95", "fluency.entropy"} <= {*measured}
    assert (tmp_path / "gate.png").is_file() and (tmp_path / "gate.html").is_file()


def test_both_sides_of_a_comparison_come_to_the_same_answer(measure):
    assert measure("solve", "--d-in", 64, "--facts", 8, on_records=False).figures["relative error"] < 1e-8
    assert measure("moments", "--tokens", 200, on_records=False).figures["relative error"] < 1e-12
    assert measure("values", "--facts", 2, "--steps", 2).figures["cosine"]["least"] > 0.995
    assert measure("evaluation").figures["largest difference in nats"] < 1e-4


def test_rounds_from_the_base_end_in_the_same_patch_as_one_batch(measure):
    first, _ = measure("rounds", "--facts", 4, "--rounds", 2, "--again", 4).outcomes
    assert first.reached.startswith("the same digest")
    assert first.met


def test_a_benchmark_without_its_data_is_skipped_and_says_so(measure, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        measure("evaluation", "--data", tmp_path / "nowhere.jsonl", on_records=False)
    assert ended.value.code == 0
    assert "nowhere.jsonlisnotonthismachine" in "".join(capsys.readouterr().out.split())  # wherever the lines break


def test_help_says_what_is_measured_and_against_what(measure, capsys):
    with pytest.raises(SystemExit) as ended:
        measure("solve", "--help", on_records=False)
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "C factorised once and kept" in out and "--d-in" in out


@pytest.fixture
def stored(tmp_path, tiny_folder, home):
    """Values of the tiny model in an empty folder, the facts of the records, and the base."""
    from benchmarks.ground import records_in
    from editors.joint import Joint
    from tasks.benchmark import prepared_base
    from tasks.settings import Settings

    data = tmp_path / "records.jsonl"
    data.write_text("\n".join(map(json.dumps, RECORDS)))
    config = Joint()
    base = prepared_base(tiny_folder, config, settings=Settings(home=home, device="cpu"), progress=quiet)
    return StoredValues(tmp_path / "values", base, config), [each.fact for each in records_in([data])]


def quiet(what, done, total):
    pass


def test_an_interrupted_optimisation_goes_on_where_it_was(stored, monkeypatch):
    values, facts = stored
    monkeypatch.setattr("benchmarks.stored_values.PORTION", 1)
    portions = []

    def interrupt(what, done, total):
        if what == "values to keep":
            portions.append((done, total))
            if len(portions) == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        values.of(facts, progress=interrupt)
    assert portions == [(0, 4), (1, 4), (2, 4)]
    portions.clear()
    found = values.of(facts, progress=interrupt)
    assert portions == [(0, 2), (1, 2)]
    assert sorted(own[0].subject for own in found) == sorted(fact.subject for fact in facts)
    assert values.cost(facts).seconds > 0


def test_a_kept_value_is_the_one_that_was_optimised(stored):
    values, facts = stored
    base = values._base
    given = {"config": values._config, "material": base.prepared.material}
    for own, kept in values.of(facts, progress=quiet).items():
        optimised = values_of(base.model, base.tokenizer, {own[0].subject: own}, **given)[own[0].subject]
        torch.testing.assert_close(kept.injections, optimised.injections, rtol=1e-3, atol=1e-4)
