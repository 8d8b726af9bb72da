import pytest
import torch
from transformers import OPTConfig, OPTForCausalLM

from editors.errors import NonFiniteError, UnknownLayoutError, UnknownSiteError
from editors.layouts import backbone_of, project, read_weight, site_module, sites_of, write_weight


def test_a_weight_reads_as_d_out_by_d_in_on_every_layout(tiny):
    site = sites_of(tiny.model, [1])[0]
    key = torch.randn(1, 1, read_weight(tiny.model, site).shape[1])
    module = site_module(tiny.model, site)
    bias = module(torch.zeros_like(key))
    torch.testing.assert_close(module(key) - bias, key @ read_weight(tiny.model, site).T)


def test_what_is_written_is_what_is_read(tiny):
    site = sites_of(tiny.model, [0])[0]
    weight = torch.randn_like(read_weight(tiny.model, site))
    write_weight(tiny.model, site, weight)
    assert torch.equal(read_weight(tiny.model, site), weight)


def test_backbone_and_projection_make_the_models_own_logits(tiny):
    ids = torch.tensor([[0, 5, 6, 7]])
    hidden = backbone_of(tiny.model)(input_ids=ids).last_hidden_state
    torch.testing.assert_close(project(tiny.model, hidden), tiny.model(input_ids=ids).logits)


def test_an_unknown_architecture_is_named_with_the_way_to_add_it():
    model = OPTForCausalLM(
        OPTConfig(
            vocab_size=8, hidden_size=8, ffn_dim=8, num_hidden_layers=1, num_attention_heads=1, word_embed_proj_dim=8
        )
    )
    with pytest.raises(UnknownLayoutError, match=r"'OPTForCausalLM'.*LlamaForCausalLM.*LAYOUTS in editors/layouts.py"):
        sites_of(model, [0])


def test_a_layer_that_the_model_lacks_is_refused(tiny):
    with pytest.raises(UnknownSiteError, match="its sites are"):
        sites_of(tiny.model, [3])


def test_nan_in_a_weight_is_refused(tiny):
    site = sites_of(tiny.model, [0])[0]
    weight = read_weight(tiny.model, site)
    weight[0, 0] = float("nan")
    write_weight(tiny.model, site, weight)
    with pytest.raises(NonFiniteError, match=site):
        read_weight(tiny.model, site)
