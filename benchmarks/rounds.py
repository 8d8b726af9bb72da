"""Facts in rounds, "always from the base" against "edit the edited model", with `joint`.

From the base, each round solves for all values so far, which are kept as they are optimised (an interrupted run goes
on there). Sequential, each round optimises and solves its own facts on the model that the rounds before left. Both
are asked about the same records after each round. The values in rounds are compared with some that are optimised
again in one batch, and the last round's patch with one solve of all kept values, read from their files.

    python -m benchmarks.rounds [--facts 500] [--rounds 10] [--asked 100] [--data FILE] [--model FOLDER]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.ground import COUNTERFACT, base_of, cache, named, options, records_in, told_with_bars
from benchmarks.outcome import Outcome, conclude
from benchmarks.stored_values import Facts, StoredValues
from editors.benchmark import BenchmarkReport, Plan
from editors.joint import Joint, Value, solve, values_of
from editors.metrics import HOWS
from tasks.benchmark import PreparedBase, draw, percent

AGREEMENT = 0.9999
FROM_BASE, SEQUENTIAL = "from the base", "editing the edited model"


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, default=COUNTERFACT, help="CounterFact records")
    parser.add_argument("--facts", type=int, default=500, help="in all")
    parser.add_argument("--rounds", type=int, default=10, help="that they come in")
    parser.add_argument("--asked", type=int, default=100, help="records that are asked about, evenly spread")
    parser.add_argument("--again", type=int, default=20, help="subjects whose values are optimised again in one batch")
    told = parser.parse_args()
    plan = Plan.of(records_in([told.data], limit=told.facts), rounds=told.rounds, asked=told.asked)
    facts = [record.fact for record in plan.records]
    config = Joint()
    with told_with_bars() as progress:
        base = base_of(told.model, config, progress=progress)
        stored = StoredValues(cache() / "values", base, config)
        values = {}
        for end in plan.ends[1:]:  # as they come: no batch of a round knows of the next round's facts
            values |= stored.of(facts[:end], progress=progress)
        reports = {
            FROM_BASE: base.run(plan, config, values=values, progress=progress),
            SEQUENTIAL: base.run(plan, config, sequential=True, progress=progress),
        }
        kept = stored.of(facts, progress=progress)
        digest = solved_at_once(base, config, kept)
        cosine = least_cosine(base, config, kept, told.again)
    setting = (
        f"{base.recipe.base[:12]}, joint with its defaults; {len(facts)} records of {told.data.name} in {told.rounds} "
        f"rounds, {len(plan.asked)} of them asked about"
    )
    one_batch = Outcome(
        what=f"{len(facts)} facts in {told.rounds} rounds from the base against one batch",
        goal="same values, same patch digest",
        reached=f"{'the same' if digest == reports[FROM_BASE].rounds[-1].patch else 'another'} digest, both solving "
        f"the stored values; values of {told.again} subjects optimised again in one batch: cosine at least "
        f"{cosine:.5f}",
        met=digest == reports[FROM_BASE].rounds[-1].patch and cosine > AGREEMENT,
        setting=setting,
    )
    figures = {
        "reports": {name: asdict(report) for name, report in reports.items()},
        "seconds of the values from the base": stored.cost(facts).seconds,
        "cosine of values optimised again": cosine,
        "data": named([told.data]),
    }
    outcomes = [one_batch, against_sequential(reports, one_batch.what.removesuffix("one batch"), setting)]
    conclude("rounds", outcomes, figures=figures, device=base.model.device, folder=told.results)
    draw(reports, title=f"joint on {told.data.name}").savefig(told.results / "rounds.png", dpi=120)


def solved_at_once(base: PreparedBase, config: Joint, values: Mapping[Facts, Value]) -> str:
    """Return the digest of the patch that all kept values give, in an order of their own."""
    by_name = {facts[0].subject: values[facts] for facts in reversed(list(values))}
    return solve(base.model, by_name, config=config, material=base.prepared.material).digest


def least_cosine(base: PreparedBase, config: Joint, values: Mapping[Facts, Value], count: int) -> float:
    """Return how like the kept injections those are that one batch gives for some subjects, at the worst site."""
    some = list(values)[:: -(-len(values) // count)]
    again = values_of(
        base.model,
        base.tokenizer,
        {facts[0].subject: facts for facts in some},
        config=config,
        material=base.prepared.material,
    )
    pairs = [(values[facts].injections, again[facts[0].subject].injections) for facts in some]
    return min(float(torch.nn.functional.cosine_similarity(*pair, dim=1).min()) for pair in pairs)


def against_sequential(reports: Mapping[str, BenchmarkReport], what: str, setting: str) -> Outcome:
    ours, theirs = (reports[name].rounds[-1] for name in (FROM_BASE, SEQUENTIAL))
    scores = (f"{how} {percent(ours, how):.1f} against {percent(theirs, how):.1f}" for how in HOWS)
    return Outcome(
        what=f"{what}{SEQUENTIAL}",
        goal="score higher, perplexity lower",
        reached=f"score by {', '.join(scores)}; perplexity {ours.text.value:.2f} against {theirs.text.value:.2f}, "
        f"unedited {reports[FROM_BASE].unedited.value:.2f}",
        met=percent(ours, "logprob") > percent(theirs, "logprob") and ours.text.value < theirs.text.value,
        setting=setting,
    )


if __name__ == "__main__":
    sys.exit(main())
