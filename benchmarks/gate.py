"""The gate on published records: every metric of a candidate's report, with its interval, and what each policy says.

The records become corrections, are edited into the base in one batch by `joint` with its defaults, and are asked as a
candidate's are: of the base, and of the patched model; production is the base. Values are kept as they are optimised,
so an interrupted run goes on. The page of the report is kept as gate.html beside the picture of its metrics.

    python -m benchmarks.gate [--facts 200] [--data FILE] [--model FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.ground import (
    COUNTERFACT,
    base_of,
    cache,
    free_of_contradictions,
    named,
    options,
    timed,
    told_with_bars,
)
from benchmarks.outcome import Outcome, conclude
from benchmarks.stored_values import StoredValues
from editors.atomic import write_atomically
from editors.joint import Joint, solve
from editors.patch import Patch
from editors.preparing import ordinary_rows
from editors.shapes import Record
from tasks.corrections import Correction
from tasks.describe import numbers
from tasks.evaluate import evaluate
from tasks.gate import gate
from tasks.machine import peak_memory
from tasks.page import bars, page
from tasks.policy import read_policy
from tasks.report import Metric, as_json

POLICIES = ("default", "strict")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, default=COUNTERFACT, help="CounterFact records")
    parser.add_argument("--facts", type=int, default=200, help="how many of them")
    told = parser.parse_args()
    records = free_of_contradictions([told.data], count=told.facts)
    facts = [record.fact for record in records]
    config = Joint()
    with told_with_bars() as progress:
        base = base_of(told.model, config, progress=progress)
        stored = StoredValues(cache() / "values", base, config)
        values = {own[0].subject: value for own, value in stored.of(facts, progress=progress).items()}
        solving, patch = timed(
            lambda: solve(base.model, values, config=config, material=base.prepared.material, progress=progress)
        )
        ordinary = ordinary_rows(base.model, base.tokenizer, base.recipe, progress=progress)
        asking, report = timed(
            lambda: evaluate(
                base.model,
                base.tokenizer,
                patch=patch,
                parent=Patch(base=patch.base),
                base_digest=patch.base,
                new=[correction_of(record) for record in records],
                earlier=[],
                held_text=base.prepared.held,
                ordinary_text=ordinary,
                progress=progress,
            )
        )
    verdicts = {name: gate(report, read_policy(name)) for name in POLICIES}
    cost = stored.cost(facts)
    peak = max(cost.peak, peak_memory(base.model.device)["process"])
    setting = f"{base.recipe.base[:12]}, joint with its defaults, the first {len(facts)} records of {told.data.name}"
    outcomes = [
        Outcome(what=name, goal="shown", reached=in_words(metric), met=True, setting=setting)
        for name, metric in report.metrics.items()
        if metric.count
    ]
    outcomes += [
        Outcome(
            what=f"the policy {name!r}",
            goal="shown",
            reached=verdict.word + "".join(f"; {o.bound.metric} {o.why}" for o in verdict.failures),
            met=True,
            setting=setting,
        )
        for name, verdict in verdicts.items()
    ]
    outcomes.append(
        Outcome(
            what=f"a candidate of {len(facts)} facts",
            goal="time and peak memory shown",
            reached=f"{cost.seconds:.0f} s for the values, {solving:.1f} s to solve, {asking:.0f} s to ask two models "
            f"{len(report.answers):,} prompts; {peak / 2**30:.1f} GiB at most",
            met=True,
            setting=setting,
        )
    )
    figures = {
        "metrics": {name: as_json(metric) for name, metric in report.metrics.items()},
        "seconds": {"values": cost.seconds, "solve": solving, "evaluation": asking},
        "peak": peak,
        "data": named([told.data]),
    }
    conclude("gate", outcomes, figures=figures, device=base.model.device, folder=told.results)
    bars(report.metrics).savefig(told.results / "gate.png", dpi=100)
    title = f"{len(facts)} records of {told.data.name}"
    write_atomically(told.results / "gate.html", page(report, verdicts[POLICIES[0]], title=title).encode())


def correction_of(record: Record) -> Correction:
    """Return a record as a requester would submit it."""
    fact = record.fact
    return Correction.model_validate(
        {
            "id": fact.id.replace(" ", "-"),
            "subject": fact.subject,
            "prompt": fact.prompt,
            "target": fact.target,
            "prior": fact.prior,
            "paraphrases": [" ".join(text.split()) for text in record.paraphrases],  # some hold line breaks
            "neighbours": [{"prompt": each.prompt, "answer": each.answer} for each in record.neighbours],
        }
    )


def in_words(metric: Metric) -> str:
    """Return a metric's numbers with its interval and count."""
    interval = "" if metric.low is None else f" (95 %: {metric.low:.3g} to {metric.high:.3g})"
    return f"{numbers(metric)}{interval}, {metric.count:,} prompts or tokens"


if __name__ == "__main__":
    sys.exit(main())
