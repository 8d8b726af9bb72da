"""One site's solve for a batch of facts: C factorised once and kept, against a Cholesky of C + K^T K each time.

Both sides solve delta (w C + K^T K) = R^T K in float64 on the same tensors; the adjusted keys K (w C + K^T K)^-1 are
timed and compared, since R^T only multiplies them from the left on both sides. C is dense with a known spectrum, as
wide as that of SmolLM2-135M's layer 8: reflections turn a diagonal matrix, which needs no eigendecomposition.

    python -m benchmarks.solve [--d-in 8192] [--facts 100] [--repeats 2]
"""

from __future__ import annotations

import sys

import torch

from benchmarks.ground import options, timed
from benchmarks.outcome import Outcome, conclude
from editors.patch import LowRank
from editors.solving import FactorisedMoment, least_squares

GOAL = 20.0
AGREEMENT = 1e-8
CONDITION = 2.8e3
WEIGHT = 2000.0
D_OUT = 16


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--d-in", type=int, default=8192, help="of the site")
    parser.add_argument("--facts", type=int, default=100, help="that are solved for")
    parser.add_argument("--repeats", type=int, default=2, help="of each side, in turn; the fastest counts")
    told = parser.parse_args()
    torch.manual_seed(0)
    moment, keys = moment_and_keys(told.d_in, told.facts)
    residuals = torch.randn(told.facts, D_OUT, dtype=torch.float64)
    weighted = WEIGHT * moment
    factorising, factorised = timed(lambda: FactorisedMoment.of(moment, ridge=0.0))
    sides = [  # in turn, so that a busy machine slows both
        (
            timed(lambda: factorised.least_squares(keys, residuals, weight=WEIGHT)),
            timed(lambda: least_squares(keys, residuals, second_moment=weighted)),
        )
        for _ in range(told.repeats)
    ]
    ours, theirs = ([seconds for seconds, _ in side] for side in zip(*sides, strict=True))
    reached = min(theirs) / min(ours)  # what disturbs a run only adds to it
    error = relative_error(*(delta for _, delta in sides[-1]))
    outcome = Outcome(
        what=f"solve for {told.facts} facts at d_in {told.d_in}, C factorised once, against a Cholesky each time",
        goal=f">= {GOAL:.0f} x faster, relative error < {AGREEMENT:.0e}",
        reached=f"{reached:.1f} x ({min(ours):.2f} s against {min(theirs):.2f} s), relative error {error:.0e}",
        met=reached >= GOAL and error < AGREEMENT,
        setting=f"float64, condition of C {CONDITION:.0e}, factorising C took {factorising:.1f} s once",
    )
    figures = {
        "reached": reached,
        "seconds": {"kept factor": ours, "Cholesky each time": theirs, "factorising C, once": factorising},
        "relative error": error,
        "facts": told.facts,
        "d_in": told.d_in,
        "condition of C": CONDITION,
        "weight": WEIGHT,
    }
    conclude("solve", [outcome], figures=figures, device=moment.device, folder=told.results)


def moment_and_keys(d_in: int, facts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A dense C with eigenvalues from 1 down to 1 / CONDITION, and keys of that distribution."""
    eigenvalues = torch.logspace(0, -torch.tensor(CONDITION).log10().item(), d_in, dtype=torch.float64)
    moment, keys = eigenvalues.diag(), torch.randn(facts, d_in, dtype=torch.float64) * eigenvalues.sqrt()
    for _ in range(2):
        axis = torch.nn.functional.normalize(torch.randn(d_in, dtype=torch.float64), dim=0)
        keys.sub_(2 * torch.outer(keys @ axis, axis))
        moment.sub_(2 * torch.outer(moment @ axis, axis))
        moment.sub_(2 * torch.outer(axis, axis @ moment))
    return (moment + moment.T) / 2, keys


def relative_error(delta: LowRank, reference: LowRank) -> float:
    return float((delta.right - reference.right).norm() / reference.right.norm())


if __name__ == "__main__":
    sys.exit(main())
