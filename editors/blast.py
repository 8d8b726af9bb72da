"""Blast radius: where in ordinary text a patch changes most, beside what anybody thought of asking.

A neighbour's prompt is chosen by whoever writes the correction, and harm can lie elsewhere. So every token of a text is
looked at. At each site, delta k is held against W k: a product, no forward pass of the edited model. That is only how
much goes in; what comes of it is measured where most goes in: how far what follows there has moved.

The yardstick is what a site writes on average, not what it writes at that token: where it writes little, a large share
of it still moves nothing. (SmolLM2-135M with the thirteen example corrections, 8,064 tokens: of the 50 behind which
most has moved, 22 are among the worst 200 by the average, 9 by each token's own.)

The keys are read anew from token rows, in one pass of the base that ends at the last site. Kept keys would save that
pass, and take 5 sites x 10,080 tokens x 1,536 numbers for SmolLM2-135M, 155 MB in half precision, for each base and
each choice of sites, against 10,240 whole numbers.

Beside how much is added goes what of it only makes a site louder, its gain. A fact adds something else than what its
site writes, at the keys that it is about: 200 facts of CounterFact in one batch have a gain of 0.011, thirteen of
0.001. Weights that came back at another scale have it everywhere, and perplexity may hardly show it.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.decoding import Progress, decode, greedy
from editors.expectation import divergence
from editors.hooks import capture
from editors.layouts import backbone_of, read_weight
from editors.patch import Patch, applied
from editors.tokens import batches_of_like_length

WORST = 200
"""Contexts whose divergence is measured."""

SHOWN_TOKENS = 12
_ROWS = 32  # of a pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Radius:
    """What a patch does to ordinary text.

    Attributes:
        sizes: how much it adds at each token that was looked at, as `added` gives it, in the order of the text.
        contexts: where it adds most, rows cut behind the token; those come first behind which most has moved.
        kl: how far what follows each of these has moved from the base, in nats.
        gain: by what share the site that it scales most is louder or quieter, as `added` gives it.
    """

    sizes: Float[Tensor, " tokens"]
    gain: float
    contexts: Sequence[tuple[int, ...]]
    kl: Float[Tensor, " contexts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What a patch adds to what its sites write in a text.

    Attributes:
        sizes: how much at each token, in what the sites write on average.
        gain: by what share the site that it scales most becomes louder, or, below 0, quieter.
    """

    sizes: Float[Tensor, "rows tokens"]
    gain: float


def radii(
    model: PreTrainedModel,
    patches: Sequence[Patch],
    text: Int[Tensor, "rows tokens"],
    *,
    worst: int = WORST,
    progress: Progress | None = None,
) -> list[Radius]:
    """Return what each of some patches does to a text; the base reads it once for all of them.

    Args:
        model: the base; its weights are as before afterwards.
        patches: made for it.
        text: rows of one length, BOS first.
        worst: how many contexts of each patch to take a closer look at.
        progress: told of rows.
    """
    wholes = added(model, patches, text, progress=progress)
    found = [whole.sizes[:, 1:].flatten() for whole in wholes]
    places = [sizes.argsort(descending=True, stable=True)[:worst] for sizes in found]
    radii: list[Radius] = []
    for whole, sizes, at, moved in zip(wholes, found, places, _moved(model, patches, text, places), strict=True):
        kl, order = moved.sort(descending=True, stable=True)
        rows, tokens = _places(text, at[order])
        contexts = [tuple(text[row, : token + 1].tolist()) for row, token in zip(rows, tokens, strict=True)]
        radii.append(Radius(sizes=sizes, contexts=contexts, kl=kl, gain=whole.gain))
    return radii


def added(
    model: PreTrainedModel,
    patches: Sequence[Patch],
    text: Int[Tensor, "rows tokens"],
    *,
    progress: Progress | None = None,
) -> list[Added]:
    """Return how much each patch adds to what its sites write, at each token of a text but the first of each row.

        size = sqrt(sum |delta k|^2 / sum m^2), over the sites, with m the mean of |W k| over the text
        gain = sum <delta k, W k> / sum |W k|^2, over the text, of the site where that is furthest from 0

    Position 0 is an attention sink that nothing is read at (tokens.py); it counts as 0.

    Args:
        model: the base; no patch is applied.
        patches: made for it.
        text: rows of one length, BOS first.
        progress: told of rows.
    """
    moved = [torch.zeros(text.shape) for _ in patches]
    sites = list(dict.fromkeys(site for patch in patches for site in patch.deltas))
    if not sites:
        return [Added(sizes=each, gain=0.0) for each in moved]
    weights = {site: read_weight(model, site).float() for site in sites}
    deltas = [{site: d.dense().float().to(model.device) for site, d in patch.deltas.items()} for patch in patches]
    written, squares, *along = (dict.fromkeys(sites, 0.0) for _ in range(2 + len(patches)))
    for first in range(0, len(text), _ROWS):
        batch = text[first : first + _ROWS].to(model.device)
        seen = capture(model, lambda batch=batch: backbone_of(model)(input_ids=batch, use_cache=False), sites=sites)
        for site, read in seen.keys.items():
            keys = read[:, 1:].float()
            before = keys @ weights[site].T
            written[site] += float(before.norm(dim=-1).sum())
            squares[site] += float(before.square().sum())
            for own, sizes, of_gain in zip(deltas, moved, along, strict=True):
                if site in own:
                    more = keys @ own[site].T
                    sizes[first : first + _ROWS, 1:] += more.square().sum(-1).cpu()
                    of_gain[site] += float((more * before).sum())
        if progress is not None:
            progress("blast radius", min(first + _ROWS, len(text)), len(text))
    tokens = text[:, 1:].numel()
    return [
        Added(
            sizes=(sizes / (sum((written[site] / tokens) ** 2 for site in own) or 1)).sqrt(),
            gain=max((of_gain[site] / squares[site] for site in own), key=abs, default=0.0),
        )
        for own, sizes, of_gain in zip(deltas, moved, along, strict=True)
    ]


def continued(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, contexts: Sequence[Sequence[int]]
) -> list[str]:
    """Return the few tokens that a model writes greedily behind each context, as text."""
    if not contexts:
        return []
    written = decode(model, contexts, length=SHOWN_TOKENS, choose=greedy)
    return [cast(str, tokenizer.decode(ids, skip_special_tokens=True)) for ids in written]


def _places(
    text: Int[Tensor, "rows tokens"], at: Int[Tensor, " contexts"]
) -> tuple[Int[Tensor, " contexts"], Int[Tensor, " contexts"]]:
    """The rows and tokens of places that are counted without the first token of each row."""
    width = text.shape[1] - 1
    return at // width, at % width + 1


def _moved(
    model: PreTrainedModel,
    patches: Sequence[Patch],
    text: Int[Tensor, "rows tokens"],
    places: Sequence[Int[Tensor, " contexts"]],
) -> list[Float[Tensor, " contexts"]]:
    """How far what follows some places, of each patch its own, moves by it; the empty one needs no pass."""
    edited = [at for patch, at in zip(patches, places, strict=True) if patch.deltas]
    if not edited:
        return [torch.zeros(len(at)) for at in places]
    together = torch.cat(edited).unique()
    before = _states(model, text, together)
    moved: list[Tensor] = []
    for patch, at in zip(patches, places, strict=True):
        if not patch.deltas:
            moved.append(torch.zeros(len(at)))
            continue
        with applied(model, patch, base=patch.base):
            after = _states(model, text, at)
        moved.append(divergence(model, before[torch.searchsorted(together, at)], after))
    return moved


@torch.no_grad()
def _states(
    model: PreTrainedModel, text: Int[Tensor, "rows tokens"], at: Int[Tensor, " contexts"]
) -> Float[Tensor, "contexts d_model"]:
    """The final hidden state at some places; a row with several of them is read once, and up to the last of them."""
    rows, tokens = _places(text, at)
    needed, owner = rows.unique(return_inverse=True)
    lengths = torch.zeros_like(needed).scatter_reduce(0, owner, tokens + 1, "amax")
    found: list[Tensor] = []
    order: list[Tensor] = []
    for chosen in batches_of_like_length(lengths.tolist(), budget=_ROWS * text.shape[1], padding=2 * text.shape[1]):
        batch = torch.tensor(chosen)
        ids = text[needed[batch], : int(lengths[batch].max())]
        output: Any = backbone_of(model)(input_ids=ids.to(model.device), use_cache=False)
        context, row = (owner[:, None] == batch).nonzero(as_tuple=True)
        found.append(output.last_hidden_state.cpu()[row, tokens[context]])
        order.append(context)
    return torch.cat(found)[torch.cat(order).argsort()]
