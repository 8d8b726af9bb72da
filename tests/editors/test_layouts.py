import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM

from editors.decoding import decode, greedy
from editors.errors import NonFiniteError, UnknownLayoutError, UnknownSiteError
from editors.hooks import capture
from editors.layouts import backbone_of, project, read_weight, site_module, sites_of, write_weight
from editors.tokens import pad, text_row


def test_a_weight_reads_as_d_out_by_d_in_on_every_layout(family):
    site = sites_of(family.model, [1])[0]
    key = torch.randn(1, 1, read_weight(family.model, site).shape[1])
    module = site_module(family.model, site)
    bias = module(torch.zeros_like(key))
    torch.testing.assert_close(module(key) - bias, key @ read_weight(family.model, site).T)


def test_what_is_written_is_what_is_read(family):
    site = sites_of(family.model, [0])[0]
    weight = torch.randn_like(read_weight(family.model, site))
    write_weight(family.model, site, weight)
    assert torch.equal(read_weight(family.model, site), weight)


def test_backbone_and_projection_make_the_models_own_logits(family):
    ids = torch.tensor([[0, 5, 6, 7]])
    hidden = backbone_of(family.model)(input_ids=ids).last_hidden_state
    torch.testing.assert_close(project(family.model, hidden), family.model(input_ids=ids).logits)


@pytest.mark.parametrize("left", [False, True])
def test_padding_on_either_side_changes_no_hidden_state(family, left):
    rows = [text_row(family.tokenizer, text) for text in ("The capital of France is Paris", "Boeing is")]
    ids, mask = pad(rows, device=family.model.device, left=left)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    backbone = backbone_of(family.model)
    together = backbone(input_ids=ids, attention_mask=mask, position_ids=positions).last_hidden_state
    for place, row in enumerate(rows):
        alone = backbone(input_ids=torch.tensor([row.ids])).last_hidden_state[0]
        torch.testing.assert_close(together[place][mask[place] == 1], alone, rtol=1e-4, atol=1e-4)


def test_what_is_written_step_by_step_is_what_the_whole_model_ranks_first(family):
    prompts = [text_row(family.tokenizer, text).ids for text in ("The capital of France is", "Boeing")]
    for prompt, written in zip(prompts, decode(family.model, prompts, length=6, choose=greedy), strict=True):
        logits = family.model(input_ids=torch.tensor([[*prompt, *written]])).logits[0]
        assert logits[len(prompt) - 1 : -1].argmax(-1).tolist() == written


def test_what_a_site_reads_is_told_by_row_and_token(family):
    rows = [text_row(family.tokenizer, text) for text in ("The capital of France is Paris", "Boeing is")]
    site = sites_of(family.model, [1])[0]
    ids, mask = pad(rows, device=family.model.device)

    def keys(**given: torch.Tensor) -> torch.Tensor:
        return capture(family.model, lambda: backbone_of(family.model)(**given), sites=[site]).keys[site]

    together = keys(input_ids=ids, attention_mask=mask)
    for place, row in enumerate(rows):
        alone = keys(input_ids=torch.tensor([row.ids]))
        torch.testing.assert_close(together[place, : len(row.ids)], alone[0], rtol=1e-4, atol=1e-4)


def test_an_unknown_architecture_is_named_with_the_way_to_add_it():
    model = BloomForCausalLM(BloomConfig(vocab_size=8, hidden_size=8, n_layer=1, n_head=1))
    with pytest.raises(
        UnknownLayoutError, match=r"'BloomForCausalLM'.*LlamaForCausalLM.*LAYOUTS in editors/layouts.py"
    ):
        sites_of(model, [0])


def test_a_layer_that_the_model_lacks_is_refused(family):
    with pytest.raises(UnknownSiteError, match="its sites are"):
        sites_of(family.model, [3])


def test_nan_in_a_weight_is_refused(family):
    site = sites_of(family.model, [0])[0]
    weight = read_weight(family.model, site)
    weight[0, 0] = float("nan")
    write_weight(family.model, site, weight)
    with pytest.raises(NonFiniteError, match=site):
        read_weight(family.model, site)
