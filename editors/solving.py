"""The solve behind every closed-form editor: the smallest disturbance that writes residuals at keys."""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from editors.errors import SingularSystemError
from editors.patch import LowRank


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
    factor = _factorised(c + k.T @ k, what=f"C + K^T K of {len(k)} facts")
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
    adjusted = torch.cholesky_solve(k.T, _factorised(second_moment.double(), what="C")).T
    return adjusted / (adjusted * k).sum(dim=1, keepdim=True)


def _factorised(matrix: Float[Tensor, "d_in d_in"], *, what: str) -> Float[Tensor, "d_in d_in"]:
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        raise SingularSystemError(
            f"{what}, in {len(matrix)} dimensions, is not positive definite at row {int(failed)}; "
            f"take second moments over more tokens (ten for each dimension: {10 * len(matrix)})"
        )
    return factor
