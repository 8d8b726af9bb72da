"""Spreading: what is missing at the last layer of a range is written from its first layer on, a share a layer.

Keys and what is still missing are read again after each layer, with the earlier deltas in place. The model is given
back as it was, bit for bit.

Source: Meng et al. 2023 (MEMIT), algorithm 1, arXiv:2210.07229.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from editors.decoding import Progress
from editors.layouts import read_weight, sites_of, write_weight
from editors.patch import Delta, LowRank, added, restored, smaller
from editors.reading import read_subjects
from editors.tokens import Row

logger = logging.getLogger(__name__)

Solve = Callable[[str, Float[Tensor, "edits d_in"], Float[Tensor, "edits d_out"]], LowRank]


def spread(
    model: PreTrainedModel,
    rows: Sequence[Sequence[Row]],
    wanted: Float[Tensor, "edits d_out"],
    *,
    layers: Sequence[int],
    solve: Solve,
    budget: int,
    progress: Progress | None = None,
) -> dict[str, Delta]:
    """Return the delta of each layer's site.

    Args:
        model: the base.
        rows: of each edit, cut behind the subject.
        wanted: by what the hidden state after the last layer shall change at each subject.
        layers: in ascending order.
        solve: from a site, its keys and its residuals to a delta.
        budget: tokens in a forward pass, padding included.
        progress: told of the keys of each layer, and of layers.
    """
    sites = sites_of(model, layers)
    deltas: dict[str, Delta] = {}
    untouched: Tensor | None = None
    with restored(model, sites):
        for done, site in enumerate(sites):
            keys, states = read_subjects(model, rows, sites=[site], layers=[layers[-1]], budget=budget)
            if progress is not None:
                progress("keys", done + 1, len(sites))
            hidden = states[layers[-1]]
            untouched = hidden if untouched is None else untouched
            missing = wanted - (hidden - untouched)
            solved = solve(site, keys[site], missing / (len(sites) - done))
            deltas[site] = smaller(solved.left, solved.right)
            write_weight(model, site, added(read_weight(model, site), deltas[site]))
            share = float(torch.linalg.vector_norm(missing) / torch.linalg.vector_norm(wanted).clamp(min=1e-12))
            logger.info("%s: %d edits, %.0f %% of the change was missing", site, len(wanted), 100 * share)
            if progress is not None:
                progress("layers", done + 1, len(sites))
    return deltas
