"""A batch beside itself, the active corrections, a tokenizer and the clock, by Great Expectations."""

import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tasks.conflicts import find_conflicts
from tasks.corrections import Correction
from tasks.parse import parse_file
from tasks.validate import validate

ROOT = Path(__file__).parents[2]
BROKEN = ROOT / "examples" / "broken.jsonl"
COUNTERFACT = ROOT.parent / "shared" / "data" / "counterfact_simple.jsonl"


@pytest.fixture(scope="module")
def tokenizer():
    """A byte-level BPE that joins "osv", as real ones do, and knows one control token."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|im_end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    bpe.train_from_iterator([" Volvos are Volvos", "Inc., Inc., Inc.,", "a capital of the city is"] * 20, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>")


@pytest.fixture(scope="module")
def check(tokenizer):
    def run(*new, active=(), protected=(), docs=None):
        return validate(new, active=active, protected=protected, tokenizer=tokenizer, docs=docs)

    return run


def made(id: str, **fields) -> Correction:
    return Correction.model_validate(
        {
            "id": id,
            "subject": f"Land {id}",
            "prompt": "The capital of {} is",
            "target": "Somewhere",
            "paraphrases": ["{} is ruled from"],
            "evidence": ["https://example.org"],
            **fields,
        }
    )


def test_what_contradicts_a_protected_fact_is_refused_even_if_it_would_supersede_it(check):
    guarded = made("guarded", subject="France", target="Paris")
    other = made("new", subject="France", target="Lyon", supersedes="guarded")
    validation = check(other, made("same", subject="France", target="Paris"), protected=[guarded])
    assert "contradicts guarded, which is protected" in " ".join(validation.refusals["new"])
    assert not any("protected" in reason for reason in validation.refusals.get("same", ()))


def test_a_clean_batch_is_accepted_in_its_order_with_nothing_to_say(check):
    validation = check(made("b"), made("a"))
    assert validation.accepted == ("b", "a")
    assert not validation.refusals and not validation.warnings
    assert validation.docs_index is None


def test_an_empty_batch_is_no_work(check):
    assert check().accepted == ()


def test_every_rule_names_its_mistake_and_touches_no_other_record(check):
    yesterday = datetime.now(UTC) - timedelta(days=1)
    expected = {
        "prior": (made("prior", prior=" SOMEWHERE"), "target says the same as prior, 'SOMEWHERE'"),
        "past": (made("past", expires=yesterday.isoformat()), "expired on "),
        "merged": (made("merged", subject="Volvo", prompt="All {}s are"), "subject has no tokens of its own"),
        "control": (made("control", target="x <|im_end|> y"), "spells out '<|im_end|>'"),
        "old-prompt": (
            made("old-prompt").model_copy(update={"prompt": "The capital is"}),
            "prompt 'The capital is' needs",
        ),
        "old-length": (made("old-length").model_copy(update={"target": "x" * 201}), "target must have 1 to 200"),
        "old-bidi": (
            made("old-bidi").model_copy(update={"target": "x\u202e"}),
            "holds the control or invisible character U+202E",
        ),
        "old-dates": (
            made("old-dates", effective="2090-01-01").model_copy(update={"expires": datetime(2080, 1, 1, tzinfo=UTC)}),
            "expires on 2080-01-01",
        ),
        "unknown": (made("unknown", supersedes="nobody"), "supersedes 'nobody', which is not active"),
    }
    validation = check(made("good"), *(correction for correction, _ in expected.values()))
    assert validation.accepted == ("good",)
    for key, (_, says) in expected.items():
        assert validation.refusals[key][0].startswith(says), validation.refusals[key]
    assert [key for key, reasons in validation.refusals.items() if len(reasons) > 1] == ["old-prompt"]


def test_warnings_are_told_and_refuse_nothing(check):
    validation = check(
        made("bare", evidence=[], paraphrases=[]), made("mark", subject="Acme Inc.", prompt="The capital of {}, is")
    )
    assert validation.accepted == ("bare", "mark")
    assert [reason.split(";")[0] for reason in validation.warnings["bare"]] == [
        "gives no evidence",
        "gives no paraphrases",
    ]
    assert validation.warnings["mark"][0].startswith("subject shares a token with the ','")


def test_all_who_contradict_each_other_are_refused_and_name_each_other(check):
    one, two = (
        made("one", subject="Oz"),
        made("two", subject=" ＯＺ ", prompt="the capital of {} IS:", target="Elsewhere"),
    )
    validation = check(one, two, made("three"))
    assert validation.accepted == ("three",)
    assert validation.refusals["one"][0].startswith("contradicts two in this batch")
    assert "multi_valued" in validation.refusals["two"][0]


def test_many_contradictions_are_named_by_a_few(check):
    validation = check(*(made(str(n), subject="Oz", target=f"Town {n}") for n in range(6)))
    assert validation.refusals["5"][0].startswith("contradicts 0, 1, 2 and others in this batch")


def test_several_targets_are_right_where_all_say_so(check):
    one = made("one", subject="Oz", relation="capital", multi_valued=True)
    other = {"subject": "Oz", "relation": "capital", "prompt": "Another capital of {} is", "target": "B"}
    assert check(one, made("two", **other, multi_valued=True)).accepted == ("one", "two")
    assert set(check(one, made("two", **other)).refusals) == {"one", "two"}


def test_what_disagrees_in_an_inverse_is_refused_with_a_way_out(check):
    inverse = {"prompt": "Somewhere is the capital of", "target": "Oz"}
    one, two = made("one", subject="Oz", inverse=inverse), made("two", inverse=inverse | {"target": "Land two"})
    for validation, where in ((check(two, active=[one]), "active"), (check(two, protected=[one]), "protected")):
        (reason,) = validation.refusals["two"]
        told = f"answers a question otherwise than what is {where}, one at 'Somewhere is the capital of'; "
        assert reason.startswith(told)
    assert set(check(one, two).refusals) == {"one", "two"}
    assert check(two.model_copy(update={"supersedes": "one"}), active=[one]).accepted == ("two",)


def test_what_is_probably_the_same_subject_is_told(check):
    validation = check(made("new", subject="The Oz", target="B"), active=[made("old", subject="Oz")])
    assert validation.accepted == ("new",)
    assert validation.warnings["new"][0].startswith("says something else than old, which calls it 'Oz'")


def test_an_alias_is_the_same_subject(check):
    validation = check(
        made("one", subject="Oz", aliases=["Emerald Land"]), made("two", subject="emerald land", target="B")
    )
    assert set(validation.refusals) == {"one", "two"}


def test_the_first_of_duplicates_is_kept(check):
    validation = check(made("one", subject="Oz"), made("two", subject="oz", target="somewhere"))
    assert validation.accepted == ("one",)
    assert validation.refusals == {"two": ("says the same as one in this batch",)}


def test_one_id_for_two_contents_refuses_both(check):
    validation = check(made("one"), made("one", target="Elsewhere"))
    assert validation.accepted == ()
    assert validation.refusals["one"][0].startswith("id 'one' is given to several")


def test_an_active_fact_gives_way_only_to_what_supersedes_it(check):
    old = made("old", subject="Oz")
    plain, renewed = made("new", subject="Oz", target="B"), made("renewed", subject="Oz", supersedes="old")
    refused = check(plain, active=[old])
    assert refused.refusals["new"][0].startswith("contradicts old, which is active")
    assert "set supersedes to its id" in refused.refusals["new"][0]
    assert check(made("new", subject="Oz", target="B", supersedes="old"), active=[old]).accepted == ("new",)
    assert check(made("same", subject="Oz"), active=[old]).refusals["same"][0].startswith("says the same as old")
    assert check(renewed, active=[old]).accepted == ("renewed",)


def test_only_one_may_supersede_and_only_its_own_subject(check):
    old = made("old", subject="Oz")
    first = made("first", subject="Oz", target="B", supersedes="old")
    ruler = {"prompt": "The ruler of {} is", "target": "C", "paraphrases": ["{} is ruled by"]}
    second = made("second", subject="Oz", supersedes="old", **ruler)
    stranger = made("stranger", supersedes="old")
    validation = check(first, second, stranger, active=[old])
    assert validation.accepted == ("first",)
    assert validation.refusals["second"] == ("supersedes 'old', as first in this batch does; only one can replace it",)
    assert validation.refusals["stranger"][0].startswith("supersedes 'old', which is about 'Oz'")


def test_subject_is_looked_for_at_its_place_and_not_elsewhere(check):
    assert check(made("one", subject="Volvo", prompt="Volvo made the {}s and")).accepted == ()


def test_a_companion_is_read_by_the_tokenizer_and_by_people_like_a_correction(check):
    follows = {"subject": "Volvo", "prompt": "All {}s are made in", "target": "Ghent"}
    validation = check(
        made("trap", consequences=[follows]),
        made("control", portability=[{"prompt": "a <|im_end|>", "answer": "b"}]),
        made("fine", aliases=["Fine Land"], inverse={"prompt": "{} is the capital of", "target": "Land fine"}),
    )
    assert validation.accepted == ("fine",)
    (trap,) = validation.refusals["trap"]
    assert trap.startswith("consequence 1: 'Volvo' has no tokens of its own in 'All {}s are made in'")
    assert validation.refusals["control"][0].startswith("spells out '<|im_end|>'")


def test_data_docs_can_be_opened_and_the_result_is_json(check, tmp_path):
    validation = check(made("one"), made("two", prior="somewhere"), docs=tmp_path / "docs")
    assert "<html" in validation.docs_index.read_text(encoding="utf-8")
    assert list((tmp_path / "docs" / "validations").rglob("*.html"))
    result = json.loads(json.dumps(validation.result, allow_nan=False))
    assert result["success"] is False
    assert result["suite_name"] == "corrections"


def test_each_line_of_the_broken_example_is_refused_for_its_own_reason(check):
    lines = parse_file(BROKEN)
    validation = check(*(line.correction for line in lines if line.correction))
    reasons = [line.problems or validation.refusals.get(line.correction.id, ()) for line in lines]
    assert len(lines) >= 12
    assert all(reasons), [line.text for line, reason in zip(lines, reasons, strict=True) if not reason]
    assert max(Counter(reasons).values()) == 1
    assert validation.accepted == ()


@pytest.mark.parametrize("name", ["corrections.jsonl", "corrections.csv", "corrections.yaml"])
def test_examples_are_accepted_together_with_what_is_active(check, name):
    new = [line.correction for line in parse_file(ROOT / "examples" / name)]
    thirteenth = [line.correction for line in parse_file(ROOT / "examples" / "thirteenth.jsonl")]
    assert len(check(*new, active=thirteenth).accepted) == len(new)


@pytest.mark.skipif(not COUNTERFACT.is_file(), reason=f"{COUNTERFACT} is not on this machine")
def test_conflicts_of_counterfact_are_found(tokenizer):
    records = [json.loads(line) for line in COUNTERFACT.read_text(encoding="utf-8").splitlines()]
    corrections = [
        Correction(
            id=f"cf-{record['case_id']}",
            subject=record["subject"],
            prompt=record["prompt"].replace(record["subject"], "{}", 1),
            target=record["target_new"],
            prior=record["ground_truth"],
        )
        for record in records
    ]
    validation = validate(corrections, active=[], tokenizer=tokenizer, docs=None)
    groups = Counter(
        (correction.subject, correction.relation)
        for correction in corrections
        if any(reason.startswith("contradicts") for reason in validation.refusals.get(correction.id, ()))
    )
    named = ("Barcelona", "Mexico City", "Buenos Aires", "San Francisco", "Nur-Sultan")
    assert {name for name, _ in groups} >= set(named)
    assert groups["Barcelona", "{} is a twin city of"] == 4
    assert groups["Mexico City", "what is the twin city of {}? it is"] == 5
    assert len(validation.accepted) > 3_900


def test_a_hundred_thousand_corrections_pass_in_about_a_minute(check):
    new = [made(str(number)) for number in range(100_000)]
    start = time.monotonic()
    assert len(check(*new).accepted) == 100_000
    assert time.monotonic() - start < 180


def test_a_hundred_thousand_that_contradict_each_other_take_seconds():
    new = [made(str(number), subject="Oz", target=f"Town {number}") for number in range(100_000)]
    start = time.monotonic()
    assert all(conflict.contradicts for conflict in find_conflicts(new, []))
    assert time.monotonic() - start < 60
