"""What answers add up to: each metric from the marks of its prompts, over all of them or over some.

The gate asks for the same numbers over one relation or one fact, so a metric is a function of answers and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

import torch

from editors.intervals import of_quantile, of_share
from tasks.report import Answer, Metric, Said

QUANTILES = {"kl_median": 0.5, "kl_p95": 0.95}
NONE = (None, None)
"""No interval."""


def measure(name: str, answers: Iterable[Answer]) -> Metric:
    """Return a metric over some answers; those that its question makes no sense for don't count.

    Args:
        name: of a metric that is measured by prompts, as in METRICS.
        answers: of the kinds that count for it.
    """
    how = name.partition(".")[2]
    if how in QUANTILES:
        return _moved(list(answers), QUANTILES[how])
    if how == "kept":  # a protected fact may be one that only production has right
        was = "parent" if name == "protected.kept" else "before"
        return _share([a for a in answers if getattr(a, was).generation], lambda said: said.generation)
    return _share(list(answers), lambda said: getattr(said, how))


def _share(answers: Sequence[Answer], mark: Callable[[Said], bool | None]) -> Metric:
    """The share of prompts that are marked as right."""
    asked = [answer for answer in answers if mark(answer.after) is not None]
    if not asked:
        return Metric(before=None, parent=None, after=None, count=0, misses=0)
    before, parent, after = (
        [float(bool(mark(said))) for said in (getattr(answer, model) for answer in asked)]
        for model in ("before", "parent", "after")
    )
    low, high = of_share(torch.tensor(after), _facts(asked)) or NONE
    return Metric(
        before=fmean(before),
        parent=fmean(parent),
        after=fmean(after),
        low=low,
        high=high,
        count=len(asked),
        misses=round(len(after) - sum(after)),
    )


def _moved(answers: Sequence[Answer], quantile: float) -> Metric:
    """A quantile of how far what follows the prompts has moved from the base."""
    asked = [answer for answer in answers if answer.after.kl is not None]
    if not asked:
        return Metric(before=None, parent=None, after=None, count=0)
    parent, after = (
        torch.tensor([said.kl for said in (getattr(answer, model) for answer in asked)], dtype=torch.float64)
        for model in ("parent", "after")
    )
    low, high = of_quantile(after, _facts(asked), quantile=quantile) or NONE
    return Metric(
        before=0.0,
        parent=float(parent.quantile(quantile)),
        after=float(after.quantile(quantile)),
        low=low,
        high=high,
        count=len(asked),
    )


def _facts(answers: Sequence[Answer]) -> torch.Tensor:
    """Number the corrections that answers belong to."""
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(answer.correction, len(numbers)) for answer in answers])
