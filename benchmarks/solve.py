"""One site's solve for a batch of facts: C factorised once and kept, against a Cholesky of C + K^T K each time.

Both sides solve delta (w C + K^T K) = R^T K in float64 on the same tensors; the adjusted keys K (w C + K^T K)^-1 are
timed and compared, since R^T only multiplies them from the left on both sides. C is dense with a known spectrum, as
wide as that of SmolLM2-135M's layer 8: reflections turn a diagonal matrix, which needs no eigendecomposition.

    python -m benchmarks.solve [--d-in 8192] [--facts 100] [--repeats 2]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.table import Table

from editors.patch import LowRank
from editors.solving import FactorisedMoment, least_squares

RESULT = Path(__file__).parent / "results" / "solve.json"
GOAL = 20.0
AGREEMENT = 1e-8
CONDITION = 2.8e3
WEIGHT = 2000.0
D_OUT = 16

T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time one site's solve against a Cholesky of the whole system.")
    parser.add_argument("--d-in", type=int, default=8192)
    parser.add_argument("--facts", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    row = measure(d_in=arguments.d_in, facts=arguments.facts, repeats=arguments.repeats)
    Console().print(table_of(row))
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


def measure(*, d_in: int, facts: int, repeats: int) -> dict[str, object]:
    torch.manual_seed(0)
    moment, keys = moment_and_keys(d_in, facts)
    residuals = torch.randn(facts, D_OUT, dtype=torch.float64)
    weighted = WEIGHT * moment
    factorising, factorised = timed(lambda: FactorisedMoment.of(moment, ridge=0.0))
    ours, theirs = [], []
    for _ in range(repeats):  # in turn, so that a busy machine slows both
        seconds, delta = timed(lambda: factorised.least_squares(keys, residuals, weight=WEIGHT))
        ours.append(seconds)
        seconds, reference = timed(lambda: least_squares(keys, residuals, second_moment=weighted))
        theirs.append(seconds)
    error = relative_error(delta, reference)
    return {
        "what": f"solve for {facts} facts at d_in {d_in}",
        "goal": GOAL,
        "reached": min(theirs) / min(ours),  # what disturbs a run only adds to it
        "seconds": {"kept factor": ours, "Cholesky each time": theirs, "factorising C, once": factorising},
        "relative error": error,
        "agrees": error < AGREEMENT,
        "setting": {
            "facts": facts,
            "d_in": d_in,
            "condition of C": CONDITION,
            "weight": WEIGHT,
            "dtype": "float64",
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
    }


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


def timed(do: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = do()
    return time.perf_counter() - start, result


def table_of(row: dict) -> Table:
    table = Table("what", "goal", "reached", "same answer", "setting", title="solve")
    seconds, setting = row["seconds"], row["setting"]
    fast, slow = (min(seconds[name]) for name in ("kept factor", "Cholesky each time"))
    table.add_row(
        row["what"],
        f">= {row['goal']:.0f} x",
        f"{row['reached']:.1f} x ({fast:.2f} s against {slow:.2f} s; factorising C once: "
        f"{seconds['factorising C, once']:.1f} s)",
        f"relative error {row['relative error']:.1e}, condition of C {setting['condition of C']:.0e}",
        f"float64, {setting['threads']} thread(s), torch {setting['torch']}",
    )
    return table


if __name__ == "__main__":
    main()
