import dataclasses

import pytest
import torch

from editors.batch import by_subject
from editors.errors import InvalidConfigError, SingularSystemError
from editors.facts import Fact
from editors.hooks import capture
from editors.layouts import backbone_of
from editors.memit import Memit, edit
from editors.patch import applied
from editors.solving import FactorisedMoment
from editors.tokens import fact_row
from editors.values import ValueSettings, optimise_injections

FACT = Fact(id="a", subject="France", prompt="The capital of {} is", target="Rome")


def hidden_at_subject(tiny):
    row = fact_row(tiny.tokenizer, FACT)
    ids = torch.tensor([row.ids])
    return capture(tiny.model, lambda: backbone_of(tiny.model)(input_ids=ids), layers=[1]).hidden[1][0, row.subject]


def test_a_one_fact_solve_hits_its_value(tiny):
    config = dataclasses.replace(tiny.config, moment_weight=1e-6)
    given = tiny.given() | {"config": config, "material": dataclasses.replace(tiny.material, contexts=["{}"])}
    wanted = optimise_injections(
        tiny.model, tiny.tokenizer, by_subject([FACT]), layers=[1], contexts=["{}"], settings=config.values
    )[0, 0]
    before = hidden_at_subject(tiny)
    patch = edit(tiny.model, tiny.tokenizer, [FACT], **given)
    with applied(tiny.model, patch, base=tiny.base):
        torch.testing.assert_close(hidden_at_subject(tiny) - before, wanted, rtol=0, atol=2e-3)


def test_a_heavy_second_moment_edits_less(tiny):
    sizes = [
        sum(
            delta.dense().norm()
            for delta in edit(
                tiny.model,
                tiny.tokenizer,
                [FACT],
                **(tiny.given() | {"config": dataclasses.replace(tiny.config, moment_weight=weight)}),
            ).deltas.values()
        )
        for weight in (0.01, 10_000.0)
    ]
    assert sizes[0] > sizes[1]


def test_each_sites_moment_is_factorised_once_however_many_facts(tiny, facts, monkeypatch):
    factorised = []
    of = FactorisedMoment.of
    monkeypatch.setattr(FactorisedMoment, "of", lambda moment: factorised.append(moment) or of(moment))
    edit(tiny.model, tiny.tokenizer, facts, **tiny.given())
    assert len(factorised) == len(tiny.config.layers)


def test_a_singular_moment_is_refused_before_anything_is_optimised(tiny, facts):
    told = []
    moments = {site: torch.zeros_like(moment) for site, moment in tiny.material.moments.items()}
    material = dataclasses.replace(tiny.material, moments=moments)
    with pytest.raises(SingularSystemError):
        edit(
            tiny.model,
            tiny.tokenizer,
            facts,
            progress=lambda *what: told.append(what),
            **(tiny.given() | {"material": material}),
        )
    assert told == []


def test_progress_is_told_of_every_layer(tiny):
    told = []
    edit(tiny.model, tiny.tokenizer, [FACT], progress=lambda *what: told.append(what), **tiny.given())
    steps = [what for what in told if what[0] == "steps of the values"]
    assert 0 < len(steps) <= tiny.config.values.steps
    assert steps == [("steps of the values", step, tiny.config.values.steps) for _, step, _ in steps]
    layers = [(what, layer, 2) for layer in (1, 2) for what in ("keys", "layers")]
    assert told[len(steps) :] == [("values", 1, 1), *layers]


def test_the_last_layer_is_refused_since_no_attention_follows(tiny):
    config = dataclasses.replace(tiny.config, layers=(1, 2))
    with pytest.raises(InvalidConfigError, match="layer 2 is the last"):
        edit(tiny.model, tiny.tokenizer, [FACT], **(tiny.given() | {"config": config}))


@pytest.mark.parametrize("wrong", [{"layers": ()}, {"layers": (2, 1)}, {"moment_weight": 0.0}, {"contexts": 0}])
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(InvalidConfigError, match=next(iter(wrong))):
        Memit(**wrong)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"clamp": -1.0}, {"kl_weight": -0.1}, {"step_length": float("nan")}])
def test_value_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(InvalidConfigError, match=next(iter(wrong))):
        ValueSettings(**wrong)
