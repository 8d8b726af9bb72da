"""What a benchmark found: goal against what was reached, printed as a table, and kept with every figure behind it.

A kept result is benchmarks/results/<name>.json: when and on which machine it was measured, its outcomes, which are
rows of the table, and figures, which are the benchmark's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from editors.atomic import write_atomically
from tasks.machine import machine

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One goal and what became of it.

    Attributes:
        what: is measured.
        goal: in words, with its unit.
        reached: the same way.
        met: whether the goal is reached.
        setting: everything that the number depends on beside the machine.
    """

    what: str
    goal: str
    reached: str
    met: bool
    setting: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a benchmark found, as it is kept.

    Attributes:
        measured: the day.
        machine: processor, threads and versions.
        outcomes: one for each goal.
        figures: what was measured, in the benchmark's own form.
    """

    measured: str
    machine: Mapping[str, Any]
    outcomes: tuple[Outcome, ...]
    figures: Mapping[str, Any]

    @classmethod
    def load(cls, path: Path) -> Result:
        """Read a kept result."""
        kept = json.loads(path.read_text(encoding="utf-8"))
        return cls(**kept | {"outcomes": tuple(Outcome(**each) for each in kept["outcomes"])})


def conclude(
    name: str, outcomes: Sequence[Outcome], *, figures: Mapping[str, Any], device: torch.device, folder: Path
) -> None:
    """Print what a benchmark found, and keep it in a folder under the benchmark's name."""
    result = Result(
        measured=today(),
        machine=machine(device),
        outcomes=tuple(outcomes),
        figures=figures,
    )
    write_atomically(folder / f"{name}.json", json.dumps(asdict(result), indent=1).encode() + b"\n")
    Console().print(table_of({name: result}))


def today() -> str:
    """Return the day, as results are dated."""
    return datetime.now(UTC).date().isoformat()


def table_of(results: Mapping[str, Result]) -> Table:
    """Return the table of all outcomes of some benchmarks."""
    table = Table("what", "goal", "reached", "setting", show_lines=True)
    for name, result in results.items():
        machine = result.machine
        under = f"{machine['device']}, {machine['threads']} thread(s), torch {machine['torch']}; "
        where = f"{name}, {result.measured}, {under}"
        for each in result.outcomes:
            colour = "green" if each.met else "red"
            reached = f"[{colour}]{escape(each.reached)}[/]"
            table.add_row(escape(each.what), escape(each.goal), reached, escape(where + each.setting))
    return table
