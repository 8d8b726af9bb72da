"""Is one edited model as good as another? The difference of their scores over the same records, with its interval."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from editors.intervals import percentiles, resamples
from editors.measuring import SCORED, Measured
from editors.metrics import means_by_logprob

_DRAWS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """In points, and its 95 % interval over resampled records."""

    value: float
    low: float
    high: float


def score_difference(one: Measured, other: Measured) -> Difference:
    """Return the score of one model less that of another.

    The score is the harmonic mean of efficacy, paraphrase and neighbourhood by log-probability, as in
    editors/metrics.py. Each draw takes the same records of both, so what is hard for both cancels out.

    Args:
        one: measured over some records.
        other: measured over the same ones.
    """
    mine, rival = _shares(one), _shares(other)
    records = mine.shape[1]
    draws = resamples(records, draws=_DRAWS)
    drawn = 100 * (_score(mine[:, draws]) - _score(rival[:, draws]))
    low, high = percentiles(drawn)
    return Difference(value=float(100 * (_score(mine) - _score(rival))), low=low, high=high)


def _shares(measured: Measured) -> Float[Tensor, "kinds records"]:
    return means_by_logprob([[answer.weighed for answer in own] for own in measured.answers])


def _score(shares: Float[Tensor, "kinds *draws records"]) -> Float[Tensor, "*draws"]:
    return len(SCORED) / (1 / shares.nanmean(dim=-1)).sum(dim=0)
