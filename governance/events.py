"""The ledger's events as a chain: each carries the digest of the one before it and of itself.

A row is an event as the database holds it. As a line of JSON it carries its time as a text in UTC, and so does what its
digest is over: whoever has the lines alone can follow the chain.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from editors.digests import canonical_json, digest_of
from editors.errors import UnprovenError
from governance.lifecycle import flaw_of_transition

GENESIS = "0" * 64
COLUMNS: Mapping[str, type] = {
    "seq": int,
    "at": datetime,
    "entity": str,
    "key": str,
    "kind": str,
    "actor": str,
    "reason": str,
    "data": dict,
    "previous": str,
    "digest": str,
}

Row = Mapping[str, Any]
"""One event as the database holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where a chain ends: its newest event's number, digest and time."""

    sequence: int
    digest: str
    at: datetime


EMPTY = Head(sequence=0, digest=GENESIS, at=datetime.min.replace(tzinfo=UTC))


class Chain:
    """A chain that is followed, event by event, from the first one on."""

    def __init__(self) -> None:
        self.head = EMPTY
        self._states: dict[tuple[str, str], str] = {}

    def flaw_of_next(self, row: Row) -> str:
        """Why an event does not come next, by its digests or by the state of its thing; else empty, and it is taken."""
        thing = row["entity"], row["key"]
        flaw = flaw_of_link(row, self.head)
        if not flaw and (odd := flaw_of_transition(*thing, state=self._states.get(thing), kind=row["kind"])):
            flaw = f"event {row['seq']}: {odd}"
        if not flaw:
            self.head = head_of(row)
            self._states[thing] = row["kind"]
        return flaw


def digest_of_row(row: Row) -> str:
    """Return the digest over everything in a row but the digest itself."""
    content = {name: value for name, value in row.items() if name != "digest"}
    return digest_of(content | {"at": _time_of(row)})


def head_of(row: Row) -> Head:
    """Where a chain ends whose newest event this is."""
    return Head(sequence=row["seq"], digest=row["digest"], at=row["at"])


def flaw_of_link(row: Row, head: Head) -> str:
    """Why a row is not the next link behind a chain's end; empty where it is."""
    seq, what = row["seq"], f"event {row['seq']} ({row['entity']} {row['key']!r} {row['kind']!r})"
    if seq != head.sequence + 1:
        return f"event {head.sequence + 1} is missing: behind event {head.sequence} comes {what}"
    if row["previous"] != head.digest:
        return (
            f"{what} is no link behind event {head.sequence}: it names {row['previous'][:12]} as the digest of the "
            f"event before it, which has {head.digest[:12]}"
        )
    if (found := digest_of_row(row)) != row["digest"]:
        return f"{what} was altered: its digest is {row['digest'][:12]}, its content's {found[:12]}"
    if row["at"] < head.at:
        return f"{what} is of {row['at']}, before event {head.sequence}, which is of {head.at}"
    return ""


def until(rows: Iterable[Row], before: int | None) -> Iterator[Row]:
    """The rows that come before the event of a number; all of them where there is none."""
    return (row for row in rows if before is None or row["seq"] < before)


def line_of(row: Row) -> bytes:
    """A row as a line of JSON."""
    return canonical_json({**row, "at": _time_of(row)}) + b"\n"


def read_lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows that `line_of` wrote into a file; whether they are a chain is not asked.

    Raises:
        UnprovenError: a line is none of an event, or is not written as it would be; file and line are named.
    """
    try:
        lines = file.open("rb")
    except OSError as error:
        raise UnprovenError(f"{file} is missing, or can't be read: {error}") from error
    with lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                row["at"] = datetime.fromisoformat(row["at"])
                same = line_of(row) == line and row.keys() == COLUMNS.keys()
                same = same and all(isinstance(row[name], kind) for name, kind in COLUMNS.items())
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
                raise UnprovenError(f"{file}: line {number} is no event: {type(error).__name__}: {error}") from error
            if not same:
                raise UnprovenError(f"{file}: line {number} is no event as the ledger writes it")
            yield row


def _time_of(row: Row) -> str:
    return row["at"].astimezone(UTC).isoformat()
