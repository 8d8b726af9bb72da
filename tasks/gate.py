"""The gate: a policy's bounds against a report's numbers, failing closed.

A metric that is missing, not a number, or measured on too few prompts fails its bound and says so. The verdict holds
every bound beside the number it was held against, so nobody has to take "pass" on trust.
"""

from __future__ import annotations

import math
import tomllib
from importlib import resources
from pathlib import Path
from typing import Literal, Self

from prefect import task
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from editors.digests import sha256_bytes
from tasks.errors import PolicyError
from tasks.report import METRICS, Report
from tasks.settings import Settings

Severity = Literal["block", "warn", "info"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Bound(_Record):
    """One bound of a policy."""

    metric: str
    min: float | None = None
    max: float | None = None
    max_drop: float | None = None
    count: int = Field(default=1, ge=0)
    severity: Severity = "block"

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.metric not in METRICS:
            raise ValueError(f"unknown metric {self.metric!r}; known are {', '.join(METRICS)}")
        if self.min is None and self.max is None and self.max_drop is None:
            raise ValueError(f"the gate on {self.metric!r} has no bound; give min, max or max_drop")
        return self


class Policy(_Record):
    """The bounds that a candidate is held against; known by the digest of its file."""

    name: str
    gate: tuple[Bound, ...] = Field(min_length=1)
    text: str = Field(exclude=True)

    @property
    def digest(self) -> str:
        """The sha256 of the policy's file."""
        return sha256_bytes(self.text.encode())


class Outcome(_Record):
    """One bound, the numbers it was held against, and whether they hold."""

    bound: Bound
    before: float | None
    after: float | None
    count: int
    passed: bool
    why: str = ""


class Verdict(_Record):
    """Pass or fail, with every outcome."""

    policy: str
    policy_digest: str
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


def read_policy(path: Path | None = None) -> Policy:
    """Read a policy file; the shipped `default` where none is named.

    Raises:
        PolicyError: it can't be read, or names what doesn't exist.
    """
    place = path or "infra/policies/default.toml"
    try:
        text = (
            path.read_text("utf-8") if path else resources.files("infra.policies").joinpath("default.toml").read_text()
        )
        return Policy(**tomllib.loads(text), text=text)
    except (OSError, tomllib.TOMLDecodeError, TypeError) as error:
        raise PolicyError(
            f"the policy {place} can't be read: {error}; without a policy nothing is let through"
        ) from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise PolicyError(f"the policy {place} is not valid: {problems}") from error


def gate(report: Report, policy: Policy) -> Verdict:
    """Hold a report against a policy."""
    outcomes = tuple(_outcome(bound, report) for bound in policy.gate)
    return Verdict(
        policy=policy.name,
        policy_digest=policy.digest,
        passed=all(o.passed or o.bound.severity != "block" for o in outcomes),
        outcomes=outcomes,
    )


def _outcome(bound: Bound, report: Report) -> Outcome:
    metric = report.metrics.get(bound.metric)
    if metric is None:
        return Outcome(bound=bound, before=None, after=None, count=0, passed=False, why="was not measured")
    why = _shortfall(bound, before=metric.before, after=metric.after, count=metric.count)
    return Outcome(bound=bound, before=metric.before, after=metric.after, count=metric.count, passed=not why, why=why)


def _shortfall(bound: Bound, *, before: float | None, after: float | None, count: int) -> str:
    """Why the numbers miss the bound, or nothing where they hold."""
    if count < bound.count:
        return f"was measured on {count} prompts, the policy asks for {bound.count}"
    if count == 0:
        return ""
    if after is None or not math.isfinite(after):
        return "is not a number"
    if bound.min is not None and after < bound.min:
        return f"{after:.4g} is below {bound.min:g}"
    if bound.max is not None and after > bound.max:
        return f"{after:.4g} is above {bound.max:g}"
    if bound.max_drop is not None:
        if before is None or not math.isfinite(before):
            return "has no number of the base to compare with"
        if before - after > bound.max_drop:
            return f"fell by {before - after:.4g}, more than {bound.max_drop:g}"
    return ""


def describe(bound: Bound) -> str:
    """A bound in words."""
    words = (
        f"at least {bound.min:g}" if bound.min is not None else "",
        f"at most {bound.max:g}" if bound.max is not None else "",
        f"at most {bound.max_drop:g} below the base" if bound.max_drop is not None else "",
    )
    return " and ".join(word for word in words if word)


@task(name="gate")
def gate_task(report: Report, policy: Policy) -> Verdict:
    """Hold a report against a policy."""
    return gate(report, policy)


@task(name="policy")
def policy_task() -> Policy:
    """Read the policy that the settings name."""
    return read_policy(Settings().policy)
