"""A late round: ten new facts on a thousand active ones, with `joint`.

The new facts are real, and their values are optimised. The active ones are stored, so a round never asks how they came
to be; here they are synthetic: keys drawn with each site's own second moments, injections of random direction and of
the new ones' length. What is timed is the solve for all of them, from tensors in memory to the patch and its digest.

    python -m benchmarks.late_round [--active 1000] [--new 10] [--data FILE] [--model FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from benchmarks.ground import COUNTERFACT, base_of, free_of_contradictions, named, options, timed, told_with_bars
from benchmarks.outcome import Outcome, conclude
from editors.batch import by_subject
from editors.joint import Joint, Value, solve, values_of
from editors.layouts import sites_of

GOAL = 0.02  # seconds of the solve per active fact


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, default=COUNTERFACT, help="CounterFact records")
    parser.add_argument("--active", type=int, default=1000, help="facts that are active already")
    parser.add_argument("--new", type=int, default=10, help="facts that come in")
    told = parser.parse_args()
    subjects = by_subject([record.fact for record in free_of_contradictions([told.data], count=told.new)])
    config = Joint()
    with told_with_bars() as progress:
        base = base_of(told.model, config, progress=progress)
        material = base.prepared.material
        optimising, new = timed(
            lambda: values_of(base.model, base.tokenizer, subjects, config=config, material=material, progress=progress)
        )
    moments = [material.moment(site) for site in sites_of(base.model, config.layers)]
    values = synthetic_values(told.active, moments, like=list(new.values())) | new
    solving, digest = timed(lambda: solve(base.model, values, config=config, material=material).digest)
    outcome = Outcome(
        what=f"a round of {told.new} new facts on {told.active:,} active",
        goal=f"new values + <= {GOAL} s per active fact",
        reached=f"{optimising:.1f} s for the new values + {solving / told.active:.4f} s per active fact "
        f"({solving:.1f} s in all)",
        met=solving / told.active <= GOAL,
        setting=f"{base.recipe.base[:12]}, layers {list(config.layers)}, real new facts, synthetic active ones of the "
        "same shapes: keys drawn with the sites' second moments, injections of the new ones' length",
    )
    figures = {
        "seconds": {"values of the new facts": optimising, "solve for all": solving},
        "active": told.active,
        "new": told.new,
        "patch": digest,
        "data": named([told.data]),
    }
    conclude("late_round", [outcome], figures=figures, device=base.model.device, folder=told.results)


def synthetic_values(count: int, moments: list[torch.Tensor], *, like: list[Value]) -> dict[str, Value]:
    """Return values whose keys a site reads as often as its moments say; they belong to no subject of anyone."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.stack([torch.linalg.cholesky(moment.double()) for moment in moments])
    lengths = torch.stack([value.injections for value in like]).norm(dim=-1).mean(0)
    values: dict[str, Value] = {}
    for number in range(count):
        drawn = torch.randn(len(factors), factors.shape[1], 1, generator=generator, dtype=torch.float64)
        direction = torch.randn(like[0].injections.shape, generator=generator, dtype=torch.float64)
        values[f"synthetic {number}"] = Value(
            keys=(factors @ drawn)[..., 0],
            injections=lengths[:, None] * torch.nn.functional.normalize(direction, dim=-1),
        )
    return values


if __name__ == "__main__":
    sys.exit(main())
