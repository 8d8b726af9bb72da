"""Benchmark metrics as their papers define them, in three ways that are never mixed.

              logprob                    argmax                            generation
efficacy      target likelier than prior every target token is the argmax  greedy text begins with the target
paraphrase    the same behind the paraphrases
neighbourhood prior likelier than target argmax as in the unedited model   of the right answers before, those kept
inverse       -                          as efficacy, of what leads back to the subject
portability   -                          as efficacy, of what follows from the fact

Likelier means by mean log-probability a token. Prompts are averaged within a record, then over records. `score` is
the harmonic mean of the first three; the last two are measured where records ask for them, whether the base knows the
other facts that they need or not. A neighbour's argmax is that of its next token; where the benchmark weighs against
no prior, as zsRE, of every token of its answer, and there is no column logprob. Intervals are bootstrapped over
records.

Source: Meng et al. 2022 (ROME), section 3.3, arXiv:2202.05262; Mitchell et al. 2022 (MEND), arXiv:2110.11309.
"""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from editors.expectation import divergence
from editors.intervals import percentiles, resamples
from editors.measuring import KINDS, SCORED, Answer, Kind, Measured
from editors.scoring import Weighed

How = Literal["logprob", "argmax", "generation"]
HOWS: tuple[How, ...] = ("logprob", "argmax", "generation")
SCORE = "score"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A share between 0 and 1, and its 95 % interval over resampled records."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One number of the unedited and of the edited model.

    Attributes:
        name: efficacy, paraphrase, neighbourhood or score.
        how: logprob, argmax or generation.
        unedited: None where nothing could be asked.
        edited: the same.
        count: prompts that were asked; records, for the score.
    """

    name: str
    how: How
    unedited: Estimate | None
    edited: Estimate | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """KL(unedited || edited) of the next token behind neighbours, in nats; None where there are no neighbours."""

    median: float | None
    p95: float | None
    count: int


def metrics(before: Measured, after: Measured) -> list[Metric]:
    """Return every metric of an edited model against the unedited one.

    Args:
        before: measured on the unedited model.
        after: measured on the edited one, over the same records.
    """
    draws = _draws(len(before.answers))
    kinds: list[Kind] = [kind for kind in KINDS if kind in SCORED or any(before.of_kind(kind))]
    found: list[Metric] = []
    for how in HOWS:
        shares: list[dict[Kind, _Shares]] = [
            {kind: _shares(kind, how, before, model) for kind in kinds} for model in (before, after)
        ]
        found += [_metric(kind, how, shares, draws) for kind in kinds]
        found.append(_score(how, shares, draws))
    return found


def drift(model: PreTrainedModel, before: Measured, after: Measured) -> Drift:
    """Return how far an edited model has moved at the neighbours' prompts.

    Args:
        model: either of the two; only its head is used, which no editor writes.
        before: measured on the unedited model.
        after: measured on the edited one, over the same records.
    """
    was, now = (
        [answer.weighed.state for own in measured.of_kind("neighbourhood") for answer in own]
        for measured in (before, after)
    )
    return drift_of(model, was, now)


def drift_of(
    model: PreTrainedModel, was: Sequence[Float[Tensor, " d_model"]], now: Sequence[Float[Tensor, " d_model"]]
) -> Drift:
    """Return how far an edited model has moved, from the final states behind the neighbours before and after."""
    if not was:
        return Drift(median=None, p95=None, count=0)
    moved = divergence(model, torch.stack(list(was)), torch.stack(list(now)))
    return Drift(median=float(moved.quantile(0.5)), p95=float(moved.quantile(0.95)), count=len(moved))


def shares_by_logprob(records: Sequence[Sequence[Weighed]]) -> dict[str, float]:
    """Return one model's efficacy, paraphrase, neighbourhood and score by log-probability; nothing is written for it.

    A share is NaN where nothing could be asked.

    Args:
        records: what was weighed of each record.
    """
    means = means_by_logprob(records).nanmean(dim=1)
    shares = {kind: float(mean) for kind, mean in zip(SCORED, means, strict=True)}
    return shares | {SCORE: float(_harmonic(means[:, None]))}


def means_by_logprob(records: Sequence[Sequence[Weighed]]) -> Float[Tensor, "kinds records"]:
    """Return which share of its prompts of each kind a record has right by log-probability; NaN where it asks for none.

    A prompt that weighs against nothing does not count.

    Args:
        records: what was weighed of each record.
    """
    marks = [
        [
            [each.prefers_target for each in own if each.probe.kind == kind and each.prefers_target is not None]
            for own in records
        ]
        for kind in SCORED
    ]
    means = [[sum(map(bool, own)) / len(own) if own else float("nan") for own in kind] for kind in marks]
    return torch.tensor(means, dtype=torch.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shares:
    """One metric of one model: the mean over each record's prompts, NaN where it has none, and how many there are."""

    means: Float[Tensor, " records"]
    prompts: int


def _shares(kind: Kind, how: How, before: Measured, model: Measured) -> _Shares:
    means: list[float] = []
    prompts = 0
    for was, now in zip(before.of_kind(kind), model.of_kind(kind), strict=True):
        marks = [_mark(kind, how, old, new) for old, new in zip(was, now, strict=True)]
        counted = [mark for mark in marks if mark is not None]
        prompts += len(counted)
        means.append(sum(counted) / len(counted) if counted else float("nan"))
    return _Shares(means=torch.tensor(means, dtype=torch.float64), prompts=prompts)


def _mark(kind: Kind, how: How, was: Answer, now: Answer) -> bool | None:
    """Whether one answer is as it should be; None where the question makes no sense."""
    if how == "logprob":
        return now.weighed.prefers_target
    if kind != "neighbourhood":
        return now.weighed.argmax if how == "argmax" else now.said
    if how == "generation":
        return now.said if was.said else None
    if now.weighed.prior_logprob is None:
        return now.weighed.predicted == was.weighed.predicted
    return now.weighed.following == was.weighed.following


def _metric(kind: Kind, how: How, shares: Sequence[Mapping[Kind, _Shares]], draws: Tensor) -> Metric:
    unedited, edited = (_estimate(_means(each[kind].means, draws)) for each in shares)
    return Metric(name=kind, how=how, unedited=unedited, edited=edited, count=shares[0][kind].prompts)


def _score(how: How, shares: Sequence[Mapping[Kind, _Shares]], draws: Tensor) -> Metric:
    unedited, edited = (
        _estimate(_harmonic(torch.stack([_means(each[kind].means, draws) for kind in SCORED]))) for each in shares
    )
    return Metric(name=SCORE, how=how, unedited=unedited, edited=edited, count=len(shares[0]["efficacy"].means))


def _draws(records: int) -> Tensor:
    """Places of records: all of them first, then resampled with a fixed seed."""
    return torch.cat([torch.arange(records)[None], resamples(records)])


def _means(means: Float[Tensor, " records"], draws: Tensor) -> Float[Tensor, " draws"]:
    return means[draws].nanmean(dim=1)


def _harmonic(shares: Float[Tensor, "metrics draws"]) -> Float[Tensor, " draws"]:
    """The harmonic mean, which is 0 where a share is."""
    return len(shares) / (1 / shares).sum(dim=0)


def _estimate(drawn: Float[Tensor, " draws"]) -> Estimate | None:
    """The value over all records, which comes first, with the interval of the draws that have one."""
    if not bool(torch.isfinite(drawn[0])):
        return None
    low, high = percentiles(drawn[1:])
    return Estimate(value=float(drawn[0]), low=low, high=high)
