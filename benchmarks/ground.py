"""What benchmarks stand on: their common options, records, and a base with its material.

Everything that a benchmark can be told has a default; `python -m benchmarks.<name> --help` says what it measures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from benchmarks.outcome import RESULTS
from editors.decoding import Progress
from editors.digests import sha256_file
from editors.records import read_records, without_contradictions
from editors.registry import Config
from editors.shapes import Record
from editors.stopwatch import Stopwatch
from tasks.base import base_folder
from tasks.benchmark import PreparedBase, prepared_base
from tasks.settings import Settings

COUNTERFACT = Path("../shared/data/counterfact_full.jsonl")
COUNTERFACT_SIMPLE = Path("../shared/data/counterfact_simple.jsonl")
console = Console()

T = TypeVar("T")


def options(doc: str | None) -> argparse.ArgumentParser:
    """Return the parser that every benchmark begins with: its docstring as help, the base, and where results go.

    Args:
        doc: the benchmark's docstring.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a folder; by default the base that the settings name")
    parser.add_argument("--results", type=Path, default=RESULTS, help="a folder to keep the result in")
    return parser


def folder_of(model: Path | None) -> Path:
    """Return the folder of the base: the given one, or the one that the settings name."""
    return model or base_folder(Settings(), report=console.print)


def base_of(model: Path | None, config: Config, *, progress: Progress) -> PreparedBase:
    """Load a base, on the CPU, with the material that a method needs, which is made once and kept."""
    return prepared_base(folder_of(model), config, settings=on_cpu(), progress=progress)


def on_cpu(model: Path | None = None) -> Settings:
    """Return the settings of this machine on its CPU, with another base if one is given.

    GPU figures are another table.
    """
    settings = Settings(device="cpu")
    return settings.model_copy(update={"model": str(model.absolute())}) if model else settings


def cache() -> Path:
    """Return the folder of everything that is made once."""
    return Settings().home / "cache"


def records_in(files: Sequence[Path], *, limit: int | None = None) -> list[Record]:
    """Return the records of some files, one file after the other; without the files, the benchmark ends here."""
    for file in files:
        if not file.is_file():
            console.print(f"skipped: {file} is not on this machine; name CounterFact records with --data")
            sys.exit(0)
    return [record for file in files for record in read_records(file, limit=limit)][:limit]


def free_of_contradictions(files: Sequence[Path], *, count: int) -> list[Record]:
    """Return so many records that do not contradict each other; where the files hold fewer, the benchmark fails."""
    records, _ = without_contradictions(records_in(files))
    if len(records) < count:
        names = ", ".join(file.name for file in files)
        sys.exit(
            f"{names} hold {len(records)} records without contradictions, not {count}; ask for fewer or add --data"
        )
    return records[:count]


def named(files: Sequence[Path]) -> list[dict[str, str]]:
    """Return names and digests of data, for a benchmark's figures."""
    return [{"name": file.name, "sha256": sha256_file(file)} for file in files]


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Return the wall-clock seconds that some work took, and what came out."""
    watch = Stopwatch()
    with watch.stage("work"):
        found = work()
    return watch.seconds["work"], found


@contextmanager
def told_with_bars() -> Generator[Progress]:
    """Give a progress callback that shows a bar for each kind of work."""
    from flows.benchmark import bars

    with bars(console) as progress:
        yield progress
