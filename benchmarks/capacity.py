"""Capacity: how many facts one batch carries, with `joint`.

Sizes are nested, the first records of the data, each edited into the base at once; values are kept as they are
optimised, so that a larger size optimises what a smaller one lacks, and an interrupted run goes on. The same records
are asked about at each size, the first ones, as far as they are in.

    python -m benchmarks.capacity [--facts 10 50 100 200 500 1000] [--asked 50] [--data FILE ...] [--model FOLDER]
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.ground import (
    COUNTERFACT,
    COUNTERFACT_SIMPLE,
    base_of,
    cache,
    free_of_contradictions,
    named,
    options,
    told_with_bars,
)
from benchmarks.outcome import Outcome, conclude
from benchmarks.stored_values import StoredValues
from editors.benchmark import EVALUATION, Plan
from editors.joint import Joint
from tasks.benchmark import draw, percent


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, nargs="+", default=[COUNTERFACT, COUNTERFACT_SIMPLE], help="records")
    parser.add_argument("--facts", type=int, nargs="+", default=[10, 50, 100, 200, 500, 1000], help="the sizes")
    parser.add_argument("--asked", type=int, default=50, help="ask about the first so many records")
    told = parser.parse_args()
    sizes = sorted(told.facts)
    records = tuple(free_of_contradictions(told.data, count=sizes[-1]))
    plan = Plan(records=records, ends=(0, *sizes), asked=tuple(range(min(told.asked, len(records)))), left_out=())
    config = Joint()
    with told_with_bars() as progress:
        base = base_of(told.model, config, progress=progress)
        stored = StoredValues(cache() / "values", base, config)
        facts = [record.fact for record in records]
        values, costs = {}, []
        for size in sizes:
            values |= stored.of(facts[:size], progress=progress)
            costs.append(stored.cost(facts[:size]))
        report = base.run(plan, config, values=values, progress=progress)
    names = " and ".join(file.name for file in told.data)
    outcomes, points = [], []
    for each, cost in zip(report.rounds, costs, strict=True):
        solving = sum(seconds for stage, seconds in each.seconds.items() if stage != EVALUATION)
        points.append({"round": asdict(each), "seconds of the values": cost.seconds, "peak": cost.peak})
        outcomes.append(
            Outcome(
                what=f"capacity: {each.facts:,} facts in one batch",
                goal="shown",
                reached=f"score {percent(each, 'logprob'):.1f} (argmax {percent(each, 'argmax'):.1f}, generation "
                f"{percent(each, 'generation'):.1f}), KL {each.drift.median:.4f} nats, perplexity "
                f"{each.text.value:.2f} (unedited {report.unedited.value:.2f}), "
                f"{(cost.seconds + solving) / each.facts:.2f} s a fact, {cost.peak / 2**30:.1f} GiB at most",
                met=True,
                setting=f"{base.recipe.base[:12]}, joint with its defaults, the first records of {names}, "
                f"{each.asked} of them asked about",
            )
        )
    figures = {"points": points, "unedited perplexity": report.unedited.value, "data": named(told.data)}
    conclude("capacity", outcomes, figures=figures, device=base.model.device, folder=told.results)
    draw({"joint, one batch": report}, title=f"joint on {names}").savefig(told.results / "capacity.png", dpi=120)


if __name__ == "__main__":
    sys.exit(main())
