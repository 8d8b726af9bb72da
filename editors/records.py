"""Benchmark records: a fact, the same question in other words, what follows, and what shall stay as it is.

The published shapes that are known, told apart by their fields, are in shapes.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from editors.errors import InvalidFactError, RecordFileError
from editors.facts import Fact
from editors.shapes import FieldError, Record, records_of


def read_records(path: Path, *, limit: int | None = None) -> list[Record]:
    """Read benchmark records, one JSON object a line.

    Args:
        path: the file; blank lines in it are skipped.
        limit: stop after as many lines.

    Raises:
        OSError: the file cannot be read.
        RecordFileError: a line is no record of a known shape, or there is none at all; it names line and field.
    """
    records: list[Record] = []
    for number, line in islice(_lines(path), limit):
        try:
            records += records_of(json.loads(line), number)
        except json.JSONDecodeError as error:
            raise RecordFileError(path, number, f"not JSON: {error.msg} at column {error.colno}") from error
        except (FieldError, InvalidFactError) as error:
            raise RecordFileError(path, number, f"{error}") from error
    if not records:
        raise RecordFileError(path, 1, "the file holds no record; give one JSON object a line")
    return records


def without_contradictions(records: Iterable[Record]) -> tuple[list[Record], list[str]]:
    """Return the records whose facts can hold together, first come first served, and why each other one can't."""
    kept: list[Record] = []
    left_out: list[str] = []
    first: dict[str, Fact] = {}
    for record in records:
        earlier = first.setdefault(record.fact.filled, record.fact)
        if earlier.target == record.fact.target:
            kept.append(record)
        else:
            left_out.append(
                f"{record.fact.id} contradicts {earlier.id}: {record.fact.filled!r} is "
                f"{record.fact.target!r} and {earlier.target!r}"
            )
    return kept, left_out


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise RecordFileError(
                    path, number, f"byte {error.start + 1} is not UTF-8; save the file as UTF-8"
                ) from error
            if line.strip():
                yield number, line
