"""What a change in front of the norm behind a site is worth behind it, and the other way round."""

import pytest
import torch
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm

from editors.hooks import capture, injected
from editors.layouts import backbone_of, output_norm_of, site_module, sites_of
from editors.outputnorms import before, behind, yardstick

LAYER = 1


@pytest.fixture
def norm():
    torch.manual_seed(0)
    norm = Gemma3RMSNorm(64)
    norm.weight.data = (torch.randn(64) / 3).exp() - 1  # most gains lie between a half and two
    return norm.requires_grad_(False)


def of_one_length(rows: int):
    vectors = torch.randn(rows, 64, dtype=torch.float64)
    return 3 * vectors / vectors.norm(dim=-1, keepdim=True)


def test_what_an_injection_does_to_the_stream_is_its_change_behind_the_norm(family):
    ids = torch.tensor([[0, 5, 6, 7]])
    (site,) = sites_of(family.model, [LAYER])

    def read():
        return capture(family.model, lambda: backbone_of(family.model)(input_ids=ids), sites=[site], layers=[LAYER])

    before_it, injection = read(), torch.randn(1, 1, 32)
    with injected(family.model, [site], injection, torch.tensor([2])):
        moved = (read().hidden[LAYER] - before_it.hidden[LAYER])[:, 2].double()
    output = site_module(family.model, site)(before_it.keys[site])[:, 2].double()
    norm = output_norm_of(family.model, LAYER)
    torch.testing.assert_close(
        behind(norm, output + injection[:, 0]) - behind(norm, output), moved, rtol=1e-4, atol=1e-5
    )


def test_a_change_of_the_stream_is_taken_back_through_the_norm(norm):
    outputs, others = of_one_length(2).split(1)
    change = behind(norm, others) - behind(norm, outputs)
    found = outputs + before(norm, change, at=outputs)
    assert (found - others).norm() < 0.05 * (others - outputs).norm()


def test_nothing_is_forced_through_a_channel_that_the_norm_shuts(norm):
    norm.weight[:2] = torch.tensor([-1.0, -0.9999])  # gains of 0 and of 0.0001
    outputs = of_one_length(1)
    found = before(norm, torch.ones_like(outputs), at=outputs)
    assert found[0, 0] == 0
    assert found[0, :2].abs().max() < found[0, 2:].abs().max()


def test_without_a_norm_both_spaces_are_one():
    outputs, change = of_one_length(2).split(1)
    assert torch.equal(behind(None, outputs), outputs)
    assert torch.equal(before(None, change, at=outputs), change)


def test_an_injection_is_measured_by_what_it_is_added_to_before_any_norm(family):
    ids = torch.tensor([[0, 5, 6, 7]])
    (site,) = sites_of(family.model, [LAYER])

    def forward():
        return backbone_of(family.model)(input_ids=ids)

    seen = capture(family.model, forward, sites=[site], layers=[LAYER])
    output = site_module(family.model, site)(seen.keys[site])
    expected = output if family.model.config.model_type.startswith("gemma") else seen.hidden[LAYER]
    assert torch.equal(yardstick(family.model, forward, layer=LAYER), expected)
