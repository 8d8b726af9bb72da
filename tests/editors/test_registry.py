"""The contract that every editor keeps."""

import dataclasses
from typing import Any

import pytest
import torch

from editors.artifacts import digest_tensors
from editors.errors import (
    InvalidConfigError,
    InvalidFactError,
    NonFiniteError,
    SubjectNotFoundError,
    UneditedError,
    UnknownSiteError,
)
from editors.facts import Fact
from editors.finetune import Finetune
from editors.layouts import read_weight, site_module, sites_of, write_weight
from editors.patch import applied
from editors.registry import EDITORS, edit
from editors.scoring import probe_of, weigh
from editors.tokens import opening

every = pytest.mark.parametrize("name", sorted(EDITORS))
solving = pytest.mark.parametrize("name", sorted(set(EDITORS) - {"finetune", "finetune_constrained"}))


def changed(config: Any, *, fine_tuning: dict[str, object], values: dict[str, object]) -> Any:
    """Return a config with some settings of its fine-tuning, or of how it optimises values, changed."""
    if isinstance(config, Finetune):
        return dataclasses.replace(config, **fine_tuning)
    return dataclasses.replace(config, values=dataclasses.replace(config.values, **values))


def quick(given: dict[str, Any]) -> dict[str, Any]:
    """Return what an edit is given, with few steps: enough for what doesn't depend on how good the edit is."""
    return given | {"config": changed(given["config"], fine_tuning={"steps": 3}, values={"steps": 3})}


@every
def test_the_default_settings_say_what_material_they_need(name):
    config = EDITORS[name].config()
    assert all(isinstance(layer, int) for layer in config.layers)
    assert config.layers
    assert config.contexts > 0


@every
def test_the_model_is_untouched_by_an_edit_bit_for_bit(name, tiny, facts):
    before = tiny.base
    patch = EDITORS[name].edit(tiny.model, tiny.tokenizer, facts, **quick(tiny.given(name)))
    assert patch.deltas
    assert patch.base == before == digest_tensors(tiny.model.state_dict())


@every
def test_the_model_is_untouched_wherever_an_edit_is_interrupted(name, tiny, facts):
    before, steps = tiny.base, []
    EDITORS[name].edit(
        tiny.model, tiny.tokenizer, facts, progress=lambda *step: steps.append(step), **quick(tiny.given(name))
    )
    assert steps
    for last in {what: (what, done, total) for what, done, total in steps}.values():

        def interrupt(*step: object, last: object = last) -> None:
            if step == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            EDITORS[name].edit(tiny.model, tiny.tokenizer, facts, progress=interrupt, **quick(tiny.given(name)))
        assert tiny.base == before
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in tiny.model.modules())


@every
def test_no_gradient_is_left_on_a_model_that_is_not_frozen(name, tiny, facts):
    tiny.model.requires_grad_(True)
    EDITORS[name].edit(tiny.model, tiny.tokenizer, facts[:1], **quick(tiny.given(name)))
    assert all(parameter.grad is None for parameter in tiny.model.parameters())


@every
def test_the_same_facts_in_any_order_give_the_same_digest(name, tiny, facts):
    first, again = (
        EDITORS[name].edit(tiny.model, tiny.tokenizer, batch, **quick(tiny.given(name)))
        for batch in (facts, facts[::-1])
    )
    assert first.digest == again.digest


@every
def test_no_facts_give_the_empty_patch(name, tiny):
    assert EDITORS[name].edit(tiny.model, tiny.tokenizer, [], **tiny.given(name)).deltas == {}


@every
def test_the_targets_become_likelier_under_the_patch(name, tiny, facts):
    probes = [probe_of(fact) for fact in facts]
    before = weigh(tiny.model, tiny.tokenizer, probes)
    patch = EDITORS[name].edit(tiny.model, tiny.tokenizer, facts, **tiny.given(name))
    with applied(tiny.model, patch, base=tiny.base):
        after = weigh(tiny.model, tiny.tokenizer, probes)
    assert sum(each.target_logprob for each in after) > sum(each.target_logprob for each in before) + 0.5


@every
def test_contradicting_facts_are_refused_by_id(name, tiny, facts):
    before, other = tiny.base, dataclasses.replace(facts[0], id="f7", target="Polish")
    with pytest.raises(InvalidFactError, match="f1 and f7 contradict"):
        EDITORS[name].edit(tiny.model, tiny.tokenizer, [*facts, other], **tiny.given(name))
    assert tiny.base == before


@every
def test_a_subject_that_has_no_token_is_refused_by_its_facts_id(name, tiny, facts, monkeypatch):
    encode = type(tiny.tokenizer).__call__

    def without_france(self, text, **options):
        encoding = encode(self, text, **options)
        start = text.find("France")
        if start >= 0:
            encoding["offset_mapping"] = [
                (0, 0) if left < start + len("France") and right > start else (left, right)
                for left, right in encoding["offset_mapping"]
            ]
        return encoding

    monkeypatch.setattr(type(tiny.tokenizer), "__call__", without_france)
    before = tiny.base
    with pytest.raises(SubjectNotFoundError, match=r"'France' is not in .*fact f1"):
        EDITORS[name].edit(tiny.model, tiny.tokenizer, facts, **tiny.given(name))
    assert tiny.base == before


@every
def test_nan_in_the_weights_is_refused(name, tiny, facts):
    given = tiny.given(name)
    site = sites_of(tiny.model, given["config"].layers[-1:])[0]
    write_weight(tiny.model, site, torch.full_like(read_weight(tiny.model, site), float("nan")))
    before = tiny.base
    with pytest.raises(NonFiniteError, match=site):
        EDITORS[name].edit(tiny.model, tiny.tokenizer, facts, **given)
    assert tiny.base == before


@every
def test_nan_elsewhere_in_the_model_is_refused_too(name, tiny, facts):
    given = tiny.given(name)
    with torch.no_grad():
        tiny.model.get_input_embeddings().weight.fill_(float("nan"))
    before = tiny.base
    with pytest.raises(NonFiniteError, match="loss"):
        EDITORS[name].edit(tiny.model, tiny.tokenizer, facts, **given)
    assert tiny.base == before


@every
def test_a_layer_that_the_model_lacks_is_refused(name, tiny, facts):
    given = tiny.given(name)
    layer = {"layer": 7} if name == "rome" else {"layers": (1, 7)}
    before = tiny.base
    with pytest.raises(UnknownSiteError, match="7"):
        EDITORS[name].edit(
            tiny.model, tiny.tokenizer, facts, **(given | {"config": dataclasses.replace(given["config"], **layer)})
        )
    assert tiny.base == before


@every
def test_edit_finds_the_editor_by_its_config(name, tiny, facts):
    direct = EDITORS[name].edit(tiny.model, tiny.tokenizer, facts[:1], **quick(tiny.given(name)))
    assert edit(tiny.model, tiny.tokenizer, facts[:1], **quick(tiny.given(name))).digest == direct.digest


@every
def test_a_config_of_no_editor_is_refused(name, tiny, facts):
    with pytest.raises(InvalidConfigError, match=name):
        edit(tiny.model, tiny.tokenizer, facts, **(tiny.given(name) | {"config": object()}))


@every
def test_facts_that_the_base_already_says_move_nothing_and_are_reported(name, tiny, facts, caplog):
    given = tiny.given(name)
    config = changed(given["config"], fine_tuning={"enough": 1e6}, values={"enough": 1e6})
    patch = EDITORS[name].edit(tiny.model, tiny.tokenizer, facts, **(given | {"config": config}))
    assert all(delta.dense().norm() == 0 for delta in patch.deltas.values())
    assert "need no edit" in caplog.text
    assert "France" in caplog.text


@every
def test_a_change_that_is_lost_in_the_models_dtype_is_refused(name, tiny, facts):
    given = tiny.given(name)
    config = changed(
        given["config"], fine_tuning={"learning_rate": 1e-15, "steps": 2}, values={"clamp": 1e-15, "steps": 2}
    )
    with pytest.raises(UneditedError, match="bfloat16"):
        EDITORS[name].edit(tiny.model.bfloat16(), tiny.tokenizer, facts, **(given | {"config": config}))


@solving
def test_missing_moments_are_named(name, tiny, facts):
    given = tiny.given(name)
    site = sites_of(tiny.model, given["config"].layers[-1:])[0]
    moments = {key: value for key, value in tiny.material.moments.items() if key != site}
    material = dataclasses.replace(given["material"], moments=moments)
    with pytest.raises(InvalidConfigError, match=site):
        EDITORS[name].edit(tiny.model, tiny.tokenizer, facts, **(given | {"material": material}))


@solving
def test_the_last_layer_is_refused_since_no_attention_follows(name, tiny, facts):
    given = tiny.given(name)
    layer = {"layer": 2} if name == "rome" else {"layers": (1, 2)}
    with pytest.raises(InvalidConfigError, match="layer 2 is the last"):
        EDITORS[name].edit(
            tiny.model, tiny.tokenizer, facts, **(given | {"config": dataclasses.replace(given["config"], **layer)})
        )


@solving
def test_an_edit_at_the_start_of_a_prompt_leaves_what_opens_every_row_alone(name, tiny):
    fact = Fact(id="f", subject="F", prompt="{} is", target="Rome")
    patch = EDITORS[name].edit(tiny.model, tiny.tokenizer, [fact], **tiny.given(name))
    site, delta = next(iter(patch.deltas.items()))
    read = []
    hook = site_module(tiny.model, site).register_forward_pre_hook(lambda _, inputs: read.append(inputs[0][0]))
    front = opening(tiny.tokenizer)
    tiny.model(input_ids=torch.tensor([[*front, *tiny.tokenizer("F").input_ids]]))
    hook.remove()
    moved = (delta.dense() @ read[0].double().T).norm(dim=0)
    assert moved[: len(front)].max() < 0.5 * moved[len(front)]


@solving
def test_subjects_whose_keys_nearly_coincide_are_reported(name, tiny, caplog):
    one = Fact(id="one", subject="France", prompt="The capital of {} is", target="Rome")
    other = Fact(id="other", subject="of France", prompt="The capital {} was", target="Polish")
    EDITORS[name].edit(tiny.model, tiny.tokenizer, [one, other], **quick(tiny.given(name)))
    assert "'France' and 'of France'" in caplog.text
