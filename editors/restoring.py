"""The runs of a causal trace: clean, corrupted, and corrupted with one clean state put back.

What a restoration can't change is not computed again: the layers below it, and the tokens before it, whose keys and
values are kept from the corrupted run (tails.py). Restorations of all kinds from the same layer on share their batch.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from editors.hooks import inputs_of, outputs_of, rewritten
from editors.layouts import attention_module, backbone_of, depth_of, layer_module, layers_of, mlp_module
from editors.tails import Tails, rerun

KINDS: dict[str, Callable[[PreTrainedModel, int], nn.Module]] = {
    "hidden": layer_module,
    "mlp": mlp_module,
    "attention": attention_module,
}
"""What can be put back, and the module of a layer that writes it."""


class Restoration(NamedTuple):
    """What is put back: what some layers write of one kind."""

    kind: str
    layers: range


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanRun:
    """What a model makes of a prompt.

    Attributes:
        states: what each layer writes of each kind.
        end: the final, normed hidden state at the last token.
    """

    states: Mapping[str, Sequence[Float[Tensor, "tokens d_model"]]]
    end: Float[Tensor, "1 d_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CorruptedRun:
    """What a model makes of a prompt whose subject is hidden by noise, once for each draw of it.

    Attributes:
        ids: the prompt.
        entering: what enters each layer.
        cache: attention keys and values, a pair a layer, (draws, attention heads, tokens, head size).
        end: the final, normed hidden state at the last token.
    """

    ids: Int[Tensor, "draws tokens"]
    entering: Sequence[Float[Tensor, "draws tokens d_model"]]
    cache: Sequence[tuple[Tensor, Tensor]]
    end: Float[Tensor, "draws d_model"]

    def tails(self, *, layer: int, token: int) -> Tails:
        """Return all that a change at a token and from a layer on can reach."""
        draws, length = self.ids.shape
        return Tails(
            first=layer,
            ids=self.ids[:, token:],
            mask=torch.ones_like(self.ids),
            positions=torch.arange(token, length, device=self.ids.device).expand(draws, -1),
            entering=self.entering[layer][:, token:],
            before=tuple((keys[:, :, :token], values[:, :, :token]) for keys, values in self.cache),
        )


def run_clean(model: PreTrainedModel, ids: Int[Tensor, "1 tokens"]) -> CleanRun:
    """Run a prompt as it is."""
    modules = [of(model, layer) for of in KINDS.values() for layer in range(depth_of(model))]
    output, written = outputs_of(modules, lambda: backbone_of(model)(input_ids=ids, use_cache=False), rows=1)
    states = iter(written)
    return CleanRun(
        states={kind: [next(states)[0] for _ in range(depth_of(model))] for kind in KINDS},
        end=output.last_hidden_state[:, -1],
    )


def run_corrupted(
    model: PreTrainedModel, ids: Int[Tensor, "1 tokens"], noise: Float[Tensor, "draws subject d_embedding"], start: int
) -> CorruptedRun:
    """Run a prompt with noise on the embeddings of its subject's tokens, which begin at `start`."""
    ids = ids.expand(len(noise), -1)
    behind = ids.shape[1] - start - noise.shape[1]
    added = torch.nn.functional.pad(noise, (0, 0, start, behind))
    cache = DynamicCache()
    with rewritten([(model.get_input_embeddings(), lambda embedded: embedded + added)], rows=len(noise)):
        output, entering = inputs_of(
            list(layers_of(model)),
            lambda: backbone_of(model)(input_ids=ids, past_key_values=cache, use_cache=True),
        )
    return CorruptedRun(
        ids=ids,
        entering=entering,
        cache=[(layer.keys, layer.values) for layer in cast(list[Any], cache.layers)],
        end=output.last_hidden_state[:, -1],
    )


def run_restored(
    model: PreTrainedModel, corrupted: CorruptedRun, clean: CleanRun, restorations: Sequence[Restoration], *, token: int
) -> Float[Tensor, "restorations draws d_model"]:
    """Return the final hidden state at the last token for each restoration at one token, all in one batch.

    Args:
        model: the model of the other runs.
        corrupted: what is restored.
        clean: where the states come from.
        restorations: all from the same layer on.
        token: at which they are put back.
    """
    (first,) = {restoration.layers.start for restoration in restorations}
    draws = len(corrupted.ids)
    rows = torch.arange(draws, device=corrupted.ids.device).repeat(len(restorations))

    def restore(place: int, state: Float[Tensor, " d_model"], written: Float[Tensor, "rows tokens d_model"]) -> Tensor:
        written = written.clone()
        written[place * draws : (place + 1) * draws, 0] = state
        return written

    changes = [
        (KINDS[kind](model, layer), partial(restore, place, clean.states[kind][layer][token]))
        for place, (kind, layers) in enumerate(restorations)
        for layer in layers
    ]
    with rewritten(changes, rows=len(rows)):
        ends = rerun(model, corrupted.tails(layer=first, token=token).select(rows))[:, -1]
    return ends.view(len(restorations), draws, -1)


def restorations_of(depth: int, *, window: int, every: int) -> list[Restoration]:
    """Return what can be put back at a token: of each kind, around every so many layers."""
    return [
        Restoration(kind=kind, layers=layers)
        for kind in KINDS
        for layers in windows(depth, width=1 if kind == "hidden" else window)[::every]
    ]


def windows(depth: int, *, width: int) -> list[range]:
    """Return the window of layers around each layer, cut where the model ends."""
    starts = [layer - width // 2 for layer in range(depth)]
    return [range(max(0, start), min(depth, start + width)) for start in starts]
