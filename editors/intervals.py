"""How sure a number is: 95 % intervals over facts, since the probes of one fact hang together.

Shares of single probes get Wilson's interval, which does not claim certainty from a few that are all right (12 of 12:
from 0.76). Where facts have several probes each, facts are drawn again with replacement, and what they amount to is
counted anew. Few facts, or facts that are all alike, show too little by that; so the interval is never narrower than if
each fact were one probe.

Source: Wilson 1927, doi:10.1080/01621459.1927.10502953; Efron and Tibshirani 1993, chapter 13 (percentiles).
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

ENDS = (0.025, 0.975)
"""The percentiles at which a 95 % interval ends."""

_NORMAL = 1.959963984540054  # the normal quantile of the upper end
_HELD = 1 << 22  # weights held at once: 32 MB


class Interval(NamedTuple):
    """The two ends of a 95 % interval."""

    low: float
    high: float


def resamples(count: int, *, draws: int = 1000, seed: int = 0) -> Int[Tensor, "draws count"]:
    """Return places of things drawn again with replacement, the same for the same seed."""
    return torch.randint(count, (draws, count), generator=torch.Generator().manual_seed(seed))


def times_drawn(drawn: Int[Tensor, "draws count"]) -> Float[Tensor, "draws count"]:
    """Return how often each thing was drawn in each resample."""
    return torch.zeros(drawn.shape, dtype=torch.float64).scatter_add_(1, drawn, torch.ones_like(drawn).double())


def percentiles(estimates: Float[Tensor, " draws"]) -> Interval:
    """Return the interval of what resamples amount to; those that amount to nothing, NaN, don't count."""
    return Interval(*(float(estimates.nanquantile(end)) for end in ENDS))


def wilson(right: float, count: int) -> Interval:
    """Return the interval of a share.

        (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Args:
        right: how many were right; a fraction where several probes count as one.
        count: n, of how many, at least 1.
    """
    share, extra = right / count, _NORMAL**2 / count
    middle = share + extra / 2
    half = _NORMAL * (share * (1 - share) / count + extra / (4 * count)) ** 0.5
    return Interval(max(0.0, (middle - half) / (1 + extra)), min(1.0, (middle + half) / (1 + extra)))


def of_share(right: Float[Tensor, " probes"], facts: Int[Tensor, " probes"]) -> Interval | None:
    """Return the interval of a share over facts; None for a single fact with several probes, which says nothing of it.

    Args:
        right: 1 or 0 for each probe.
        facts: which fact each belongs to, numbered from 0.
    """
    probes = facts.bincount()
    shares = torch.zeros(len(probes), dtype=torch.float64).index_add(0, facts, right.double()) / probes
    apart = wilson(float(shares.sum()), len(probes))
    if len(facts) == len(probes):
        return apart
    drawn = _drawn(right, facts, quantile=None)
    return drawn and Interval(min(drawn.low, apart.low), max(drawn.high, apart.high))


def of_quantile(values: Float[Tensor, " probes"], facts: Int[Tensor, " probes"], *, quantile: float) -> Interval | None:
    """Return the interval of a quantile over facts; None for a single fact.

    Args:
        values: of each probe.
        facts: which fact each belongs to, numbered from 0.
        quantile: between 0 and 1.
    """
    return _drawn(values, facts, quantile=quantile)


def _drawn(values: Tensor, facts: Tensor, *, quantile: float | None) -> Interval | None:
    """The percentiles of the mean, or of a quantile, over drawn facts."""
    count = int(facts.max()) + 1
    if count == 1:
        return None
    order = values.argsort()
    values, facts = values[order].double(), facts[order]
    found: list[Tensor] = []
    for drawn in resamples(count).split(max(1, _HELD // len(values))):
        weights = times_drawn(drawn)[:, facts]
        if quantile is None:
            found.append((weights * values).sum(1) / weights.sum(1))
        else:
            reached = weights.cumsum(1) >= quantile * weights.sum(1, keepdim=True)
            found.append(values[reached.int().argmax(1)])
    return percentiles(torch.cat(found))
