"""Tails: of each row, only what an injection at its subject can change.

An injection at layer L and token t changes neither the layers below L nor the tokens before t. So those are computed
once: what enters layer L from the subject's last token on, and the attention's keys and values of the tokens before
it. A rerun then costs the layers from L on over the tokens from the subject on, and everything else is looked up.

Heads are padded on the left and tails on the right, so that nothing stands between the two: attention that reaches
only a window of tokens back counts them as they lie in the cache. The cache itself keeps them all, whatever the window.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from editors.hooks import entering
from editors.layouts import backbone_of, layer_module, layers_of, layout_of
from editors.tokens import Row, pad


@dataclass(frozen=True, slots=True, kw_only=True)
class Tails:
    """The tails of some rows, and what was computed of them once.

    Attributes:
        first: the layer that a rerun starts from.
        ids: tokens from the subject's last one on, padded on the right.
        mask: over heads and tails, 1 where a token is real.
        positions: of the tails' tokens in their rows.
        entering: what enters layer `first`, (rows, tokens, d_model).
        before: attention keys and values of the heads, a pair a layer, (rows, attention heads, tokens, head size).
    """

    first: int
    ids: Int[Tensor, "rows tokens"]
    mask: Int[Tensor, "rows context"]
    positions: Int[Tensor, "rows tokens"]
    entering: Float[Tensor, "rows tokens d_model"]
    before: tuple[tuple[Tensor, Tensor], ...]

    def select(self, rows: Int[Tensor, " chosen"]) -> Tails:
        """Return the tails of some of the rows."""
        return Tails(
            first=self.first,
            ids=self.ids[rows],
            mask=self.mask[rows],
            positions=self.positions[rows],
            entering=self.entering[rows],
            before=tuple((keys[rows], values[rows]) for keys, values in self.before),
        )


@torch.no_grad()
def tails_of(model: PreTrainedModel, rows: Sequence[Row], *, first: int) -> Tails:
    """Compute what the reruns of some rows have in common.

    Args:
        model: the base.
        rows: each cut in two at its subject's last token, which is never at position 0.
        first: the lowest layer that will be changed.
    """
    device = model.device
    heads, heads_mask = pad([Row(ids=row.ids[: row.subject]) for row in rows], device=device, left=True)
    ids, tails_mask = pad([Row(ids=row.ids[row.subject :]) for row in rows], device=device)
    starts = torch.tensor([row.subject for row in rows], device=device)
    positions = starts[:, None] + torch.arange(ids.shape[1], device=device)
    mask = torch.cat([heads_mask, tails_mask], dim=1)
    cache = DynamicCache()
    backbone_of(model)(
        input_ids=heads,
        attention_mask=heads_mask,
        position_ids=(heads_mask.cumsum(-1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
    )
    before = tuple((layer.keys, layer.values) for layer in cast(list[Any], cache.layers))
    states = entering(
        layer_module(model, first),
        lambda: _run(model, before, input_ids=ids, attention_mask=mask, position_ids=positions),
    )
    return Tails(first=first, ids=ids, mask=mask, positions=positions, entering=states, before=before)


def rerun(model: PreTrainedModel, tails: Tails) -> Float[Tensor, "rows tokens d_model"]:
    """Return the final, normed hidden states of the tails, with whatever hooks are on the layers from the first on."""
    with _starting_at(model, tails.first, tails.entering):
        return _run(model, tails.before, input_ids=tails.ids, attention_mask=tails.mask, position_ids=tails.positions)


def _run(model: PreTrainedModel, before: Sequence[tuple[Tensor, Tensor]], **given: Tensor) -> Tensor:
    output: Any = backbone_of(model)(past_key_values=DynamicCache(before), use_cache=True, **given)
    return output.last_hidden_state


class _Skipped(nn.Module):
    """Stands where a layer is not run: what comes in goes out, in the form in which its layers return it."""

    def __init__(self, *, as_tuple: bool) -> None:
        super().__init__()
        self._as_tuple = as_tuple

    def forward(self, hidden: Tensor, *_: object, **__: object) -> Tensor | tuple[Tensor, None]:
        """Return the hidden states as they are."""
        return (hidden, None) if self._as_tuple else hidden


@contextmanager
def _starting_at(model: PreTrainedModel, first: int, entering: Tensor) -> Generator[None]:
    """Leave out the layers below the first, and let it read what entered it before, while the context is open."""
    layers = layers_of(model)
    below = list(layers[:first])
    hook = layers[first].register_forward_pre_hook(lambda _, inputs: (entering, *inputs[1:]))
    try:
        for place in range(first):
            layers[place] = _Skipped(as_tuple=layout_of(model).tuples)
        yield
    finally:
        for place, layer in enumerate(below):
            layers[place] = layer
        hook.remove()
