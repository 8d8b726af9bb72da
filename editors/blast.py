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


def radius(
    model: PreTrainedModel,
    patch: Patch,
    text: Int[Tensor, "rows tokens"],
    *,
    worst: int = WORST,
    progress: Progress | None = None,
) -> Radius:
    """Return what a patch does to a text.

    Args:
        model: the base; its weights are as before afterwards.
        patch: made for it.
        text: rows of one length, BOS first.
        worst: how many contexts to take a closer look at.
        progress: told of rows.
    """
    whole = added(model, patch, text, progress=progress)
    found = whole.sizes[:, 1:]
    places = found.flatten().argsort(descending=True, stable=True)[:worst]
    rows, tokens = places // found.shape[1], places % found.shape[1] + 1
    kl, order = _moved(model, patch, text, rows, tokens).sort(descending=True, stable=True)
    contexts = [tuple(text[row, : token + 1].tolist()) for row, token in zip(rows[order], tokens[order], strict=True)]
    return Radius(sizes=found.flatten(), contexts=contexts, kl=kl, gain=whole.gain)


def added(
    model: PreTrainedModel,
    patch: Patch,
    text: Int[Tensor, "rows tokens"],
    *,
    progress: Progress | None = None,
) -> Added:
    """Return how much a patch adds to what its sites write, at each token of a text but the first of each row.

        size = sqrt(sum |delta k|^2 / sum m^2), over the sites, with m the mean of |W k| over the text
        gain = sum <delta k, W k> / sum |W k|^2, over the text, of the site where that is furthest from 0

    Position 0 is an attention sink that nothing is read at (tokens.py); it counts as 0.

    Args:
        model: the base; the patch is not applied.
        patch: made for it.
        text: rows of one length, BOS first.
        progress: told of rows.
    """
    moved = torch.zeros(text.shape)
    if not patch.deltas:
        return Added(sizes=moved, gain=0.0)
    weights = {site: read_weight(model, site).float() for site in patch.deltas}
    deltas = {site: delta.dense().float().to(model.device) for site, delta in patch.deltas.items()}
    written, along, squares = (dict.fromkeys(deltas, 0.0) for _ in range(3))
    for first in range(0, len(text), _ROWS):
        batch = text[first : first + _ROWS].to(model.device)
        seen = capture(model, lambda batch=batch: backbone_of(model)(input_ids=batch, use_cache=False), sites=[*deltas])
        for site, read in seen.keys.items():
            keys = read[:, 1:].float()
            before, more = keys @ weights[site].T, keys @ deltas[site].T
            moved[first : first + _ROWS, 1:] += more.square().sum(-1).cpu()
            written[site] += float(before.norm(dim=-1).sum())
            along[site] += float((more * before).sum())
            squares[site] += float(before.square().sum())
        if progress is not None:
            progress("blast radius", min(first + _ROWS, len(text)), len(text))
    tokens = text[:, 1:].numel()
    sizes = (moved / sum((total / tokens) ** 2 for total in written.values())).sqrt()
    return Added(sizes=sizes, gain=max((along[site] / squares[site] for site in deltas), key=abs))


def continued(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, contexts: Sequence[Sequence[int]]
) -> list[str]:
    """Return the few tokens that a model writes greedily behind each context, as text."""
    if not contexts:
        return []
    written = decode(model, contexts, length=SHOWN_TOKENS, choose=greedy)
    return [cast(str, tokenizer.decode(ids, skip_special_tokens=True)) for ids in written]


def _moved(
    model: PreTrainedModel,
    patch: Patch,
    text: Int[Tensor, "all tokens"],
    rows: Int[Tensor, " contexts"],
    tokens: Int[Tensor, " contexts"],
) -> Float[Tensor, " contexts"]:
    """How far what follows some tokens moves by a patch; the empty one needs no pass."""
    if not patch.deltas:
        return torch.zeros(len(rows))
    before = _states(model, text, rows, tokens)
    with applied(model, patch, base=patch.base):
        after = _states(model, text, rows, tokens)
    return divergence(model, before, after)


@torch.no_grad()
def _states(
    model: PreTrainedModel,
    text: Int[Tensor, "all tokens"],
    rows: Int[Tensor, " contexts"],
    tokens: Int[Tensor, " contexts"],
) -> Float[Tensor, "contexts d_model"]:
    """The final hidden state at some tokens; rows with several of them are read once."""
    needed, place = rows.unique(return_inverse=True)
    found: list[Tensor] = []
    for batch in text[needed].split(_ROWS):
        output: Any = backbone_of(model)(input_ids=batch.to(model.device), use_cache=False)
        found.append(output.last_hidden_state.cpu())
    return torch.cat(found)[place, tokens]
