"""Editing against the published MEMIT as people can install it: how fast, the same vectors, as good a score.

The published code runs in an environment of its own over the same torch and transformers (rival/), on the same model,
facts, layers, threads and machine, one side after the other in one run. Three rows:

    own settings    its v* at its own settings, with its own early stop, against our editors at their defaults
    same maths      its v* against ours at one site: same contexts, steps, step length, clamp, decay and stop
    score           the records edited by each editor, its values by its own solve, all asked the same questions

Its second moments are ours, so that it downloads no corpus. Its values are kept, one file a fact, so that a long score
goes on where it was interrupted; what is timed is computed anew in each run. `--facts 0` leaves out the timings and
`--records 0` the score: the result keeps that row of an earlier run.

    python -m benchmarks.published [--data FILE] [--facts 10] [--records 100] [--model FOLDER] [--cache FOLDER]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.rival.bench import CONTEXTS, set_up
from benchmarks.rival.environment import PACKAGE
from benchmarks.rival.jobs import HPARAMS, SOURCE
from benchmarks.rival.outcomes import answers_of, outcomes_of, table_of
from benchmarks.rival.quality import scores
from benchmarks.rival.speed import SAME, own_settings, same_maths
from editors.artifacts import write_atomically
from editors.joint import Joint
from editors.memit import Memit
from editors.records import read_records, without_contradictions
from tasks.machine import machine

DATA = Path("../shared/data/counterfact_full.jsonl")
CACHE = Path(".corrigenda/benchmarks/published")
RESULT = Path(__file__).parent / "results" / "published.json"
console = Console()


def main() -> None:
    options = arguments()
    if not options.data.is_file():
        console.print(f"skipped: {options.data} is not on this machine; name CounterFact records with --data")
        return
    records, _ = without_contradictions(read_records(options.data, limit=max(options.records, 2 * options.facts)))
    bench = set_up(options.model, options.data, options.cache, console=console)
    alone = {record.fact.subject: record.fact for record in records}  # one fact a subject, the unit of our values
    few = list(alone.values())[: options.facts]
    found = json.loads(RESULT.read_text(encoding="utf-8"))["figures"] if RESULT.is_file() else {}
    if few:
        found["own settings"] = own_settings(bench, few) | {"setting": own_setting()}
        keep(found)
        found["same maths"] = same_maths(bench, few) | {"setting": same_setting()}
        keep(found)
    if options.records:
        found["score"] = scores(bench, records[: options.records]) | {"setting": own_setting()}
        keep(found)
    console.print(table_of(outcomes_of(found)))
    if "score" in found:
        console.print(answers_of(found["score"]))


def own_setting() -> dict[str, Any]:
    return {
        "published": f"{PACKAGE} with {SOURCE}",
        "hparams": {name: value for name, value in HPARAMS.items() if value != ""},
        "ours": {"joint": dataclasses.asdict(Joint()), "memit": dataclasses.asdict(Memit())},
        "second moments": "ours on both sides",
    }


def same_setting() -> dict[str, Any]:
    return dataclasses.asdict(SAME) | {"contexts": CONTEXTS, "layer": HPARAMS["layers"][-1]}


def keep(figures: dict[str, Any]) -> None:
    """Keep what was measured so far, and what earlier runs found of the rows that this one leaves out."""
    result = {
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": machine(torch.device("cpu")),
        "outcomes": outcomes_of(figures),
        "figures": figures,
    }
    write_atomically(RESULT, json.dumps(result, indent=1).encode() + b"\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=DATA, help="CounterFact records")
    parser.add_argument("--facts", type=int, default=10, help="how many are timed; 0 leaves it out")
    parser.add_argument("--records", type=int, default=100, help="how many are edited for the score; 0 leaves it out")
    parser.add_argument("--model", type=Path, help="a folder; by default the base that the settings name")
    parser.add_argument("--cache", type=Path, default=CACHE, help="for the environment and the published values")
    options = parser.parse_args()
    if options.model is None:
        from tasks.base import base_folder
        from tasks.settings import Settings

        options.model = base_folder(Settings())
    return options


if __name__ == "__main__":
    main()
