"""Harm: what fails in the bounds that a report misses, and how much of it is gone when some facts are left out.

A bound counts here by its estimate, on however few prompts: that a batch is too small is no fact's fault. Prompts about
a fact go with it when it is left out. Neighbours and protected facts stay, whoever's they are, for leaving out the
fact that asked about them takes nothing off the harm that is done to them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from tasks.gate import gate, missed_by
from tasks.measures import measure
from tasks.policy import Bound, Policy
from tasks.report import NEW, OVER_TEXT, Answer, Report, Said

OF_OTHERS = frozenset({"specificity", "protected"})
"""The kinds of question that are not about the fact that they belong to."""

PERPLEXITY = "regression.perplexity"
"""How the names of metrics begin that a trial measures over text."""

AT_LEAST = 2
"""Prompts of others that have to be right again: one alone may be close to either answer, whatever is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What the failing prompts are answered where some facts are left out.

    Attributes:
        without: the corrections that are left out.
        said: by the place of the prompt in the report.
        text: metrics over text, by name; empty where no bound on them fails.
    """

    without: frozenset[str] = frozenset()
    said: Mapping[int, Said] = field(default_factory=dict[int, Said])
    text: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Harm:
    """The bounds of a policy that block a report for what its facts do, and the prompts that fail in them.

    Attributes:
        report: what was measured.
        policy: what it is held against.
        new: the corrections that may be set aside.
    """

    report: Report
    policy: Policy
    new: frozenset[str]

    @cached_property
    def bounds(self) -> tuple[Bound, ...]:
        """The bounds that block and whose estimate is missed, with nothing asked of the number of prompts."""
        measured = self.report.metrics
        blocking = [
            bound
            for bound in self.policy.gate
            if bound.severity == "block" and bound.metric in measured and _can_be_tried(bound)
        ]
        return tuple(bound for bound in map(_by_estimate, blocking) if not self._hold(self.report, bound))

    @cached_property
    def wrong(self) -> Mapping[Bound, frozenset[int]]:
        """The places in the report of the prompts that fail in each of the bounds, those over text left out."""
        return {
            bound: frozenset(
                place
                for place, answer in enumerate(self.report.answers)
                if answer.kind == bound.kind and _is_wrong(bound, answer)
            )
            for bound in self.bounds
            if not bound.metric.startswith(OVER_TEXT)
        }

    @property
    def places(self) -> list[int]:
        """The places of all prompts that fail."""
        return sorted(frozenset[int]().union(*self.wrong.values()))

    @property
    def in_chat(self) -> bool:
        """Whether a bound on answers through the chat template fails."""
        return any(bound.metric.endswith(".chat") for bound in self.bounds)

    @property
    def over_text(self) -> bool:
        """Whether a bound over text fails."""
        return any(bound.metric.startswith(OVER_TEXT) for bound in self.bounds)

    def own(self, correction: str) -> list[Answer]:
        """The answers about a fact that fail."""
        answers = [self.report.answers[place] for place in self.places]
        return [answer for answer in answers if answer.correction == correction and answer.kind not in OF_OTHERS]

    def mended(self, trial: Trial) -> list[Answer]:
        """The prompts of others that are right in a trial, each once, as they were answered before."""
        found = {place for bound in self.wrong for place in self._mended(bound, trial)}
        return list({(a.kind, a.prompt): a for a in (self.report.answers[place] for place in sorted(found))}.values())

    def gain(self, trial: Trial) -> float:
        """Which share of the harm to others is gone in a trial, the shares of all bounds added up."""
        over_text = sum(self._text_gain(bound, trial) for bound in self.bounds if bound.metric.startswith(OVER_TEXT))
        if len(self.mended(trial)) < self._enough:
            return over_text
        return over_text + sum(
            len(self._mended(bound, trial)) / len(wrong) for bound, wrong in self.wrong.items() if wrong
        )

    @cached_property
    def _enough(self) -> int:
        """How many prompts of others have to be right again: all of them, where fewer neighbours and the like fail."""
        others = sum(self.report.answers[place].kind in OF_OTHERS for place in self.places)
        return min(AT_LEAST, others) if others else AT_LEAST

    def report_without(self, trial: Trial, *, also: Collection[str] = ()) -> Report:
        """The report as it would be by a trial.

        Args:
            trial: what is known of it.
            also: more corrections whose own prompts are left out.
        """
        gone = trial.without | frozenset(also)
        answers = tuple(
            answer.model_copy(update={"after": trial.said[place]}) if place in trial.said else answer
            for place, answer in enumerate(self.report.answers)
            if answer.kind in OF_OTHERS or answer.correction not in gone
        )
        metrics = {
            name: metric.model_copy(update={"after": trial.text.get(name, metric.after)})
            if name.startswith(OVER_TEXT)
            else measure(name, [answer for answer in answers if answer.kind == name.partition(".")[0]])
            for name, metric in self.report.metrics.items()
            if name in {bound.metric for bound in self.bounds}
        }
        return self.report.model_copy(update={"answers": answers, "metrics": metrics})

    def unsaid(self, trial: Trial) -> dict[str, list[str]]:
        """The new facts that fail by themselves in a trial, and by which metrics.

        Those are all that miss a bound on efficacy, or one for each fact; of the facts that miss another bound about
        themselves, the worst, until it holds.
        """
        found: dict[str, list[str]] = {}
        for bound in filter(_is_direct, self.bounds):
            for name in self._missed(bound, self.report_without(trial)):
                found.setdefault(name, []).append(bound.metric)
        for bound in self.bounds:
            if _is_direct(bound) or bound.kind in OF_OTHERS or bound.metric.startswith(OVER_TEXT):
                continue
            for name in self._missed(bound, self.report_without(trial, also=found)):
                if self._hold(self.report_without(trial, also=found), bound):
                    break
                found[name] = [bound.metric]
        return found

    def passes(self, trial: Trial, *, also: Collection[str] = ()) -> bool:
        """Whether all bounds hold by a trial, and with more facts left out."""
        return self._hold(self.report_without(trial, also=also), *self.bounds)

    def _hold(self, report: Report, *bounds: Bound) -> bool:
        return not bounds or gate(report, self.policy.model_copy(update={"gate": bounds})).passed

    def _missed(self, bound: Bound, report: Report) -> list[str]:
        """The new facts that miss a bound by themselves, those that miss it by most first."""
        misses = {} if bound.max_misses is None else {"max_misses": 0}
        each = bound.model_copy(update={"scope": "fact", **misses})
        return [name for name in missed_by(each, report) if name in self.new]

    def _mended(self, bound: Bound, trial: Trial) -> list[int]:
        return [
            place
            for place in sorted(self.wrong[bound])
            if place in trial.said
            and not (self.report.answers[place].kind not in OF_OTHERS and self._is_out(place, trial))
            and not _is_wrong(bound, self.report.answers[place].model_copy(update={"after": trial.said[place]}))
        ]

    def _is_out(self, place: int, trial: Trial) -> bool:
        return self.report.answers[place].correction in trial.without

    def _text_gain(self, bound: Bound, trial: Trial) -> float:
        """How far a number over text went back to the base's, as a share of the way to its bound."""
        metric = self.report.metrics[bound.metric]
        now = trial.text.get(bound.metric)
        if now is None or metric.after is None or bound.max is None or metric.after <= bound.max:
            return 0.0
        return min(max((metric.after - now) / (metric.after - bound.max), 0.0), 1.0)


def _can_be_tried(bound: Bound) -> bool:
    """Whether a trial can tell: it asks prompts and reads held text, and writes no texts of its own."""
    return not bound.metric.startswith(OVER_TEXT) or bound.metric.startswith(PERPLEXITY)


def _by_estimate(bound: Bound) -> Bound:
    return bound.model_copy(update={"count": 0, "statistic": "estimate"})


def _is_direct(bound: Bound) -> bool:
    return bound.kind in NEW or bound.scope == "fact"


def _is_wrong(bound: Bound, answer: Answer) -> bool:
    """Whether a prompt counts for a bound's metric, and against it."""
    metric = measure(bound.metric, [answer])
    if metric.misses is None:
        return metric.after is not None and bound.max is not None and metric.after > bound.max
    return metric.misses > 0
