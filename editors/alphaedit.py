"""AlphaEdit: many facts in one solve, spread over layers, in directions that ordinary text hardly uses.

As in MEMIT, each subject's value is optimised at the last layer of a range and written from the first layer on. But
the delta is confined to the null space of C: the smallest eigenvectors that together hold a small share of its trace.
With one fact per row of K and R, P the projector onto them and Z = K P:

    delta = R^T Z (Z^T Z + l2 I)^-1

so that ordinary keys are protected by where the delta may lie, and not by a weight of C against the facts. The paper's
null space is all eigenvalues below 1e-2, the published code's below 2e-2. What that means depends on the scale of a
model's keys: in SmolLM2-135M it marks 62-74 % of the directions of layers 4-8, which hold 17-35 % of the trace. A share
means the same everywhere: the part of an ordinary key's squared length that a delta can see. The paper's term for the
keys of earlier edits is not needed where all facts are solved in one batch on the base.

Source: Fang et al. 2025, AlphaEdit: Null-Space Constrained Knowledge Editing, arXiv:2410.02355, equation 14.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.decoding import Progress
from editors.errors import InvalidConfigError, NonFiniteError
from editors.facts import Fact
from editors.layouts import check_layers, sites_of
from editors.material import Material
from editors.patch import LowRank, Patch
from editors.ranges import above_zero, ascending
from editors.spreading import spread_values
from editors.values import ValueSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class AlphaEdit:
    """AlphaEdit's settings; l2 is the published code's, where the paper's equation has 1.

    With three facts of examples/corrections.jsonl, SmolLM2-135M said all three for shares of 0.1 and 0.3 and every l2
    of 0.1, 1 and 10; a share of 0.1 left the neighbours' answers likeliest. At 0.02, a third of that space, an l2 of
    10 under-edits (two of three).

    Attributes:
        layers: whose sites are written, in ascending order; values are optimised at the last.
        null_share: of the trace of C, that the null space may hold.
        l2: against the facts, in squared lengths of projected keys: higher changes less and edits less.
        contexts: how many context templates to sample, the bare one included.
        values: how values are optimised.
    """

    layers: tuple[int, ...] = (4, 5, 6, 7, 8)
    null_share: float = 0.1
    l2: float = 10.0
    contexts: int = 3
    values: ValueSettings = field(default_factory=ValueSettings)

    def __post_init__(self) -> None:
        ascending(self.layers)
        above_zero(self, "null_share", "l2", "contexts")
        if self.null_share > 1:
            raise InvalidConfigError(f"null_share is {self.null_share}; it is a share of the trace, at most 1")


def edit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    facts: Sequence[Fact],
    *,
    config: AlphaEdit,
    material: Material,
    progress: Progress | None = None,
) -> Patch:
    """Return the patch that makes a model say all facts; the model itself stays as it is.

    Args:
        model: the base, frozen.
        tokenizer: its own.
        facts: all that shall hold, solved in one batch; none give the empty patch.
        config: AlphaEdit's settings.
        material: of the base: its digest, second moments and contexts.
        progress: told of subjects and of layers.

    Raises:
        InvalidFactError: a subject cannot be found, or two facts contradict each other.
        InvalidConfigError: second moments of a site are missing, the null space is empty, or the last layer is among
            the config's.
        UnknownLayoutError: the architecture has no entry in layouts.py.
        NonFiniteError: weights, moments, a loss or the result hold NaN or infinity.
        UneditedError: no weight would change though a fact asks for it.
    """
    check_layers(model, config.layers)
    moments = {site: material.moment(site) for site in sites_of(model, config.layers)}

    def solve(site: str, keys: Float[Tensor, "edits d_in"], residuals: Float[Tensor, "edits d_out"]) -> LowRank:
        return confined(keys, residuals, basis=null_space(moments[site], share=config.null_share), l2=config.l2)

    return spread_values(
        model,
        tokenizer,
        facts,
        layers=config.layers,
        values=config.values,
        material=material,
        solve=solve,
        progress=progress,
    )


def null_space(second_moment: Float[Tensor, "d_in d_in"], *, share: float) -> Float[Tensor, "d_in null"]:
    """Return the smallest eigenvectors of C that together hold at most a share of its trace, in float64.

    Args:
        second_moment: C; symmetric positive semidefinite.
        share: of the trace, above 0.

    Raises:
        NonFiniteError: C holds NaN or infinity.
        InvalidConfigError: the smallest eigenvector alone holds more.
    """
    if not bool(torch.isfinite(second_moment).all()):
        raise NonFiniteError("C")
    eigenvalues, eigenvectors = torch.linalg.eigh(second_moment.double())
    held = eigenvalues.clamp(min=0).cumsum(0) / eigenvalues.clamp(min=0).sum()
    size = int((held <= share).sum())
    if size == 0:
        raise InvalidConfigError(
            f"null_share is {share}, and the smallest of {len(held)} eigenvectors holds {float(held[0]):.2e}; raise it"
        )
    return eigenvectors[:, :size]


def confined(
    keys: Float[Tensor, "edits d_in"],
    residuals: Float[Tensor, "edits d_out"],
    *,
    basis: Float[Tensor, "d_in null"],
    l2: float,
) -> LowRank:
    """Delta within the span of a basis that best writes each residual at its key, in float64.

    In coordinates of the basis, Z = K B, it is R^T Z (Z^T Z + l2 I)^-1 B^T = R^T (Z Z^T + l2 I)^-1 Z B^T: the smaller
    of the two systems is solved.

    Args:
        keys: k*, what the site reads at each subject's last token.
        residuals: v* - W k*, in the site's output space.
        basis: orthonormal columns.
        l2: of the delta's squared length against the facts, above 0; it makes both systems positive definite.

    Raises:
        NonFiniteError: keys hold NaN or infinity.
    """
    b = basis.double()
    z = keys.double() @ b
    few = len(z) <= z.shape[1]
    gram = z @ z.T if few else z.T @ z
    factor, failed = torch.linalg.cholesky_ex(gram + l2 * torch.eye(len(gram), dtype=gram.dtype))
    if int(failed):
        raise NonFiniteError("what a site reads at the subjects")
    adjusted = torch.cholesky_solve(z, factor) if few else torch.cholesky_solve(z.T, factor).T
    return LowRank(left=residuals.double().T, right=adjusted @ b.T)
