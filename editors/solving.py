"""The solve behind every closed-form editor: the smallest disturbance that writes residuals at keys, in float64.

    delta (w C + K^T K) = R^T K        one fact a row of K and R

`least_squares` solves it as it stands, d_in x d_in. But C belongs to the base and to no fact: it can be factorised once
and kept, for all batches and weights. Then a system as large as there are facts is enough (`FactorisedMoment`).
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from editors.errors import SingularSystemError
from editors.patch import LowRank

RIDGE = 1e-6
"""Of C's mean eigenvalue. The smallest eigenvalue of C was 0.05 to 0.07 of the mean in layers 4-8 of SmolLM2-135M
(10,000 sampled tokens, d_in 1,536), so this moves a sound C by 2e-5 in its weakest direction; and where the tokens did
not fill all dimensions, the condition stays near 1e8 (the largest eigenvalue was up to 146 means): half of float64's
digits are left."""

_BISECTIONS = 60
_RANK = 1e-9  # of the largest eigenvalue: below it a direction counts as not there


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorisedMoment:
    """C of one site without a weight, plus a ridge, as the product of a triangular factor with its transpose.

    Attributes:
        factor: lower triangular, in float64.
    """

    factor: Float[Tensor, "d_in d_in"]

    @classmethod
    def of(cls, moment: Float[Tensor, "d_in d_in"], *, ridge: float = RIDGE) -> FactorisedMoment:
        """Factorise second moments.

        Args:
            moment: C, symmetric and positive semidefinite.
            ridge: what is added to C's diagonal, as a share of the mean eigenvalue, trace(C) / d_in.

        Raises:
            SingularSystemError: even so it cannot be factorised.
        """
        damped = moment.to(torch.float64, copy=True)
        damped.diagonal().add_(ridge * damped.diagonal().mean())
        return cls(factor=_cholesky(damped, name="C", remedy=_more_tokens(len(damped))))

    def least_squares(
        self, keys: Float[Tensor, "edits d_in"], residuals: Float[Tensor, "edits d_out"], *, weight: float
    ) -> LowRank:
        """Delta that best writes each residual at its key while disturbing other keys least.

        With fewer facts than d_in, by Woodbury's identity, which costs two triangular solves and an N x N system:

            delta = R^T (w I + K C^-1 K^T)^-1 K C^-1

        Args:
            keys: k*, what the site reads at each subject's last token.
            residuals: v* - W k*, in the site's output space.
            weight: w, of C against the facts; above 0.

        Raises:
            SingularSystemError: the system cannot be factorised.

        Source: Meng et al. 2023 (MEMIT), section 4.2, arXiv:2210.07229, for the system that it solves.
        """
        k, r = keys.double(), residuals.double()
        if len(k) >= k.shape[1]:
            return least_squares(k, r, second_moment=weight * (self.factor @ self.factor.T))
        whitened = self._whitened(k)
        small = factor_of_small(whitened.T @ whitened, weight=weight)
        solved = torch.cholesky_solve(whitened.T, small)
        return LowRank(left=r.T, right=torch.linalg.solve_triangular(self.factor.T, solved.T, upper=True).T)

    def weight_for(
        self, keys: Float[Tensor, "edits d_in"], residuals: Float[Tensor, "edits d_out"], *, fit: float
    ) -> float:
        """The largest weight of C with which `least_squares` still writes a share of the residuals.

        What a delta writes at the keys of the residuals, by the eigenpairs (l, u) of K C^-1 K^T, for every weight w:

            share(w) = sum_i l_i / (w + l_i) |u_i^T R|^2 / |R|^2

        Where keys coincide, or there are more of them than dimensions, no weight writes everything; the fit is then
        asked of what can be written.

        Args:
            keys: k*, what the site reads at each subject's last token.
            residuals: v* - W k*, in the site's output space; not all zero.
            fit: the share that has to be written of what can be, between 0 and 1.
        """
        whitened = self._whitened(keys.double())
        values, vectors = torch.linalg.eigh(whitened.T @ whitened)
        parts = (vectors.T @ residuals.double()).square().sum(1)
        parts = parts.where(values > _RANK * values.max(), 0.0)
        low, high = -30.0, 30.0  # of the weight's natural logarithm
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            written = float((values / (math.exp(middle) + values) * parts).sum() / parts.sum())
            low, high = (middle, high) if written >= fit else (low, middle)
        return math.exp(low)

    def _whitened(self, keys: Float[Tensor, "edits d_in"]) -> Float[Tensor, "d_in edits"]:
        """L^-1 k of each key, where C = L L^T; their inner products are K C^-1 K^T."""
        return torch.linalg.solve_triangular(self.factor, keys.T, upper=False)


def least_squares(
    keys: Float[Tensor, "edits d_in"],
    residuals: Float[Tensor, "edits d_out"],
    *,
    second_moment: Float[Tensor, "d_in d_in"],
) -> LowRank:
    """Delta that best writes each residual at its key while disturbing other keys least.

    Solves delta (C + K^T K) = R^T K in float64, one fact per row of K and R. The delta is R^T times the adjusted
    keys K (C + K^T K)^-1, and is returned as these two factors.

    Args:
        keys: k*, what the site reads at each subject's last token.
        residuals: v* - W k*, in the site's output space.
        second_moment: C, already scaled by its weight; symmetric positive definite.

    Raises:
        SingularSystemError: C + K^T K cannot be factorised.

    Source: Meng et al. 2023 (MEMIT), section 4.2, arXiv:2210.07229.
    """
    k, r, c = keys.double(), residuals.double(), second_moment.double()
    factor = _cholesky(c + k.T @ k, name=f"C + K^T K of {len(k)} facts", remedy=_more_tokens(k.shape[1]))
    return LowRank(left=r.T, right=torch.cholesky_solve(k.T, factor).T)


def directions(
    keys: Float[Tensor, "edits d_in"], *, second_moment: Float[Tensor, "d_in d_in"]
) -> Float[Tensor, "edits d_in"]:
    """The direction to write in at each key alone: of all u with u k = 1, the one that ordinary keys see least.

    u = C^-1 k / (k^T C^-1 k) in float64, one key per row.

    Args:
        keys: k*, what the site reads at each subject's last token.
        second_moment: C; symmetric positive definite.

    Raises:
        SingularSystemError: C cannot be factorised.

    Source: Meng et al. 2022 (ROME), section 3.1, arXiv:2202.05262.
    """
    k = keys.double()
    adjusted = torch.cholesky_solve(k.T, _cholesky(second_moment.double(), name="C", remedy=_more_tokens(k.shape[1]))).T
    return adjusted / (adjusted * k).sum(dim=1, keepdim=True)


def factor_of_small(gram: Float[Tensor, "edits edits"], *, weight: float) -> Float[Tensor, "edits edits"]:
    """Return the Cholesky factor of w I + G, with G = K C^-1 K^T.

    Raises:
        SingularSystemError: there is none.
    """
    return _cholesky(
        gram + weight * torch.eye(len(gram), dtype=gram.dtype, device=gram.device),
        name=f"w I + K C^-1 K^T with weight {weight:g}",
        remedy="weight the second moments higher, or leave out facts whose keys coincide",
    )


def _cholesky(matrix: Float[Tensor, "size size"], *, name: str, remedy: str) -> Float[Tensor, "size size"]:
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        raise SingularSystemError(
            f"{name} ({len(matrix)} rows) is not positive definite at row {int(failed)}; {remedy}"
        )
    return factor


def _more_tokens(dimensions: int) -> str:
    return f"take second moments over more tokens (ten for each dimension: {10 * dimensions})"
