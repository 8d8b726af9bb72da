import dataclasses

import pytest
import torch

from editors.errors import InvalidConfigError
from editors.finetune import Finetune, FinetuneConstrained, edit
from editors.layouts import backbone_of, project, sites_of
from editors.patch import applied


def drift(tiny, patch):
    """The mean KL from the base on the text, over the positions behind 0."""
    ids = torch.tensor(tiny.material.text)

    def logprobs():
        return project(tiny.model, backbone_of(tiny.model)(input_ids=ids).last_hidden_state[:, 1:]).log_softmax(-1)

    base = logprobs()
    with applied(tiny.model, patch, base=tiny.base):
        edited = logprobs()
    return float((base.exp() * (base - edited)).sum(-1).mean())


def fine_tuned(tiny, facts, config):
    return edit(tiny.model, tiny.tokenizer, facts, **(tiny.given("finetune") | {"config": config}))


def test_no_weight_changes_by_more_than_the_bound(tiny, facts):
    free, bounded = (
        fine_tuned(tiny, facts, Finetune(layers=(0, 1), learning_rate=0.02, steps=8, bound=bound))
        for bound in (None, 0.05)
    )
    largest = max(float(delta.dense().abs().max()) for delta in bounded.deltas.values())
    assert largest == pytest.approx(0.05)
    assert max(float(delta.dense().abs().max()) for delta in free.deltas.values()) > 0.05


def test_a_kl_term_drifts_less_on_the_text_than_none(tiny, facts):
    naive = Finetune(layers=(0, 1), learning_rate=0.02, steps=15)
    drifts = [
        drift(tiny, fine_tuned(tiny, facts, dataclasses.replace(naive, kl_weight=weight))) for weight in (0.0, 1.0)
    ]
    assert drifts[1] < 0.7 * drifts[0]


def test_constrained_fine_tuning_drifts_less_on_the_text_than_naive(tiny, facts):
    naive, constrained = (
        drift(tiny, edit(tiny.model, tiny.tokenizer, facts, **tiny.given(name)))
        for name in ("finetune", "finetune_constrained")
    )
    assert constrained < 0.8 * naive


def test_each_step_takes_the_next_part_of_the_text(tiny, facts):
    text, half = tiny.material.text, len(tiny.material.text) // 2
    config = Finetune(layers=(1,), learning_rate=0.02, steps=2, kl_weight=1.0, kl_tokens=half * len(text[0]))
    given = tiny.given("finetune") | {"config": config}
    (site,) = sites_of(tiny.model, [1])
    whole, first, second = (
        edit(
            tiny.model,
            tiny.tokenizer,
            facts,
            **(given | {"material": dataclasses.replace(given["material"], text=part)}),
        )
        .deltas[site]
        .dense()
        for part in (text, text[:half], text[half:])
    )
    # in the first step nothing has changed yet, so whichever part it takes has no pull
    assert (whole - second).norm() < 0.1 * (whole - first).norm()


def test_training_ends_when_every_fact_is_said_well_enough(tiny, facts):
    told = []
    config = Finetune(layers=(0, 1), learning_rate=0.02, steps=25, enough=2.0)
    edit(
        tiny.model,
        tiny.tokenizer,
        facts,
        progress=lambda *what: told.append(what),
        **(tiny.given("finetune") | {"config": config}),
    )
    assert 0 < len(told) < 25
    assert told == [("steps of fine-tuning", step + 1, 25) for step in range(len(told))]


def test_facts_run_in_batches_of_a_budget_give_the_same_patch(tiny, facts):
    whole, pieces = (
        fine_tuned(tiny, facts, Finetune(layers=(1,), learning_rate=0.02, steps=3, budget=budget))
        for budget in (4096, 1)
    )
    for site, delta in whole.deltas.items():
        torch.testing.assert_close(pieces.deltas[site].dense(), delta.dense(), rtol=0, atol=1e-3)


def test_the_last_layer_can_be_trained(tiny, facts):
    assert fine_tuned(tiny, facts, Finetune(layers=(2,), learning_rate=0.02, steps=3)).deltas


def test_a_kl_weight_without_text_is_refused(tiny, facts):
    given = tiny.given("finetune_constrained")
    given["material"] = dataclasses.replace(given["material"], text=())
    with pytest.raises(InvalidConfigError, match="no ordinary text"):
        edit(tiny.model, tiny.tokenizer, facts, **given)


@pytest.mark.parametrize(
    "wrong",
    [
        {"layers": ()},
        {"steps": 0},
        {"learning_rate": float("nan")},
        {"kl_weight": -1.0},
        {"bound": 0.0},
        {"enough": -1},
    ],
)
@pytest.mark.parametrize("config", [Finetune, FinetuneConstrained])
def test_settings_outside_their_range_are_refused(config, wrong):
    with pytest.raises(InvalidConfigError, match=next(iter(wrong))):
        config(**wrong)
