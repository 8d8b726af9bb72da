"""The comparison with the published code, as far as it is ours: units, counting and the paired interval."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from benchmarks.rival.counting import counted
from benchmarks.rival.outcomes import outcomes_of
from benchmarks.rival.paired import score_difference
from benchmarks.rival.units import published_hparams
from editors.batch import by_subject
from editors.facts import Fact
from editors.measuring import SCORED, Answer, Measured
from editors.scoring import Perplexity, Probe, Weighed
from editors.values import ValueSettings, optimise_injections

WORDS = ["<bos>", "The", "capital", "of", "France", "is", "Paris", "Rome", "It", "said", "Peru", "a", "Lima", ".", ":"]
FACTS = [
    Fact(id=name, subject=name, prompt="The capital of {} is", target=target)
    for name, target in (("France", "Rome"), ("Peru", "Paris"))
]
CONTEXTS = ["{}", "It is said : {}"]


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    core = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="a"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<bos>")
    return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False), tokenizer


def optimised(tiny, settings, facts=FACTS):
    return counted(
        lambda: optimise_injections(*tiny, by_subject(facts), layers=[1], contexts=CONTEXTS, settings=settings)
    )


def test_the_published_step_is_as_long_as_ours(tiny):
    settings = ValueSettings(steps=1, step_length=0.1, enough=0.0, ending="")
    told = published_hparams(*tiny, FACTS[0], layer=1, contexts=CONTEXTS, settings=settings)
    first = optimised(tiny, settings, FACTS[:1]).found[0, 0]
    assert float(first.abs().max()) == pytest.approx(told["v_lr"], rel=1e-3)


def test_the_published_clamp_is_where_ours_is(tiny):
    settings = ValueSettings(steps=3, step_length=50.0, clamp=0.5, enough=0.0, ending="")
    told = published_hparams(*tiny, FACTS[0], layer=1, contexts=CONTEXTS, settings=settings)
    ids = torch.tensor([[WORDS.index(word) for word in ["<bos>", "The", "capital", "of", "France"]]])
    bare = tiny[0](input_ids=ids, output_hidden_states=True).hidden_states[2][0, -1]
    longest = float(optimised(tiny, settings, FACTS[:1]).found.norm())
    assert longest == pytest.approx(told["clamp_norm_factor"] * float(bare.norm()), rel=1e-4)


def test_steps_are_counted_by_subject(tiny):
    assert optimised(tiny, ValueSettings(steps=3, enough=0.0, ending="")).steps == 6
    assert optimised(tiny, ValueSettings(steps=3, enough=1e9, ending="")).steps == 0
    losses = ValueSettings(steps=5, enough=2.8, ending="")
    alone = [optimised(tiny, losses, [fact]).steps for fact in FACTS]
    assert optimised(tiny, losses).steps == sum(alone)
    assert len(set(alone)) > 1  # one is done at once, and the other goes on


def measured(marks: list[dict[str, list[bool]]]) -> Measured:
    return Measured(
        answers=tuple(
            tuple(
                Answer(
                    weighed=Weighed(
                        probe=Probe(fact="f", kind=kind, prompt="p", target="t", prior="r"),
                        target_logprob=float(mark),
                        prior_logprob=0.5,
                        argmax=mark,
                        predicted=(),
                        following=0,
                        state=torch.zeros(1),
                    ),
                    said=mark,
                )
                for kind in SCORED
                for mark in record[kind]
            )
            for record in marks
        ),
        text=Perplexity(value=1.0, tokens=1),
    )


def records(neighbours: list[list[bool]]) -> Measured:
    return measured([{"efficacy": [True], "paraphrase": [True], "neighbourhood": own} for own in neighbours])


def test_equal_answers_differ_by_nothing():
    mixed = records([[True, False], [False, False], [True, True]])
    difference = score_difference(mixed, mixed)
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_the_difference_is_that_of_the_scores():
    better, worse = records([[True]] * 4), records([[True], [False]] * 2)
    assert score_difference(better, worse).value == pytest.approx(100 - 75)  # 3 / (1 + 1 + 2)


def test_pairing_cancels_what_is_hard_for_both():
    hard = [[place % 2 == 0] * 10 for place in range(40)]
    worse = [[*own[:-1], False] for own in hard]
    difference = score_difference(records(hard), records(worse))
    assert 0 < difference.low < difference.value < difference.high < 8


def test_a_record_without_neighbours_counts_for_the_rest():
    difference = score_difference(records([[True], []]), records([[True], []]))
    assert difference.value == 0


@pytest.mark.parametrize(("low", "records", "met"), [(-2.5, 100, False), (-1.5, 100, True), (-1.5, 99, False)])
def test_not_inferior_is_said_by_the_lower_bound_on_enough_records(low, records, met):
    points = {"value": 1.0, "low": low, "high": 4.0}
    score = {"records": records, "differences": {"joint": {"published": points}}, "measured": "2026-01-01"}
    (outcome,) = outcomes_of({"score": score})
    assert outcome.met is met


def test_nothing_measured_is_no_outcome():
    assert outcomes_of({}) == []


@pytest.mark.parametrize(("least", "met"), [(0.9999, True), (0.99, False)])
def test_the_same_maths_is_met_by_speed_and_by_the_worst_vector(least, met):
    ours = {"reached": 7.9, "reached in processor time": 7.8, "seconds": 7.7, "steps run": 18.5}
    row = {
        "ours": ours,
        "published": {"seconds": 60.7, "steps run": 18.0, "facts": 10},
        "cosine": {"least": least, "median": 1.0},
        "setting": {"contexts": 6, "layer": 8},
        "measured": "2026-01-01",
    }
    (outcome,) = outcomes_of({"same maths": row})
    assert outcome.met is met
    assert "steps run 18.5 against 18.0" in outcome.setting
