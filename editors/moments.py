"""Second moments: what else a site's weight is used for, so that an edit can leave it alone.

C = E[k k^T], uncentred, over ordinary text: a corpus (corpus.py), or what the model itself samples (preparing.py), so
that no corpus is needed. All sites are filled in one pass, which is left after the last of them. Position 0 is never
read. The text comes in pieces; whoever keeps the sums after each of them goes on from there after a kill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from editors.artifacts import dump_tensors, read_tensors
from editors.decoding import Progress
from editors.errors import DamagedArtifactError, NonFiniteError
from editors.hooks import capture
from editors.layouts import backbone_of

ROW_LENGTH = 64
_ROWS = 32  # of a pass
_SMALLEST_PIECE, _MOST_PIECES = 64, 10  # sums are as large as C, and kept after each piece: so not too often
_KIND = {"format": 1, "kind": "second moments"}

Text = Callable[[int, int], Int[Tensor, "rows tokens"]]
"""Gives the rows from one place up to another, BOS first; whenever it is asked for them, they are the same ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What some sites read over the first rows of a text.

    Attributes:
        text: the rows.
        totals: the sum of k k^T of each site in float64, position 0 left out.
    """

    text: Int[Tensor, "rows tokens"]
    totals: Mapping[str, Float[Tensor, "d_in d_in"]]

    def moments(self) -> dict[str, Float[Tensor, "d_in d_in"]]:
        """Return C of each site, in float64 on the CPU."""
        tokens = self.text[:, 1:].numel()
        return {site: (total / tokens).cpu() for site, total in self.totals.items()}


def rows_for(tokens: int) -> int:
    """Return how many rows of ROW_LENGTH hold so many tokens, BOS not counted."""
    return -(-tokens // (ROW_LENGTH - 1))


def moments_of_text(
    model: PreTrainedModel,
    sites: Sequence[str],
    text: Int[Tensor, "rows tokens"],
    *,
    progress: Progress | None = None,
) -> dict[str, Float[Tensor, "d_in d_in"]]:
    """Return C of each site in float64 over token rows that begin with BOS.

    Args:
        model: the base.
        sites: all filled in the same pass.
        text: any number of rows of one length.
        progress: told of rows.

    Raises:
        UnknownSiteError: the model has no such site.
        NonFiniteError: the model reads NaN or infinity there.
    """
    return sum_over(model, sites, lambda first, end: text[first:end], rows=len(text), progress=progress).moments()


def sum_over(
    model: PreTrainedModel,
    sites: Sequence[str],
    text: Text,
    *,
    rows: int,
    begun: Sums | None = None,
    keep: Callable[[Sums], None] = lambda sums: None,
    progress: Progress | None = None,
) -> Sums:
    """Return the sums over so many rows of a text; the same bits whether they are taken at once or gone on with.

    Args:
        model: the base.
        sites: all filled in the same pass.
        text: gives the rows.
        rows: how many.
        begun: what an earlier call kept.
        keep: called with the sums after each piece, before it is told of.
        progress: told of rows.

    Raises:
        UnknownSiteError: the model has no such site.
        NonFiniteError: the model reads NaN or infinity there.
    """
    piece = max(_SMALLEST_PIECE, -(-rows // _MOST_PIECES))
    sums = begun
    for first in range(0 if begun is None else len(begun.text), rows, piece):
        sums = _added(model, sites, sums, text(first, min(first + piece, rows)))
        keep(sums)
        if progress is not None:
            progress("second moments", len(sums.text), rows)
    assert sums is not None, "there is some text"
    return sums


def _added(model: PreTrainedModel, sites: Sequence[str], sums: Sums | None, text: Tensor) -> Sums:
    totals = {} if sums is None else {site: total.to(model.device) for site, total in sums.totals.items()}
    for first in range(0, len(text), _ROWS):
        batch = text[first : first + _ROWS].to(model.device)
        seen = capture(model, lambda batch=batch: backbone_of(model)(input_ids=batch, use_cache=False), sites=sites)
        for site, read in seen.keys.items():
            flat = read[:, 1:].flatten(0, 1).double()
            totals[site] = totals.get(site, 0) + flat.T @ flat
    for site, total in totals.items():
        if not bool(torch.isfinite(total).all()):
            raise NonFiniteError(f"what {site} reads")
    return Sums(text=text if sums is None else torch.cat([sums.text, text]), totals=totals)


def dump_moments(moments: Mapping[str, Float[Tensor, "d_in d_in"]]) -> bytes:
    """Return the one form of second moments in bytes, for a file."""
    return dump_tensors(moments, _KIND)


def load_moments(path: Path, *, expected: str) -> dict[str, Float[Tensor, "d_in d_in"]]:
    """Read second moments from a file with the expected sha256.

    Raises:
        DamagedArtifactError: the bytes are others, or hold something else.
    """
    moments, metadata = read_tensors(path, expected=expected)
    if metadata != _KIND:
        raise DamagedArtifactError(path, expected=f"{_KIND}", got=f"{metadata}")
    return moments
