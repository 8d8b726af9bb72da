"""Quality on CounterFact: a hundred records in one batch, the default editor beside MEMIT.

Measures what `corrigenda benchmark` does for each of the two; or reads reports that it wrote with --report, the default
editor's first.

    python -m benchmarks.quality [--limit 100] [--data FILE] [--report FILE FILE] [--model FOLDER]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.ground import COUNTERFACT, console, on_cpu, options, records_in, told_with_bars
from benchmarks.outcome import Outcome, conclude
from tasks.benchmark import Request, benchmark

DEFAULT, BESIDE = "joint", "memit"
NEIGHBOURHOOD, PERPLEXITY = 1.0, 1.0  # points and per cent that may be lost
GOALS = {"logprob": (100, 97), "argmax": (98, 70), "generation": (95, 65)}  # efficacy and paraphrase, in per cent

Report = Mapping[str, Any]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, default=COUNTERFACT, help="CounterFact records")
    parser.add_argument("--limit", type=int, default=100, help="how many of them")
    parser.add_argument("--report", type=Path, nargs=2, help="read these in place of running the two methods")
    told = parser.parse_args()
    if not told.report:
        records_in([told.data], limit=1)
    if told.report:
        ours, beside = (json.loads(report.read_bytes()) for report in told.report)
    else:
        ours, beside = (run(method, told) for method in (DEFAULT, BESIDE))
    conclude(
        "quality",
        outcomes(ours, beside),
        figures={report["setting"]["method"]: report["rounds"][-1] for report in (ours, beside)},
        device=torch.device("cpu"),
        folder=told.results,
    )


def run(method: str, told) -> Report:
    request = Request(data=told.data, method=method, limit=told.limit)
    with told_with_bars() as progress:
        found = benchmark(request, settings=on_cpu(told.model), progress=progress, report=console.print)
    return json.loads(found.to_json())


def outcomes(ours: Report, beside: Report) -> list[Outcome]:
    """Return one outcome for each way to measure, and perplexity; each names the other method's numbers too."""
    setting = ours["setting"]
    what = f"{ours['rounds'][-1]['facts']} records of {setting['data']} in one batch"
    method = f"{setting['model']}, {setting['method']} with its defaults"
    rows = []
    for how, (efficacy, paraphrase) in GOALS.items():
        mine = edited(ours, how)
        rows.append(
            Outcome(
                what=f"{what}, by {how}",
                goal=f"efficacy >= {efficacy}, paraphrase >= {paraphrase}",
                reached=f"{mine['efficacy']:.1f}, {mine['paraphrase']:.1f} ({beside['setting']['method']}: "
                f"{edited(beside, how)['efficacy']:.1f}, {edited(beside, how)['paraphrase']:.1f})",
                met=mine["efficacy"] >= efficacy and mine["paraphrase"] >= paraphrase,
                setting=method,
            )
        )
    near, other = (edited(report, "logprob")["neighbourhood"] for report in (ours, beside))
    unedited = next(
        100 * each["unedited"]["value"]
        for each in ours["rounds"][-1]["metrics"]
        if (each["name"], each["how"]) == ("neighbourhood", "logprob")
    )
    rows.append(
        Outcome(
            what=f"{what}, neighbourhood by logprob",
            goal=f"within {NEIGHBOURHOOD:.0f} point of unedited",
            reached=f"{near:.1f}, unedited {unedited:.1f} ({beside['setting']['method']}: {other:.1f})",
            met=unedited - near <= NEIGHBOURHOOD,
            setting=method,
        )
    )
    rise, other = (
        100 * (report["rounds"][-1]["text"]["value"] / report["unedited"]["value"] - 1) for report in (ours, beside)
    )
    rows.append(
        Outcome(
            what=f"{what}, perplexity",
            goal=f"within {PERPLEXITY:.0f} % of unedited",
            reached=f"{rise:+.2f} % ({beside['setting']['method']}: {other:+.2f} %)",
            met=rise <= PERPLEXITY,
            setting=f"{method}, {ours['unedited']['tokens']} sampled tokens",
        )
    )
    return rows


def edited(report: Report, how: str) -> dict[str, float]:
    """Return the metrics of the edited model in per cent, by name, as far as anything could be asked."""
    found = (each for each in report["rounds"][-1]["metrics"] if each["how"] == how and each["edited"])
    return {each["name"]: 100 * each["edited"]["value"] for each in found}


if __name__ == "__main__":
    sys.exit(main())
