"""Average traces: what a fact's tokens do in their roles, over many facts and with intervals.

Prompts differ in length, so tokens are compared by the role that they play. Each has one; where two apply, the later
one in ROLES: a one-token subject is its own last token, and what ends a prompt is its last token whatever else it is.
A fact counts once for each role that it has, with the mean over the traced tokens in that role; to trace one of each
is enough, and costs 0.56 of all on 50 prompts. Facts are resampled whole: the tokens of one prompt hang together.

Source: Meng et al. 2022 (ROME), section 2.2 and figure 2, arXiv:2202.05262; the intervals are bootstrapped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from editors.errors import InvalidConfigError
from editors.intervals import ENDS, resamples, times_drawn
from editors.restoring import KINDS
from editors.tracing import Trace

ROLES = ("first subject token", "middle", "last subject token", "first token after", "further", "last token")

_RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleEffects:
    """Mean indirect effects of one kind, NaN where no fact has a token in a role, and their 95 % intervals."""

    mean: Float[Tensor, "roles layers"]
    low: Float[Tensor, "roles layers"]
    high: Float[Tensor, "roles layers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AverageTrace:
    """What some facts' traces have in common.

    Attributes:
        facts: how many.
        counts: facts that have a token in each role.
        clean: mean probability of the answers in the clean runs.
        corrupted: the same in the corrupted runs.
        noise: standard deviation of what was added to the embeddings.
        window: layers over which MLP and attention outputs were put back.
        layers: around which something was put back.
        effects: of each kind.
    """

    facts: int
    counts: tuple[int, ...]
    clean: float
    corrupted: float
    noise: float
    window: int
    layers: range
    effects: Mapping[str, RoleEffects]


def roles_of(subject: range, length: int) -> list[int]:
    """Return the place in ROLES of each token of a prompt from its subject's first on."""
    roles = [1 if token in subject else 4 for token in range(subject.start, length)]
    after = len(subject)
    roles[0] = 0
    roles[after - 1] = 2
    if after < len(roles):
        roles[after] = 3
    roles[-1] = 5
    return roles


def one_of_each(subject: range, length: int) -> list[int]:
    """Return one token of a prompt for each role that it has, the middle one where there are several."""
    having: dict[int, list[int]] = {}
    for token, role in enumerate(roles_of(subject, length), start=subject.start):
        having.setdefault(role, []).append(token)
    return sorted(tokens[len(tokens) // 2] for tokens in having.values())


def average(traces: Sequence[Trace], *, seed: int = 0) -> AverageTrace:
    """Return the mean effects by role and layer, over facts.

    Args:
        traces: of one model, with the same settings.
        seed: of the bootstrap's draws.

    Raises:
        InvalidConfigError: there are none.
    """
    if not traces:
        raise InvalidConfigError("there is no trace to average; the model knows none of the facts, so give others")
    per_fact = {kind: torch.stack([by_role(trace, kind) for trace in traces]) for kind in KINDS}
    drawn = times_drawn(resamples(len(traces), draws=_RESAMPLES, seed=seed))
    return AverageTrace(
        facts=len(traces),
        counts=tuple(int(count) for count in (~per_fact["hidden"][:, :, 0].isnan()).sum(0)),
        clean=sum(trace.clean for trace in traces) / len(traces),
        corrupted=sum(trace.corrupted for trace in traces) / len(traces),
        noise=traces[0].noise,
        window=traces[0].window,
        layers=traces[0].layers,
        effects={kind: _with_interval(values, drawn) for kind, values in per_fact.items()},
    )


def by_role(trace: Trace, kind: str) -> Float[Tensor, "roles layers"]:
    """Return a trace's mean effects over the traced tokens in each role, NaN where there are none."""
    effects = trace.effects[kind][:, trace.subject.start :].T.double()
    role = torch.tensor(roles_of(trace.subject, len(trace.tokens)))
    return torch.stack([effects[role == place].nanmean(0) for place in range(len(ROLES))])


def _with_interval(values: Float[Tensor, "facts roles layers"], drawn: Float[Tensor, "resamples facts"]) -> RoleEffects:
    present = (~values.isnan()).double()
    totals = torch.einsum("rf,fml->rml", drawn, values.nan_to_num())
    means = totals / torch.einsum("rf,fml->rml", drawn, present)  # NaN where a resample has no fact with the role
    low, high = means.nanquantile(torch.tensor(ENDS, dtype=torch.float64), dim=0)
    return RoleEffects(mean=values.nanmean(0), low=low, high=high)
