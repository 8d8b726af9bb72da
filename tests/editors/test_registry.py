"""The contract that every editor keeps."""

import dataclasses

import pytest
import torch

from editors.artifacts import digest_tensors
from editors.errors import InvalidConfigError, InvalidFactError, NonFiniteError
from editors.facts import Fact
from editors.layouts import read_weight, site_module, sites_of, write_weight
from editors.patch import applied
from editors.registry import EDITORS, edit
from editors.scoring import probe_of, score

pytestmark = pytest.mark.parametrize("name", sorted(EDITORS))


def test_the_model_is_untouched_by_an_edit_bit_for_bit(name, tiny, facts):
    before = tiny.base
    patch = EDITORS[name].edit(tiny.model, tiny.tokenizer, facts, **tiny.given())
    assert patch.deltas
    assert patch.base == before == digest_tensors(tiny.model.state_dict())


def test_the_model_is_untouched_by_an_edit_that_is_interrupted(name, tiny, facts):
    before = tiny.base

    def interrupt(what: str, done: int, total: int) -> None:
        if what == "layers":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        EDITORS[name].edit(tiny.model, tiny.tokenizer, facts, progress=interrupt, **tiny.given())
    assert tiny.base == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tiny.model.modules())


def test_the_same_facts_in_any_order_give_the_same_digest(name, tiny, facts):
    first, again = (
        EDITORS[name].edit(tiny.model, tiny.tokenizer, batch, **tiny.given()) for batch in (facts, facts[::-1])
    )
    assert first.digest == again.digest


def test_no_facts_give_the_empty_patch(name, tiny):
    assert EDITORS[name].edit(tiny.model, tiny.tokenizer, [], **tiny.given()).deltas == {}


def test_the_targets_become_likelier_under_the_patch(name, tiny, facts):
    probes = [probe_of(fact) for fact in facts]
    before = score(tiny.model, tiny.tokenizer, probes)
    patch = EDITORS[name].edit(tiny.model, tiny.tokenizer, facts, **tiny.given())
    with applied(tiny.model, patch, base=tiny.base):
        after = score(tiny.model, tiny.tokenizer, probes)
    assert sum(scored.target_logprob for scored in after) > sum(scored.target_logprob for scored in before) + 0.5


def test_contradicting_facts_are_refused_by_id(name, tiny, facts):
    other = dataclasses.replace(facts[0], id="f7", target="Polish")
    with pytest.raises(InvalidFactError, match="f1 and f7 contradict"):
        EDITORS[name].edit(tiny.model, tiny.tokenizer, [*facts, other], **tiny.given())


def test_nan_in_the_weights_is_refused(name, tiny, facts):
    site = sites_of(tiny.model, [1])[0]
    given = tiny.given()
    write_weight(tiny.model, site, torch.full_like(read_weight(tiny.model, site), float("nan")))
    with pytest.raises(NonFiniteError):
        EDITORS[name].edit(tiny.model, tiny.tokenizer, facts, **given)


def test_nan_elsewhere_in_the_model_is_refused_too(name, tiny, facts):
    given = tiny.given()
    with torch.no_grad():
        tiny.model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="loss"):
        EDITORS[name].edit(tiny.model, tiny.tokenizer, facts, **given)


def test_missing_moments_are_named(name, tiny, facts):
    site = sites_of(tiny.model, [1])[0]
    moments = {key: value for key, value in tiny.material.moments.items() if key != site}
    material = dataclasses.replace(tiny.material, moments=moments)
    with pytest.raises(InvalidConfigError, match=site):
        EDITORS[name].edit(tiny.model, tiny.tokenizer, facts, **(tiny.given() | {"material": material}))


def test_edit_finds_the_editor_by_its_config(name, tiny, facts):
    direct = EDITORS[name].edit(tiny.model, tiny.tokenizer, facts[:1], **tiny.given())
    assert edit(tiny.model, tiny.tokenizer, facts[:1], **tiny.given()).digest == direct.digest


def test_a_config_of_no_editor_is_refused(name, tiny, facts):
    with pytest.raises(InvalidConfigError, match=name):
        edit(tiny.model, tiny.tokenizer, facts, **(tiny.given() | {"config": object()}))


def test_an_edit_at_the_start_of_a_prompt_leaves_position_0_alone(name, tiny):
    fact = Fact(id="f", subject="F", prompt="{} is", target="Rome")
    patch = EDITORS[name].edit(tiny.model, tiny.tokenizer, [fact], **tiny.given())
    site = sites_of(tiny.model, [0])[0]
    read = []
    hook = site_module(tiny.model, site).register_forward_pre_hook(lambda _, inputs: read.append(inputs[0][0]))
    tiny.model(input_ids=torch.tensor([[tiny.tokenizer.bos_token_id, *tiny.tokenizer("F").input_ids]]))
    hook.remove()
    moved = patch.deltas[site].dense() @ read[0].double().T
    assert moved[:, 0].norm() < 0.5 * moved[:, 1].norm()
