"""Editing against the published MEMIT as people can install it: how fast, the same vectors, as good a score.

The published code runs in an environment of its own over the same torch and transformers (rival/), on the same model,
facts, layers, threads and machine, one side after the other in one run. Three rows:

    own settings    its v* at its own settings, with its own early stop, against our editors at their defaults
    same maths      its v* against ours at one site: same contexts, steps, step length, clamp, decay and stop
    score           the records edited by each editor, its values by its own solve, all asked the same questions

Its second moments are ours, so that it downloads no corpus. Its values are kept, one file a fact, so that a long score
goes on where it was interrupted; what is timed is computed anew in each run. `--facts 0` leaves out the timings and
`--records 0` the score: the result keeps that row of an earlier run.

    python -m benchmarks.published [--data FILE] [--facts 10] [--records 100] [--model FOLDER]
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import torch

from benchmarks.ground import COUNTERFACT, cache, console, folder_of, options, records_in
from benchmarks.outcome import Result, conclude, today
from benchmarks.rival.bench import CONTEXTS, set_up
from benchmarks.rival.environment import PACKAGE
from benchmarks.rival.jobs import HPARAMS, SOURCE
from benchmarks.rival.outcomes import answers_of, outcomes_of
from benchmarks.rival.quality import scores
from benchmarks.rival.speed import SAME, own_settings, same_maths
from editors.joint import Joint
from editors.memit import Memit
from editors.records import without_contradictions


def main() -> None:
    told = arguments()
    records, _ = without_contradictions(records_in([told.data], limit=max(told.records, 2 * told.facts)))
    bench = set_up(folder_of(told.model), told.data, cache() / "published", console=console)
    alone = {record.fact.subject: record.fact for record in records}  # one fact a subject, the unit of our values
    few = list(alone.values())[: told.facts]
    if few:
        keep("own settings", own_settings(bench, few) | {"setting": own_setting()}, told.results)
        keep("same maths", same_maths(bench, few) | {"setting": same_setting()}, told.results)
    if told.records:
        score = scores(bench, records[: told.records]) | {"setting": own_setting()}
        keep("score", score, told.results)
        console.print(answers_of(score))


def own_setting() -> dict[str, Any]:
    return {
        "published": f"{PACKAGE} with {SOURCE}",
        "hparams": {name: value for name, value in HPARAMS.items() if value != ""},
        "ours": {"joint": dataclasses.asdict(Joint()), "memit": dataclasses.asdict(Memit())},
        "second moments": "ours on both sides",
    }


def same_setting() -> dict[str, Any]:
    return dataclasses.asdict(SAME) | {"contexts": CONTEXTS, "layer": HPARAMS["layers"][-1]}


def keep(name: str, row: dict[str, Any], folder: Path) -> None:
    """Keep a row that was just measured, with its day, beside the others that were kept."""
    path = folder / "published.json"
    kept = dict(Result.load(path).figures) if path.is_file() else {}
    figures = kept | {name: row | {"measured": today()}}
    conclude("published", outcomes_of(figures), figures=figures, device=torch.device("cpu"), folder=folder)


def arguments() -> argparse.Namespace:
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, default=COUNTERFACT, help="CounterFact records")
    parser.add_argument("--facts", type=int, default=10, help="how many are timed; 0 leaves it out")
    parser.add_argument("--records", type=int, default=100, help="how many are edited for the score; 0 leaves it out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
