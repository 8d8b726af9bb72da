"""Second moments: what else a site's weight is used for, so that an edit can leave it alone.

C = E[k k^T], uncentred, over ordinary text, such as the model itself samples (preparing.py), so that no corpus is
needed. All sites are filled in one pass, which is left after the last of them. Position 0 is never read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
_ROWS = 32
_KIND = {"format": 1, "kind": "second moments"}


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
    sums: dict[str, Tensor] = {}
    for first in range(0, len(text), _ROWS):
        batch = text[first : first + _ROWS].to(model.device)
        seen = capture(model, lambda batch=batch: backbone_of(model)(input_ids=batch, use_cache=False), sites=sites)
        for site, read in seen.keys.items():
            flat = read[:, 1:].flatten(0, 1).double()
            sums[site] = sums.get(site, 0) + flat.T @ flat
        if progress is not None:
            progress("second moments", min(first + _ROWS, len(text)), len(text))
    moments = {site: (total / (text.numel() - len(text))).cpu() for site, total in sums.items()}
    for site, moment in moments.items():
        if not bool(torch.isfinite(moment).all()):
            raise NonFiniteError(f"what {site} reads")
    return moments


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
