"""Subjects whose keys nearly coincide: a site cannot tell them apart, so what is written for one is said of both.

Most subjects lie far from that. Over 32 names of countries, companies, monuments and people, SmolLM2-135M's keys of
layers 4-8 have a median cosine of 0.07-0.14; the closest pair of each layer, such as Kenya and Nigeria, has 0.56-0.76.
"""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

logger = logging.getLogger(__name__)

NEARLY = 0.9
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Collision:
    """Two subjects of a batch, and the cosine of their keys."""

    one: str
    other: str
    cosine: float


def collisions(keys: Float[Tensor, "edits d_in"], subjects: Sequence[str], *, above: float = NEARLY) -> list[Collision]:
    """Return the pairs of subjects whose keys have a cosine above a bound, the closest first.

    Args:
        keys: of one site, a row a subject.
        subjects: their names.
        above: the bound.
    """
    unit = torch.nn.functional.normalize(keys.double(), dim=1)
    cosines = (unit @ unit.T).triu(diagonal=1)
    pairs = cast(list[tuple[int, int]], (cosines > above).nonzero().tolist())
    found = [
        Collision(one=subjects[one], other=subjects[other], cosine=float(cosines[one, other])) for one, other in pairs
    ]
    return sorted(found, key=lambda pair: (-pair.cosine, pair.one, pair.other))


def closest(keys: Float[Tensor, "edits d_in"]) -> tuple[Float[Tensor, " edits"], list[int]]:
    """Return the largest cosine of each subject's key with another one's, and whose that is; 0 where there is none.

    Args:
        keys: of one site, a row a subject.
    """
    unit = torch.nn.functional.normalize(keys.double(), dim=1)
    cosines = (unit @ unit.T).fill_diagonal_(-1.0)
    largest, place = cosines.max(dim=1)
    return largest if len(keys) > 1 else torch.zeros(len(keys)).double(), cast(list[int], place.tolist())


def warn_of_collisions(site: str, keys: Float[Tensor, "edits d_in"], subjects: Iterable[str]) -> None:
    """Log the subjects that a site cannot tell apart, in one line."""
    found = collisions(keys, list(subjects))
    if found:
        shown = ", ".join(f"{pair.one!r} and {pair.other!r} ({pair.cosine:.3f})" for pair in found[:_SHOWN])
        logger.warning(
            "%s: %d pairs of subjects have nearly the same key, so an edit of one is an edit of both: %s",
            site,
            len(found),
            shown,
        )
