"""The gate: a policy's bounds against a report's numbers, failing closed.

A metric that is missing, not a number, or measured on too few prompts fails its bound and says so. Where a batch has
too few, the whole ledger is counted in: efficacy over the new facts then includes the earlier ones. The verdict holds
every bound beside the number it was held against, so nobody has to take "pass" on trust.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

from prefect import task

from editors.digests import digest_of
from tasks.errors import GateError
from tasks.measures import measure
from tasks.policy import Bound, Policy, read_policy
from tasks.report import Answer, Metric, Record, Report, as_json

POOLED = {"efficacy": ("efficacy", "retention")}
"""The kinds of question that say the same of earlier facts as of new ones."""

OWNERS = {"generalization": ("efficacy",), "specificity": ("efficacy", "retention")}
"""The kinds of question that name all facts of which another kind should have been asked."""

OVER_PRODUCTION = frozenset({"retention.kept", "protected.kept"})
"""The metrics of what production has right."""

_NAMED = 3


class Outcome(Record):
    """One bound, the numbers it was held against, and whether they hold.

    Attributes:
        bound: what is asked for.
        metric: the numbers; where a bound is for each relation or fact, those of the worst.
        where: which relation or fact that is; or that the whole ledger was counted in.
        passed: whether they hold.
        why: they don't.
    """

    bound: Bound
    metric: Metric | None
    where: str = ""
    passed: bool
    why: str = ""

    @property
    def word(self) -> str:
        """Pass, or what happens because it doesn't."""
        return "pass" if self.passed else self.bound.severity

    @property
    def count(self) -> int:
        """On how many prompts it was measured."""
        return self.metric.count if self.metric else 0


class Verdict(Record):
    """Pass or fail, with every outcome.

    Attributes:
        report: the digest of the report that was judged.
    """

    policy: str
    policy_digest: str
    report: str
    passed: bool
    outcomes: tuple[Outcome, ...]

    @property
    def word(self) -> str:
        """The verdict in a word."""
        return "pass" if self.passed else "fail"

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The outcomes that block."""
        return tuple(o for o in self.outcomes if not o.passed and o.bound.severity == "block")

    @property
    def failure(self) -> str:
        """Why the gate fails, in a sentence."""
        return f"the gate {self.policy!r} fails: " + "; ".join(f"{o.bound.metric} {o.why}" for o in self.failures)

    @property
    def warnings(self) -> tuple[Outcome, ...]:
        """The outcomes that a reviewer should look at."""
        return tuple(o for o in self.outcomes if not o.passed and o.bound.severity == "warn")


def gate(report: Report, policy: Policy) -> Verdict:
    """Hold a report against a policy."""
    outcomes = tuple(_outcome(bound, report) for bound in policy.gate)
    return Verdict(
        policy=policy.name,
        policy_digest=policy.digest,
        report=report_digest(report),
        passed=all(o.passed or o.bound.severity != "block" for o in outcomes),
        outcomes=outcomes,
    )


def missed_by(bound: Bound, report: Report) -> dict[str, str]:
    """Which relations or facts miss a bound that is for each of them, those that miss it by most first, and why.

    Args:
        bound: with scope "relation" or "fact".
        report: to hold against it.
    """
    metrics = {name: measure(bound.metric, own) for name, own in _groups(bound, report).items()}
    missed = _missed(bound, metrics)
    return {name: missed[name] for name in sorted(missed, key=lambda name: -_excess(bound, metrics[name]))}


def report_digest(report: Report) -> str:
    """The digest that a verdict names its report by."""
    return digest_of(as_json(report))


def check_verdict(verdict: Verdict, report: Report, *, policy: Policy, patch: str) -> None:
    """Refuse a verdict over another report or by another policy, and a report over another patch.

    Raises:
        GateError: one of them is.
    """
    if report.patch != patch:
        raise GateError(f"the report is of patch {report.patch[:12]}, not of {patch[:12]}; evaluate the patch again")
    if verdict.report != report_digest(report):
        raise GateError(f"the verdict is over report {verdict.report[:12]}, not over this one; gate it again")
    if verdict.policy_digest != policy.digest:
        raise GateError(f"the verdict is by another policy than {policy.name!r}; gate it again")


def _outcome(bound: Bound, report: Report) -> Outcome:
    metric = report.metrics.get(bound.metric)
    if metric is None:
        return Outcome(bound=bound, metric=None, passed=False, why="was not measured")
    if bound.metric in OVER_PRODUCTION and _is_silent(report.of_kind(bound.kind)):
        why = "production stands on another base, and was not asked"
        return Outcome(bound=bound, metric=metric, passed=False, why=why)
    if bound.scope != "batch":
        return _each(bound, report)
    if metric.count < bound.count and (pooled := _pooled(bound, report)).count > metric.count:
        # The earlier facts lend their number, and nothing else: the new ones have to hold by themselves.
        alone = bound.model_copy(update={"count": 0, "statistic": "estimate"})
        why = _shortfall(alone, metric) or _shortfall(bound, pooled)
        return Outcome(bound=bound, metric=pooled, where="with the earlier facts", passed=not why, why=why)
    why = _shortfall(bound, metric)
    return Outcome(bound=bound, metric=metric, passed=not why, why=why)


def _is_silent(answers: Collection[Answer]) -> bool:
    """Whether production answered none of some prompts."""
    return bool(answers) and all(answer.parent is None for answer in answers)


def _pooled(bound: Bound, report: Report) -> Metric:
    return measure(bound.metric, report.of_kind(*POOLED.get(bound.kind, (bound.kind,))))


def _each(bound: Bound, report: Report) -> Outcome:
    """Hold every relation or fact against a bound by itself, and show the worst."""
    metrics = {name: measure(bound.metric, own) for name, own in _groups(bound, report).items()}
    missed = _missed(bound, metrics)
    worst = max(missed or metrics, key=lambda name: _excess(bound, metrics[name]), default="")
    if not worst:
        nothing = measure(bound.metric, ())
        why = _shortfall(bound, nothing)
        return Outcome(bound=bound, metric=nothing, passed=not why, why=why)
    why = "; ".join(f"{name}: {missed[name]}" for name in list(missed)[:_NAMED])
    more = f" and {len(missed) - _NAMED} more" if len(missed) > _NAMED else ""
    return Outcome(bound=bound, metric=metrics[worst], where=worst, passed=not missed, why=why + more)


def _missed(bound: Bound, metrics: Mapping[str, Metric]) -> dict[str, str]:
    return {name: why for name, metric in metrics.items() if (why := _shortfall(bound, metric))}


def _groups(bound: Bound, report: Report) -> Mapping[str, list[Answer]]:
    """The answers that a bound asks for, by relation or fact; one of which nothing was asked is there too."""
    groups: dict[str, list[Answer]] = defaultdict(list)
    for answer in report.of_kind(*OWNERS.get(bound.kind, ()), bound.kind):
        group = groups[answer.relation if bound.scope == "relation" else answer.correction]
        if answer.kind == bound.kind:
            group.append(answer)
    return groups


def _shortfall(bound: Bound, metric: Metric) -> str:
    """Why the numbers miss the bound, or nothing where they hold."""
    if metric.count < bound.count:
        return f"was measured on {metric.count} prompts, the policy asks for {bound.count}"
    if metric.count == 0:
        return ""
    return next(_misses(bound, metric), "")


def _misses(bound: Bound, metric: Metric) -> Iterator[str]:
    if metric.after is None or not math.isfinite(metric.after):
        yield "is not a number"
        return
    low = high = metric.after
    is_low, is_high = "is", "is"
    if bound.statistic == "confidence":
        if metric.low is None or metric.high is None:
            yield "has no interval: all prompts are of one fact"
            return
        low, high = metric.low, metric.high
        is_low, is_high = "may be as low as", "may be as high as"
    if bound.min is not None and low < bound.min:
        yield f"{is_low} {low:.4g}, below {bound.min:g}"
    if bound.max is not None and high > bound.max:
        yield f"{is_high} {high:.4g}, above {bound.max:g}"
    if bound.max_misses is not None:
        if metric.misses is None:
            yield "has no count of what is wrong"
        elif metric.misses > bound.max_misses:
            yield f"{metric.misses} of {metric.count} prompts are wrong, more than {bound.max_misses}"
    if bound.max_drop is not None:
        start = _start(bound, metric)
        if start is None or not math.isfinite(start):
            yield f"has no number of the {bound.drop_from} to compare with"
        elif start - metric.after > bound.max_drop:
            yield f"fell by {start - metric.after:.4g} from the {bound.drop_from}, more than {bound.max_drop:g}"


def _start(bound: Bound, metric: Metric) -> float | None:
    return metric.before if bound.drop_from == "base" else metric.parent


def _excess(bound: Bound, metric: Metric) -> float:
    """By how much a metric misses what it is furthest from; without a number it is furthest of all."""
    after, start = metric.after, _start(bound, metric)
    if after is None:
        return math.inf if bound.count else -math.inf
    excesses = (
        None if bound.min is None else bound.min - after,
        None if bound.max is None else after - bound.max,
        None if bound.max_misses is None or metric.misses is None else metric.misses - bound.max_misses,
        None if bound.max_drop is None or start is None else start - after - bound.max_drop,
    )
    return max((excess for excess in excesses if excess is not None), default=math.inf)


@task(name="gate")
def gate_task(report: Report, policy: Policy) -> Verdict:
    """Hold a report against a policy."""
    return gate(report, policy)


@task(name="policy")
def policy_task(name: str) -> Policy:
    """Read a policy."""
    return read_policy(name)
