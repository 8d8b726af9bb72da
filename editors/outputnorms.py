"""The norm between a site's output and the residual stream, where there is one (Gemma), and what follows from it.

    stream after the layer = stream + N(W k),    N(z) = gain * z / rms(z)

A value lives in front of N, in the site's output space. What it does to the stream has to be taken through N, and N
passes on no length: a longer output is only a purer one. Where an architecture has no such norm, N is the identity,
and both spaces are one.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from editors.hooks import capture
from editors.layouts import output_norm_of, site_module, sites_of

_SHUT = 0.1  # a channel whose gain is below this share of the median's is all but shut


def behind(norm: nn.Module | None, outputs: Float[Tensor, "edits d_out"]) -> Float[Tensor, "edits d_out"]:
    """Return N(z): what outputs of a site add to the residual stream, in float64."""
    if norm is None:
        return outputs
    weight = cast(Tensor, norm.weight)
    return norm(outputs.to(weight.device, weight.dtype)).double().cpu()


def before(
    norm: nn.Module | None, change: Float[Tensor, "edits d_out"], *, at: Float[Tensor, "edits d_out"]
) -> Float[Tensor, "edits d_out"]:
    """Return the change of a site's output that is worth a change of the residual stream.

    It is the inverse of N at a fixed length of the output: change * rms(at) / gain. Channels that N all but shuts are
    left alone (in Gemma 3 some gains are 0, others 700), so that what they cannot carry is not forced through them.

    Args:
        norm: N; None is the identity.
        change: of the residual stream.
        at: outputs whose length is kept.
    """
    if norm is None:
        return change
    gain = behind(norm, torch.ones_like(at[:1]))
    slope = gain * torch.linalg.vector_norm(behind(norm, at), dim=-1, keepdim=True)
    slope = slope / torch.linalg.vector_norm(gain * at, dim=-1, keepdim=True)
    shut = _SHUT * slope.abs().median(dim=-1, keepdim=True).values
    return change * slope / (slope.square() + shut.square())


def yardstick(
    model: PreTrainedModel, forward: Callable[[], object], *, layer: int
) -> Float[Tensor, "rows tokens d_model"]:
    """Return the vectors whose lengths an injection at a layer's site is measured by.

    It is the hidden state after the layer, which the injection is added to. Behind a norm it is the site's own output:
    that, and not the stream, is what the injection has to outweigh (in Gemma 3, 3 against 6,000).

    Args:
        model: the model that `forward` runs.
        forward: runs the model once.
        layer: whose site is injected.
    """
    if output_norm_of(model, layer) is None:
        return capture(model, forward, layers=[layer]).hidden[layer]
    (site,) = sites_of(model, [layer])
    return site_module(model, site)(capture(model, forward, sites=[site]).keys[site])
