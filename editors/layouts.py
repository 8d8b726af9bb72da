"""Where an architecture keeps what an editor needs; the only place that knows.

A site is named by its weight, as in `model.layers.4.mlp.down_proj.weight`, and read and written as (d_out, d_in)
whatever way round the architecture stores it. GPT-2's Conv1D is the one that stores it transposed. To add an
architecture, add an entry to LAYOUTS under the name that its config gives in `architectures`.
"""

# pyright: reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from editors.errors import InvalidConfigError, NonFiniteError, UnknownLayoutError, UnknownSiteError


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where one architecture keeps its parts, as dotted names from the model's root.

    Attributes:
        backbone: the model without its head; its last hidden state has passed the final norm.
        layers: the list of decoder layers.
        down_projection: the MLP's second matrix, from a decoder layer; its output is added to the residual stream.
        transposed: whether that weight is stored as (d_in, d_out).
        attention: the attention module, from a decoder layer; its output is added to the residual stream.
    """

    backbone: str
    layers: str
    down_projection: str
    transposed: bool = False
    attention: str = "self_attn"

    def site(self, layer: int) -> str:
        """Return the name of a layer's site."""
        return f"{self.layers}.{layer}.{self.down_projection}.weight"


_LLAMA = Layout(backbone="model", layers="model.layers", down_projection="mlp.down_proj")

LAYOUTS: dict[str, Layout] = {
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _LLAMA,
    "GPT2LMHeadModel": Layout(
        backbone="transformer",
        layers="transformer.h",
        down_projection="mlp.c_proj",
        transposed=True,
        attention="attn",
    ),
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
    """Return a decoder layer; its output is the residual stream after it."""
    return model.get_submodule(f"{layout_of(model).layers}.{layer}")


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
    return cast(Tensor, head(hidden))


def _oriented(model: PreTrainedModel, site: str) -> Tensor:
    weight = cast(Tensor, site_module(model, site).weight)
    return weight.T if layout_of(model).transposed else weight


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """Return a model's decoder layers."""
    return cast(nn.ModuleList, model.get_submodule(layout_of(model).layers))


def depth_of(model: PreTrainedModel) -> int:
    """Return how many decoder layers a model has."""
    return len(layers_of(model))
