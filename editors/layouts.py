"""Where an architecture keeps what an editor needs; the only place that knows.

A site is named by its weight, as in `model.layers.4.mlp.down_proj.weight`, and read and written as (d_out, d_in)
whatever way round the architecture stores it. GPT-2's Conv1D is the one that stores it transposed. Where gate and up
projection are fused (Phi-3), or MLP and attention read the same input (GPT-J, GPT-NeoX), a site is what it is
elsewhere: its output is added to the residual stream. In Gemma a norm stands between the two.

To add an architecture, add an entry to LAYOUTS under the name that its config gives in `architectures`, and a tiny
config of it to tests/editors/conftest.py: the tests then hold it to everything that is assumed of a layout.
"""

# pyright: reportUnknownVariableType=false

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from editors.errors import InvalidConfigError, NonFiniteError, UnknownLayoutError, UnknownSiteError


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where one architecture keeps its parts, as dotted names from the model's root.

    Attributes:
        backbone: the model without its head; its last hidden state has passed the final norm.
        layers: the list of decoder layers.
        down_projection: the MLP's second matrix, from a decoder layer.
        transposed: whether that weight is stored as (d_in, d_out).
        tuples: whether a decoder layer returns a tuple that starts with the hidden state, not the hidden state itself.
        capped: whether logits are bent to stay below `final_logit_softcapping` of the config, where that is set.
        output_norm: the RMSNorm, from a decoder layer, that the site's output passes before it is added to the stream.
        stream_norm: from the config to the norm, from a decoder layer, that the stream itself passes at the layer's
            end; None where it is added to and never normed.
        attention: the attention module, from a decoder layer; its output is added to the residual stream.
    """

    backbone: str
    layers: str
    down_projection: str
    transposed: bool = False
    tuples: bool = False
    capped: bool = False
    output_norm: str | None = None
    stream_norm: Callable[[PreTrainedConfig], str | None] = lambda config: None
    attention: str = "self_attn"

    def site(self, layer: int) -> str:
        """Return the name of a layer's site."""
        return f"{self.layers}.{layer}.{self.down_projection}.weight"


_LLAMA = Layout(backbone="model", layers="model.layers", down_projection="mlp.down_proj")
_GEMMA = dataclasses.replace(_LLAMA, capped=True, output_norm="post_feedforward_layernorm")


def _opt_stream_norm(config: PreTrainedConfig) -> str | None:
    """OPT-350m alone norms the stream behind each sum instead of what attention and MLP read of it."""
    return None if cast(Any, config).do_layer_norm_before else "final_layer_norm"


LAYOUTS: dict[str, Layout] = {
    "GPT2LMHeadModel": Layout(
        backbone="transformer",
        layers="transformer.h",
        down_projection="mlp.c_proj",
        transposed=True,
        attention="attn",
    ),
    "GPTJForCausalLM": Layout(
        backbone="transformer", layers="transformer.h", down_projection="mlp.fc_out", attention="attn", tuples=True
    ),
    "GPTNeoXForCausalLM": Layout(
        backbone="gpt_neox", layers="gpt_neox.layers", down_projection="mlp.dense_4h_to_h", attention="attention"
    ),
    "Gemma2ForCausalLM": _GEMMA,
    "Gemma3ForCausalLM": _GEMMA,
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _LLAMA,
    "OPTForCausalLM": Layout(
        backbone="model", layers="model.decoder.layers", down_projection="fc2", stream_norm=_opt_stream_norm
    ),
    "Phi3ForCausalLM": _LLAMA,
    "Qwen2ForCausalLM": _LLAMA,
    "Qwen3ForCausalLM": _LLAMA,
}


def layout_of(model: PreTrainedModel) -> Layout:
    """Return the layout of a model's architecture.

    Raises:
        UnknownLayoutError: it has no entry.
    """
    architecture = type(model).__name__
    if architecture not in LAYOUTS:
        raise UnknownLayoutError(architecture, sorted(LAYOUTS))
    return LAYOUTS[architecture]


def sites_of(model: PreTrainedModel, layers: Sequence[int]) -> list[str]:
    """Return the sites of some layers, in the order given.

    Raises:
        UnknownLayoutError: the architecture has no entry.
        UnknownSiteError: the model has no such layer.
    """
    sites = [layout_of(model).site(layer) for layer in layers]
    for site in sites:
        site_module(model, site)
    return sites


def site_module(model: PreTrainedModel, site: str) -> nn.Module:
    """Return the module that holds a site's weight.

    Raises:
        UnknownSiteError: the model has no such site.
    """
    layout = layout_of(model)
    known = [layout.site(layer) for layer in range(depth_of(model))]
    if site not in known:
        raise UnknownSiteError(site, known)
    return model.get_submodule(site.removesuffix(".weight"))


def layer_module(model: PreTrainedModel, layer: int) -> nn.Module:
    """Return a decoder layer."""
    return layers_of(model)[layer]


def layer_of(model: PreTrainedModel, site: str) -> int:
    """Return the layer that a site belongs to.

    Raises:
        UnknownSiteError: the model has no such site.
    """
    site_module(model, site)
    return int(site.removeprefix(f"{layout_of(model).layers}.").split(".")[0])


def output_norm_of(model: PreTrainedModel, layer: int) -> nn.Module | None:
    """Return the norm between a layer's site and the residual stream; None where there is none."""
    name = layout_of(model).output_norm
    return None if name is None else layer_module(model, layer).get_submodule(name)


def stream_norm_of(model: PreTrainedModel, layer: int) -> nn.Module | None:
    """Return the norm that the residual stream itself passes at the end of a layer; None where there is none."""
    name = layout_of(model).stream_norm(model.config)
    return None if name is None else layer_module(model, layer).get_submodule(name)


def mlp_module(model: PreTrainedModel, layer: int) -> nn.Module:
    """Return the module whose output is what a layer's MLP writes: the down-projection."""
    return site_module(model, layout_of(model).site(layer))


def attention_module(model: PreTrainedModel, layer: int) -> nn.Module:
    """Return a layer's attention; the first part of its output is what it writes."""
    return layer_module(model, layer).get_submodule(layout_of(model).attention)


def check_layers(model: PreTrainedModel, layers: Sequence[int]) -> None:
    """Check that an editor can write at some layers.

    Raises:
        UnknownLayoutError: the architecture has no entry.
        UnknownSiteError: the model has no such layer.
        InvalidConfigError: the model's last layer is among them.
        NonFiniteError: a weight holds NaN or infinity.
    """
    for site in sites_of(model, layers):
        read_weight(model, site)
    if layers[-1] == depth_of(model) - 1:
        raise InvalidConfigError(
            f"layer {layers[-1]} is the last of the model: nothing behind it carries a subject to its answer; "
            "end the range earlier"
        )


def read_weight(model: PreTrainedModel, site: str) -> Float[Tensor, "d_out d_in"]:
    """Return a copy of a site's weight.

    Raises:
        UnknownSiteError: the model has no such site.
        NonFiniteError: it holds NaN or infinity.
    """
    weight = _oriented(model, site).detach().clone()
    if not bool(torch.isfinite(weight).all()):
        raise NonFiniteError(site)
    return weight


def write_weight(model: PreTrainedModel, site: str, weight: Float[Tensor, "d_out d_in"]) -> None:
    """Overwrite a site's weight in place."""
    with torch.no_grad():
        _oriented(model, site).copy_(weight)


def backbone_of(model: PreTrainedModel) -> nn.Module:
    """Return the model without its head: tokens in, final normed hidden states out."""
    return model.get_submodule(layout_of(model).backbone)


def project(model: PreTrainedModel, hidden: Float[Tensor, "tokens d_model"]) -> Float[Tensor, "tokens vocab"]:
    """Return the logits of final, normed hidden states."""
    head = model.get_output_embeddings()
    assert head is not None, "a causal language model has a head"
    logits = cast(Tensor, head(hidden))
    cap = cast(Any, model.config).final_logit_softcapping if layout_of(model).capped else None
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _oriented(model: PreTrainedModel, site: str) -> Tensor:
    weight = cast(Tensor, site_module(model, site).weight)
    return weight.T if layout_of(model).transposed else weight


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """Return a model's decoder layers."""
    return cast(nn.ModuleList, model.get_submodule(layout_of(model).layers))


def depth_of(model: PreTrainedModel) -> int:
    """Return how many decoder layers a model has."""
    return len(layers_of(model))
