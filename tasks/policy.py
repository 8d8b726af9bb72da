"""A policy: the bounds that a candidate is held against, a TOML file that is known by the digest of its text.

A bound names a metric, what it may be, whether the estimate counts or the worse end of its interval, over what it is
measured, and what happens where it is missed. Every field's description stands in `corrigenda policy schema`.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from editors.digests import sha256_bytes
from tasks.errors import PolicyError
from tasks.report import LESS_IS_BETTER, METRICS, OF_TASK, OVER_TEXT, Record

Severity = Literal["block", "warn", "info"]
Statistic = Literal["estimate", "confidence"]
Scope = Literal["batch", "relation", "fact"]

SUFFIX = ".toml"
_SHIPPED = resources.files("infra.policies")


class Bound(Record):
    """One bound of a policy."""

    metric: str = Field(
        description="what is measured", json_schema_extra={"anyOf": [{"enum": [*METRICS]}, {"pattern": f"^{OF_TASK}."}]}
    )
    min: float | None = Field(default=None, allow_inf_nan=False, description="it is at least this")
    max: float | None = Field(default=None, allow_inf_nan=False, description="it is at most this")
    max_drop: float | None = Field(default=None, allow_inf_nan=False, description="it falls by at most this")
    drop_from: Literal["base", "parent"] = Field(
        default="base", alias="from", description="what max_drop is counted from: the base, or what is in production"
    )
    max_misses: int | None = Field(default=None, ge=0, description="so many prompts may be wrong; for small batches")
    statistic: Statistic = Field(
        default="estimate", description="the number itself, or the worse end of its 95 % interval over facts"
    )
    scope: Scope = Field(
        default="batch", description="over all prompts together, or for each relation or each fact by itself"
    )
    count: int = Field(default=1, ge=0, description="on how many prompts it must have been measured at least")
    severity: Severity = Field(default="block", description="what happens where it is missed")

    @property
    def kind(self) -> str:
        """The kind of question that the metric is measured by."""
        return self.metric.partition(".")[0]

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.metric not in METRICS and not self.metric.startswith(OF_TASK):
            raise ValueError(f"unknown metric {self.metric!r}; known are {', '.join(METRICS)} and {OF_TASK}<name>")
        if self.min is None and self.max is None and self.max_drop is None and self.max_misses is None:
            raise ValueError(f"the gate on {self.metric!r} has no bound; give min, max, max_drop or max_misses")
        if self.metric.startswith(OVER_TEXT) and (self.scope, self.statistic) != ("batch", "estimate"):
            raise ValueError(f"{self.metric!r} is measured over text: leave out scope and statistic")
        if self.drop_from == "parent" and self.max_drop is None:
            raise ValueError(f"the gate on {self.metric!r} has a 'from' without a max_drop")
        if self.metric in LESS_IS_BETTER and (self.min, self.max_drop, self.max_misses) != (None, None, None):
            raise ValueError(f"less of {self.metric!r} is better, and nothing of it is right or wrong: give max alone")
        if self.statistic == "confidence" and (self.max_drop, self.max_misses) != (None, None):
            raise ValueError(f"confidence in {self.metric!r} goes with min or max; give a drop or misses a bound apart")
        return self


class Policy(Record):
    """The bounds that a candidate is held against."""

    name: str = Field(min_length=1, description="as reports and reviews call it")
    gate: tuple[Bound, ...] = Field(min_length=1, description="all that is looked at")
    quorum: int = Field(default=1, ge=1, description="how many different reviewers have to approve")
    text: str = Field(exclude=True)

    @property
    def digest(self) -> str:
        """The sha256 of the policy's text."""
        return sha256_bytes(self.text.encode())


def shipped_policies() -> list[str]:
    """The names of the policies that come with the project."""
    return sorted(file.name.removesuffix(SUFFIX) for file in _SHIPPED.iterdir() if file.name.endswith(SUFFIX))


def read_policy(policy: str) -> Policy:
    """Read a policy.

    Args:
        policy: the name of a shipped one, or the path of a file that ends in .toml.

    Raises:
        PolicyError: it can't be read, or names what doesn't exist.
    """
    if not policy.endswith(SUFFIX) and policy not in shipped_policies():
        raise PolicyError(
            f"there is no policy {policy!r}; shipped are {', '.join(shipped_policies())}, and a file of your own ends "
            f"in {SUFFIX}. Without a policy nothing is let through"
        )
    try:
        file = Path(policy) if policy.endswith(SUFFIX) else _SHIPPED.joinpath(policy + SUFFIX)
        return policy_of(file.read_bytes(), name=policy)
    except OSError as error:
        raise PolicyError(
            f"the policy {policy} can't be read: {error}; without a policy nothing is let through"
        ) from error


def policy_of(content: bytes, *, name: str = "of the candidate") -> Policy:
    """Read a policy's text, as a file or the object store holds it.

    Raises:
        PolicyError: it is none, or names what doesn't exist.
    """
    try:
        text = content.decode()
        found = tomllib.loads(text)
        if "text" in found:
            raise PolicyError(f"the policy {name} is not valid: text: a policy has no such field")
        return Policy.model_validate(found | {"text": text})
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PolicyError(
            f"the policy {name} can't be read: {error}; without a policy nothing is let through"
        ) from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise PolicyError(f"the policy {name} is not valid: {problems}") from error


def policy_schema() -> dict[str, Any]:
    """The JSON schema of a policy's file, for editors and checkers."""
    schema = Policy.model_json_schema()
    del schema["properties"]["text"]
    schema["required"].remove("text")
    return schema


def in_words(bound: Bound) -> str:
    """Return what a bound asks for, in words."""
    words = (
        f"at least {bound.min:g}" if bound.min is not None else "",
        f"at most {bound.max:g}" if bound.max is not None else "",
        f"at most {bound.max_drop:g} below the {bound.drop_from}" if bound.max_drop is not None else "",
        f"at most {bound.max_misses} wrong" if bound.max_misses is not None else "",
    )
    asked = " and ".join(word for word in words if word)
    return (
        asked
        + {"estimate": "", "confidence": ", surely"}[bound.statistic]
        + ("" if bound.scope == "batch" else f", each {bound.scope}")
    )
