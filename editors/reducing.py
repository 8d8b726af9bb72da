"""What a delta loses when it is cut to a rank or rounded with its weight to a shorter dtype."""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor

from editors.patch import Delta, LowRank

_EXACT = 1e-6
"""A share of a delta's norm that a forward pass in float32 does not resolve either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival:
    """What is left of a delta D when W + D is rounded: E, the rounded W + D less the rounded W.

    Attributes:
        entries: the share of D's nonzero entries where E is not zero.
        norm: those entries' share of ||D|| (Frobenius).
        error: ||E - D|| / ||D||, where entries are swallowed or rounded up to a whole step.
    """

    entries: float
    norm: float
    error: float


def cut(delta: Delta, *, rank: int) -> LowRank:
    """Return a delta's own factors, or its largest singular values where it is dense or of a higher rank.

    Of those, as many as leave less than 1e-6 of the delta's norm, and at most `rank`. They stay in float64.
    """
    if is_whole(delta, rank=rank):
        return delta
    left, values, right = torch.linalg.svd(delta.dense(), full_matrices=False)
    lost = values.square().flip(0).cumsum(0).flip(0).sqrt()  # by keeping only those in front of each
    kept = min(max(int((lost > _EXACT * lost[0]).sum()), 1), rank)
    root = values[:kept].sqrt()
    return LowRank(left=left[:, :kept] * root, right=root[:, None] * right[:kept])


def is_whole(delta: Delta, *, rank: int) -> TypeGuard[LowRank]:
    """Whether a delta has factors of its own that need not be cut."""
    return isinstance(delta, LowRank) and delta.left.shape[1] <= rank


def survival(weight: Float[Tensor, "d_out d_in"], delta: Delta, *, dtype: torch.dtype) -> Survival:
    """Return what is left of a delta when its weight is rounded to a dtype with it."""
    wanted = delta.dense()
    got = (weight.double() + wanted).to(dtype).double() - weight.to(dtype).double()
    left = torch.where(got != 0, wanted, 0.0)
    return Survival(
        entries=float(left.count_nonzero() / wanted.count_nonzero().clamp(min=1)),
        norm=_ratio(left, wanted),
        error=_ratio(got - wanted, wanted),
    )


def relative_error(got: Delta, wanted: Delta) -> float:
    """Return ||got - wanted|| / ||wanted|| (Frobenius), in float64; 0 where both are zero."""
    return _ratio(got.dense() - wanted.dense(), wanted.dense())


def _ratio(part: Float[Tensor, "d_out d_in"], whole: Float[Tensor, "d_out d_in"]) -> float:
    return float(part.norm() / whole.norm().clamp(min=torch.finfo(torch.float64).tiny))
