"""A late round: ten new facts on a thousand active ones, with `joint`, beside the same facts from nothing.

The active facts' values are kept before the round, as an earlier round has left them; the round reads them, optimises
the new ones alone, and solves for all. From nothing, every value is optimised. Values of one step keep the benchmark
short: what a round does beside the new values does not depend on how long the others once took, and with more steps the
ratio only grows. An interrupted run goes on with the values that it kept.

    python -m benchmarks.late_round [--active 1000] [--new 10] [--steps 1] [--data FILE ...] [--model FOLDER]
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import torch

from benchmarks.ground import (
    COUNTERFACT,
    COUNTERFACT_SIMPLE,
    base_of,
    cache,
    free_of_contradictions,
    named,
    options,
    timed,
    told_with_bars,
)
from benchmarks.outcome import Outcome, conclude
from benchmarks.stored_values import Facts, StoredValues
from editors.joint import Joint, Value, solve
from editors.values import ValueSettings
from tasks.benchmark import PreparedBase

GOAL = 0.02  # seconds of a round per active fact, beside the new values


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, nargs="+", default=[COUNTERFACT, COUNTERFACT_SIMPLE], help="records")
    parser.add_argument("--active", type=int, default=1000, help="facts that are active already")
    parser.add_argument("--new", type=int, default=10, help="facts that come in")
    parser.add_argument("--steps", type=int, default=1, help="of the optimisation, at most")
    told = parser.parse_args()
    facts = [record.fact for record in free_of_contradictions(told.data, count=told.active + told.new)]
    active = facts[: told.active]
    config = Joint(values=dataclasses.replace(ValueSettings(), steps=told.steps))
    with told_with_bars() as progress:
        base = base_of(told.model, config, progress=progress)
        stored = StoredValues(cache() / "values", base, config)
        stored.of(active, progress=progress)
        before = stored.count(facts)
        both, _ = timed(lambda: stored.of(facts, progress=progress))
        computed = stored.count(facts) - before
        reading, values = timed(lambda: stored.of(facts, progress=progress))
    solving, digest = timed(lambda: solved(base, config, values))
    others = [solved(base, config, shuffled(values, seed)) for seed in (1, 2)]
    optimising, rest, subjects = both - reading, reading + solving, len(values)
    nothing = stored.cost(facts).seconds + solving
    outcome = Outcome(
        what=f"a round of {told.new} new facts on {told.active:,} active",
        goal=f"new values + <= {GOAL} s per active fact; the same digest in any order",
        reached=f"{computed} values computed of {subjects:,}: {optimising:.1f} s for them + {rest / told.active:.4f} s "
        f"per active fact ({reading:.1f} s to read, {solving:.1f} s to solve); from nothing {nothing:.0f} s, "
        f"{nothing / (optimising + rest):.0f} x; {'the same' if set(others) == {digest} else 'another'} digest in "
        "other orders",
        met=rest / told.active <= GOAL and set(others) == {digest} and 0 < computed <= told.new,
        setting=f"{base.recipe.base[:12]}, layers {list(config.layers)}, {told.steps} step(s) a value",
    )
    figures = {
        "seconds": {"new values": optimising, "reading all": reading, "solve for all": solving, "nothing": nothing},
        "values computed": computed,
        "active": told.active,
        "new": told.new,
        "patch": digest,
        "data": named(told.data),
    }
    conclude("late_round", [outcome], figures=figures, device=base.model.device, folder=told.results)


def solved(base: PreparedBase, config: Joint, values: dict[Facts, Value]) -> str:
    """Return the digest of the patch that some values give."""
    by_name = {facts[0].subject: value for facts, value in values.items()}
    return solve(base.model, by_name, config=config, material=base.prepared.material).digest


def shuffled(values: dict[Facts, Value], seed: int) -> dict[Facts, Value]:
    """Return the values in another order of arrival."""
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed)).tolist()
    facts = list(values)
    return {facts[place]: values[facts[place]] for place in order}


if __name__ == "__main__":
    sys.exit(main())
