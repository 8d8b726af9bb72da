"""The gate: a policy's bounds against a report's numbers, failing closed.

A metric that is missing, not a number, or measured on too few prompts fails its bound and says so. Where a batch has
too few, the whole ledger is counted in: efficacy over the new facts then includes the earlier ones. The verdict holds
every bound beside the number it was held against, so nobody has to take "pass" on trust.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping

from prefect import task

from editors.digests import digest_of
from tasks.errors import GateError
from tasks.measures import measure
from tasks.policy import Bound, Policy, Record, read_policy
from tasks.report import Answer, Metric, Report, as_json
from tasks.settings import Settings

POOLED = {"efficacy": ("efficacy", "retention")}
"""The kinds of question that say the same of earlier facts as of new ones."""

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


def report_digest(report: Report) -> str:
    """The digest that a verdict names its report by."""
    return digest_of(as_json(report))


def check_verdict(verdict: Verdict, report: Report, *, patch: str) -> None:
    """Refuse a verdict over another report, and a report over another patch.

    Raises:
        GateError: one of them is.
    """
    if report.patch != patch:
        raise GateError(
            f"the report is of patch {report.patch[:12]}, not of {patch[:12]}; evaluate the candidate again"
        )
    if verdict.report != report_digest(report):
        raise GateError(f"the verdict is over report {verdict.report[:12]}, not over this one; gate it again")


def _outcome(bound: Bound, report: Report) -> Outcome:
    metric = report.metrics.get(bound.metric)
    if metric is None:
        return Outcome(bound=bound, metric=None, passed=False, why="was not measured")
    if bound.scope != "batch":
        return _each(bound, report)
    where = ""
    if metric.count < bound.count and (pooled := _pooled(bound, report)).count > metric.count:
        metric, where = pooled, "with the earlier facts"
    why = _shortfall(bound, metric)
    return Outcome(bound=bound, metric=metric, where=where, passed=not why, why=why)


def _pooled(bound: Bound, report: Report) -> Metric:
    kind = bound.metric.partition(".")[0]
    return measure(bound.metric, report.of_kind(*POOLED.get(kind, (kind,))))


def _each(bound: Bound, report: Report) -> Outcome:
    """Hold every relation or fact against a bound by itself, and show the worst."""
    metrics = {name: measure(bound.metric, own) for name, own in _groups(bound, report).items()}
    asked = {name: metric for name, metric in metrics.items() if metric.count}
    missed = {name: why for name, metric in asked.items() if (why := _shortfall(bound, metric))}
    if not asked:
        nothing = measure(bound.metric, ())
        why = _shortfall(bound, nothing)
        return Outcome(bound=bound, metric=nothing, passed=not why, why=why)
    worst = _worst(bound, {name: asked[name] for name in missed} or asked)
    why = "; ".join(f"{name}: {missed[name]}" for name in list(missed)[:_NAMED])
    more = f" and {len(missed) - _NAMED} more" if len(missed) > _NAMED else ""
    return Outcome(bound=bound, metric=asked[worst], where=worst, passed=not missed, why=why + more)


def _groups(bound: Bound, report: Report) -> Mapping[str, list[Answer]]:
    groups: dict[str, list[Answer]] = defaultdict(list)
    for answer in report.of_kind(bound.metric.partition(".")[0]):
        groups[answer.relation if bound.scope == "relation" else answer.correction].append(answer)
    return groups


def _worst(bound: Bound, metrics: Mapping[str, Metric]) -> str:
    sign = -1 if bound.max is not None else 1
    return min(metrics, key=lambda name: (sign * (metrics[name].after or 0), name))


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
    low, high = metric.after, metric.after
    if bound.statistic == "confidence":
        if metric.low is None or metric.high is None:
            yield "has no interval: all prompts are of one fact"
            return
        low, high = metric.low, metric.high
    surely = " for sure" if bound.statistic == "confidence" else ""
    if bound.min is not None and low < bound.min:
        yield f"{low:.4g} is below {bound.min:g}{surely}"
    if bound.max is not None and high > bound.max:
        yield f"{high:.4g} is above {bound.max:g}{surely}"
    if bound.max_misses is not None:
        if metric.misses is None:
            yield "is no question of right or wrong, so no prompt of it is a miss"
        elif metric.misses > bound.max_misses:
            yield f"{metric.misses} of {metric.count} prompts are wrong, more than {bound.max_misses}"
    if bound.max_drop is not None:
        start = metric.before if bound.drop_from == "base" else metric.parent
        if start is None or not math.isfinite(start):
            yield f"has no number of the {bound.drop_from} to compare with"
        elif start - low > bound.max_drop:
            yield f"fell by {start - low:.4g} from the {bound.drop_from}, more than {bound.max_drop:g}{surely}"


@task(name="gate")
def gate_task(report: Report, policy: Policy) -> Verdict:
    """Hold a report against a policy."""
    return gate(report, policy)


@task(name="policy")
def policy_task() -> Policy:
    """Read the policy that the settings name."""
    return read_policy(Settings().policy)
