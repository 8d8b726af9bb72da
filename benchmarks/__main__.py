"""Run the benchmarks one after the other, each in a process of its own; then print one table of all kept results.

What takes longer than the others together runs only by its own name; the table shows what is kept of it. A benchmark
that fails is shown as failed and stops no other; then the exit code is 1.

    python -m benchmarks            everything that fits into an hour, then the table
    python -m benchmarks NAME ...   these alone, then the table
    python -m benchmarks --kept     the table
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.outcome import RESULTS, Result, table_of

HOUR = ("solve", "moments", "values", "evaluation", "memory", "quality")
LONGER = ("serving", "late_round", "gate", "published", "rounds", "capacity")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join((*HOUR, *LONGER)))
    parser.add_argument("--kept", action="store_true", help="run nothing, show what is kept")
    told = parser.parse_args()
    if unknown := [name for name in told.names if name not in (*HOUR, *LONGER)]:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join((*HOUR, *LONGER))}")
    failed = [] if told.kept else run(told.names or HOUR)
    Console().print(summary(RESULTS, failed=failed))
    return 1 if failed else 0


def run(names: Iterable[str]) -> list[str]:
    """Run benchmarks, each in a process of its own, and return the names of those that failed."""
    failed = []
    for name in names:
        print(f"== benchmarks.{name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode:
            failed.append(name)
    return failed


def summary(folder: Path, *, failed: Iterable[str]) -> Table:
    """Return the table of all kept results; what failed just now, or was never measured, is named."""
    paths = {name: folder / f"{name}.json" for name in (*HOUR, *LONGER)}
    kept = {name: Result.load(path) for name, path in paths.items() if path.is_file() and name not in failed}
    table = table_of(kept)
    for name in failed:
        table.add_row(name, "", "[red]failed[/]", f"python -m benchmarks.{name} shows why")
    for name in (name for name in paths if name not in kept and name not in failed):
        table.add_row(name, "", "[yellow]not measured yet[/]", f"python -m benchmarks.{name}")
    return table


if __name__ == "__main__":
    sys.exit(main())
