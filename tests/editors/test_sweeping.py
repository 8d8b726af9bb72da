import dataclasses
import math

import pytest
import torch

from editors.artifacts import digest_tensors
from editors.errors import InvalidConfigError
from editors.joint import edit
from editors.measuring import measure
from editors.metrics import Drift, drift, metrics
from editors.patch import applied
from editors.shapes import Question, Record
from editors.sweeping import Sweep, Trial, rank_correlation, sweep

HELD = [[0, 5, 6, 7]]


@pytest.fixture
def records(facts):
    """One record with everything, one without neighbours, and one that is weighed against nothing."""
    bern = Question(prompt="The river in Bern is the", answer="Aare")
    return [
        Record(fact=facts[0], paraphrases=("It is said that the capital of France is",), neighbours=(bern,)),
        Record(fact=dataclasses.replace(facts[1], prior="Polish"), paraphrases=(), neighbours=()),
        Record(fact=facts[2], paraphrases=("The head of Boeing is",), neighbours=(bern,)),
    ]


def swept(tiny, records, **given):
    return sweep(tiny.model, tiny.tokenizer, records, **tiny.given("joint") | {"layers": (0, 1)} | given)


def test_a_trial_is_what_the_benchmark_measures_of_that_layer_alone(tiny, records):
    found = swept(tiny, records)
    given = tiny.given("joint")
    given["config"] = dataclasses.replace(given["config"], layers=(1,))
    before = measure(tiny.model, tiny.tokenizer, records, held=HELD)
    patch = edit(tiny.model, tiny.tokenizer, [record.fact for record in records], **given)
    with applied(tiny.model, patch, base=tiny.base):
        after = measure(tiny.model, tiny.tokenizer, records, held=HELD)
    expected = [metric for metric in metrics(before, after) if metric.how == "logprob"]
    assert found.trials[1].layer == 1
    assert found.trials[1].shares == pytest.approx({metric.name: metric.edited.value for metric in expected})
    assert found.unedited == pytest.approx({metric.name: metric.unedited.value for metric in expected})
    moved = drift(tiny.model, before, after)
    assert moved.median > 1e-4
    assert dataclasses.astuple(found.trials[1].drift) == pytest.approx(dataclasses.astuple(moved))
    assert (found.facts, found.prompts) == (3, 7)


def test_the_model_is_as_it_was_after_a_sweep(tiny, records):
    before = digest_tensors(tiny.model.state_dict())
    told = []
    swept(tiny, records, progress=lambda *given: told.append(given))
    assert digest_tensors(tiny.model.state_dict()) == before
    assert [given for given in told if given[0] == "layers alone"] == [("layers alone", 1, 2), ("layers alone", 2, 2)]


def test_records_that_give_no_score_are_refused_before_any_edit(tiny, records):
    told = []
    bare = [dataclasses.replace(record, neighbours=()) for record in records]
    with pytest.raises(InvalidConfigError, match=r"3 records give no neighbourhood, score.*as CounterFact's"):
        swept(tiny, bare, progress=lambda *given: told.append(given))
    assert told == []


def test_the_highest_score_comes_first():
    trials = tuple(
        Trial(layer=layer, shares={"score": score}, drift=Drift(median=None, p95=None, count=0))
        for layer, score in enumerate([0.2, 0.9, 0.5])
    )
    ranked = Sweep(facts=1, prompts=1, unedited={"score": 0.1}, trials=trials).ranked()
    assert [trial.layer for trial in ranked] == [1, 2, 0]


def test_a_rank_correlation_knows_the_order_alone():
    assert rank_correlation([1, 2, 3, 40], [0.1, 0.2, 0.7, 0.8]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 40], [9, 3, 2, -5]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]) == pytest.approx(0.8)  # 1 - 6 * 4 / (5 * 24)


def test_ties_share_their_mean_rank():
    expected = float(torch.corrcoef(torch.tensor([[1.0, 2.5, 2.5, 4.0], [1.0, 2.0, 3.0, 4.0]]))[0, 1])
    assert rank_correlation([1, 7, 7, 9], [1, 2, 3, 4]) == pytest.approx(expected)
    assert math.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))
