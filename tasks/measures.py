"""What answers add up to: each metric from the marks of its prompts, over all of them or over some.

The gate asks for the same numbers over one relation or one fact, so a metric is a function of answers and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from statistics import fmean
from typing import TYPE_CHECKING

from tasks.report import Answer, Metric, Said

if TYPE_CHECKING:
    from editors.scoring import Perplexity

QUANTILES = {"kl_median": ("kl", 0.5), "kl_p95": ("kl", 0.95), "rise": ("rise", 1.0)}
"""Which number of an answer is meant, and which quantile of it."""
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
        mark, quantile = QUANTILES[how]
        return _moved(list(answers), attrgetter(mark), quantile=quantile)
    if how == "kept":
        kept = [a for a in answers if (started := _start(name, a)) is not None and started.generation]
        return _share(kept, lambda said: said.generation)
    return _share(list(answers), lambda said: getattr(said, how))


def perplexities(name: str, texts: Mapping[str, Perplexity | None]) -> dict[str, Metric]:
    """Return the perplexity of each model, and its ratio to the base's.

    Args:
        name: of the metric; that of the ratio follows from it.
        texts: of "before", "parent" and "after"; None where a model was not asked.
    """
    before, after = texts["before"], texts["after"]
    assert before is not None and after is not None, "only production may not have been asked"
    values = {model: text and text.value for model, text in texts.items()}
    ratios = {model: value and value / before.value for model, value in values.items()}
    return {
        name: Metric.model_validate(values | {"count": after.tokens}),
        f"{name}_ratio": Metric.model_validate(ratios | {"count": after.tokens}),
    }


def _start(name: str, answer: Answer) -> Said | None:
    """What is kept is what the base has right of neighbours, and what production has right of the ledger's facts."""
    return answer.before if name == "specificity.kept" else answer.parent


def _share(answers: Sequence[Answer], mark: Callable[[Said], bool | None]) -> Metric:
    """The share of prompts that are marked as right."""
    import torch  # takes seconds to import, and whoever only reads a verdict does not need it

    from editors.intervals import of_share

    asked = [answer for answer in answers if mark(answer.after) is not None]
    if not asked:
        return Metric(before=None, parent=None, after=None, count=0, misses=0)
    after = [float(bool(mark(answer.after))) for answer in asked]
    served = [answer.parent for answer in asked if answer.parent]
    low, high = of_share(torch.tensor(after), torch.tensor(_facts(asked))) or NONE
    return Metric(
        before=fmean(bool(mark(answer.before)) for answer in asked),
        parent=fmean(bool(mark(said)) for said in served) if served else None,
        after=fmean(after),
        low=low,
        high=high,
        count=len(asked),
        made=_made(asked),
        misses=after.count(0.0),
    )


def _moved(answers: Sequence[Answer], number: Callable[[Said], float | None], *, quantile: float) -> Metric:
    """A quantile of how far something has moved from the base."""
    import torch

    from editors.intervals import of_quantile

    asked = [answer for answer in answers if number(answer.after) is not None]
    if not asked:
        return Metric(before=None, parent=None, after=None, count=0)
    after = torch.tensor([number(answer.after) for answer in asked], dtype=torch.float64)
    served = torch.tensor([number(answer.parent) for answer in asked if answer.parent], dtype=torch.float64)
    low, high = of_quantile(after, torch.tensor(_facts(asked)), quantile=quantile) or NONE
    return Metric(
        before=0.0,
        parent=float(served.quantile(quantile)) if len(served) else None,
        after=float(after.quantile(quantile)),
        low=low,
        high=high,
        count=len(asked),
        made=_made(asked),
    )


def _made(answers: Sequence[Answer]) -> int:
    return sum(answer.made for answer in answers)


def _facts(answers: Sequence[Answer]) -> list[int]:
    """Number the corrections that answers belong to."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(answer.correction, len(numbers)) for answer in answers]
