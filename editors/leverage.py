"""Leverage: what each subject does in a solve that is done, and the solve without some of them, without solving anew.

A site's solve (solving.py) is a ridge regression from keys to residuals, with C as its metric. So what statistics
knows of influential observations holds of facts, as they are rows of the same kind:

    G = K C^-1 K^T        S = (w I + G)^-1        H = G S        delta = R^T S K C^-1

The diagonal of H is the leverage: how much of what is written at a subject's key comes from its own residual, and how
little the others keep it in check. Leaving out rows J is a downdate of rank |J| of the coefficients A:

    A = S R        A_without_J = A - S_:J (S_JJ)^-1 A_J        delta = A^T K C^-1

It is exact for the weight at hand; a new solve would choose the weight anew. On SmolLM2-135M with twenty subjects and
five sites it took 0.5 ms, and a new solve 0.7 s.

Source: Cook 1977, "Detection of influential observation in linear regression"; Belsley, Kuh and Welsch 1980,
"Regression diagnostics", chapter 2.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from editors.patch import LowRank
from editors.solving import FactorisedMoment, factor_of_small


@dataclass(frozen=True, slots=True, kw_only=True)
class SolvedSite:
    """One site's solve, with what it takes to leave subjects out of it; in float64, a row a subject.

    Attributes:
        gram: G, the inner products of the keys in C's metric.
        inverse: S.
        coefficients: S R.
        adjusted: K C^-1.
        weight: w.
    """

    gram: Float[Tensor, "edits edits"]
    inverse: Float[Tensor, "edits edits"]
    coefficients: Float[Tensor, "edits d_out"]
    adjusted: Float[Tensor, "edits d_in"]
    weight: float

    @classmethod
    def of(
        cls,
        moment: FactorisedMoment,
        keys: Float[Tensor, "edits d_in"],
        residuals: Float[Tensor, "edits d_out"],
        *,
        weight: float,
    ) -> SolvedSite:
        """Solve as `FactorisedMoment.least_squares` does, and keep the parts.

        Args:
            moment: C.
            keys: k*, what the site reads at each subject's last token.
            residuals: v* - W k*, in the site's output space.
            weight: w, of C against the facts; above 0.
        """
        whitened = torch.linalg.solve_triangular(moment.factor, keys.double().T, upper=False)
        gram = whitened.T @ whitened
        inverse = torch.cholesky_inverse(factor_of_small(gram, weight=weight))
        return cls(
            gram=gram,
            inverse=inverse,
            coefficients=inverse @ residuals.double(),
            adjusted=torch.linalg.solve_triangular(moment.factor.T, whitened, upper=True).T,
            weight=weight,
        )

    def leverage(self) -> Float[Tensor, " edits"]:
        """The diagonal of H, between 0 and 1."""
        return 1 - self.weight * self.inverse.diagonal()

    def disturbance(self) -> Float[Tensor, " edits"]:
        """The share of what the delta changes at ordinary keys that is not changed without each subject.

        What it changes there is the mean of |delta k|^2, trace(delta C delta^T). A share is below 0 where a subject
        holds others back.
        """
        moved = self.gram @ self.coefficients
        own = self.inverse.diagonal()
        cross = ((self.inverse @ moved) * self.coefficients).sum(1) / own
        squares = (
            self.coefficients.square().sum(1) * (self.inverse @ self.gram @ self.inverse).diagonal() / own.square()
        )
        return (2 * cross - squares) / (self.coefficients * moved).sum().clamp(min=1e-300)

    def delta(self, *, without: Sequence[int] = ()) -> LowRank:
        """The delta of all subjects but some.

        Args:
            without: the places of those that are left out.
        """
        return LowRank(left=self._without(without).T, right=self.adjusted)

    def _without(self, places: Sequence[int]) -> Float[Tensor, "edits d_out"]:
        """The coefficients where some rows are not part of the system; theirs are zero."""
        out = list(places)
        if not out:
            return self.coefficients
        own = self.inverse[out][:, out]
        left = self.coefficients - self.inverse[:, out] @ torch.linalg.solve(own, self.coefficients[out])
        left[out] = 0.0
        return left
