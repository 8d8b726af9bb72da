"""Metrics of made-up answers, whose right values are counted by hand."""

from typing import Any, cast

import pytest
import torch

from editors.measuring import Answer, Measured
from editors.metrics import drift, metrics
from editors.scoring import Perplexity, Probe, Weighed


def answer(kind, *, likelier=True, argmax=True, said=True, following=1, predicted=(1,), prior=True, state=(0.0,)):
    return Answer(
        weighed=Weighed(
            probe=Probe(fact="a", kind=kind, prompt="p", target="t", prior="q" if prior else None),
            target_logprob=-1.0 if likelier else -3.0,
            prior_logprob=-2.0 if prior else None,
            argmax=argmax,
            predicted=predicted,
            following=following,
            state=torch.tensor(state),
        ),
        said=said,
    )


def measured(*records):
    return Measured(answers=tuple(map(tuple, records)), text=Perplexity(value=10.0, tokens=5))


def value(found, name, how, model="edited"):
    metric = next(metric for metric in found if (metric.name, metric.how) == (name, how))
    estimate = getattr(metric, model)
    return estimate and pytest.approx(estimate.value)


def record(*kinds, **marks):
    return [answer(kind, **marks) for kind in kinds]


ALL = ("efficacy", "paraphrase", "neighbourhood")


def test_prompts_are_averaged_within_a_record_first():
    one = [*record("efficacy"), *record("paraphrase", likelier=False)]
    two = [*record("efficacy"), *record("paraphrase", "paraphrase", "paraphrase")]
    found = metrics(measured(one, two), measured(one, two))
    assert value(found, "paraphrase", "logprob") == 0.5
    assert next(metric for metric in found if metric.name == "paraphrase").count == 4


def test_the_three_ways_are_never_mixed():
    before = measured(record(*ALL))
    after = measured(record(*ALL, likelier=False, argmax=True, said=False))
    found = metrics(before, after)
    assert [value(found, "efficacy", how) for how in ("logprob", "argmax", "generation")] == [0, 1, 0]
    assert [value(found, "efficacy", how, "unedited") for how in ("logprob", "argmax", "generation")] == [1, 1, 1]


def test_the_score_is_the_harmonic_mean_and_nought_where_one_share_is():
    good, bad = record(*ALL), [*record("efficacy"), *record("paraphrase", "neighbourhood", likelier=False)]
    assert value(metrics(measured(good, bad), measured(good, bad)), "score", "logprob") == 3 / (1 + 2 + 2)
    assert value(metrics(measured(bad), measured(bad)), "score", "logprob") == 0


def test_what_follows_is_measured_where_it_is_asked_and_leaves_the_score_alone():
    plain, more = record(*ALL), [*record(*ALL), *record("portability", "portability", argmax=False, prior=False)]
    names = [{metric.name for metric in metrics(measured(each), measured(each))} for each in (plain, more)]
    assert names == [{*ALL, "score"}, {*ALL, "score", "portability"}]
    found = metrics(measured(plain, more), measured(plain, more))
    assert value(found, "portability", "argmax") == 0 and value(found, "portability", "generation") == 1
    assert value(found, "portability", "logprob") is None
    assert value(found, "score", "argmax") == 1


def test_a_neighbour_is_compared_with_the_unedited_model_by_its_next_token():
    before = measured(record("neighbourhood", "neighbourhood", following=4, argmax=False))
    after = measured([answer("neighbourhood", following=4), answer("neighbourhood", following=5)])
    assert value(metrics(before, after), "neighbourhood", "argmax") == 0.5
    assert value(metrics(before, after), "neighbourhood", "argmax", "unedited") == 1


def test_only_what_the_unedited_model_answered_right_can_be_kept():
    before = measured([answer("neighbourhood", said=said) for said in (True, True, False)])
    after = measured([answer("neighbourhood", said=said) for said in (True, False, True)])
    found = metrics(before, after)
    assert value(found, "neighbourhood", "generation") == 0.5
    assert next(m for m in found if (m.name, m.how) == ("neighbourhood", "generation")).count == 2


def test_without_priors_there_is_no_logprob_and_a_neighbour_keeps_every_token_of_its_answer():
    before = measured(record(*ALL, prior=False, predicted=(1, 2)))
    after = measured(record(*ALL, prior=False, predicted=(1, 3)))
    found = metrics(before, after)
    assert [value(found, name, "logprob") for name in (*ALL, "score")] == [None] * 4
    assert value(found, "neighbourhood", "argmax") == 0
    assert value(found, "efficacy", "argmax") == 1


def test_an_interval_holds_its_value_and_narrows_with_the_records():
    def width(times):
        model = measured(*[record(*ALL), record(*ALL, likelier=False)] * times)
        estimate = metrics(model, model)[0].edited
        assert estimate
        assert estimate.low <= estimate.value == 0.5 <= estimate.high
        return estimate.high - estimate.low

    assert 0 < width(50) < width(5) < 1


def test_drift_is_over_the_neighbours_alone():
    class Head(torch.nn.Module):
        def forward(self, states):
            return torch.cat([states, -states], dim=-1)

    class LlamaForCausalLM:  # by this name its layout is found
        device = torch.device("cpu")
        config = type("Config", (), {"vocab_size": 2})

        def get_output_embeddings(self):
            return Head()

    before = measured([answer("efficacy", state=(9.0,)), *record("neighbourhood", "neighbourhood", "neighbourhood")])
    after = measured([answer("efficacy"), *(answer("neighbourhood", state=(s,)) for s in (0.0, 0.5, 1.0))])
    model = cast(Any, LlamaForCausalLM())
    found = drift(model, before, after)
    expected = [torch.tensor(s).cosh().log().item() for s in (0.5, 1.0)]  # KL of a fair coin from one with logits +-s
    assert found.count == 3
    assert found.median == pytest.approx(expected[0], abs=1e-5)
    assert found.p95 is not None and expected[0] < found.p95 < expected[1]
    assert drift(model, measured(record("efficacy")), measured(record("efficacy"))).median is None
