"""Reads a file of corrections line by line, so that one bad line never loses the others.

JSONL: one object a line. CSV: a header with the fields' names, one record a line; a cell that begins with `[` or `{` is
JSON, otherwise lists are separated by `;`, and an empty cell is an absent field. YAML: a list, one `- ` item a
correction; an item's number is the line on which it begins. All are UTF-8, with or without a byte order mark.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import yaml
from pydantic import ValidationError

from tasks.corrections import Correction
from tasks.errors import CorrigendaError
from tasks.problems import kind_of, problems_of

MAX_FILE_BYTES = 64 << 20
MAX_YAML_BYTES = 4 << 20
MAX_LINE_BYTES = 100_000
KEPT_OF_LONG_LINE = 2_000

_BOM = b"\xef\xbb\xbf"
_LISTS = ("aliases", "paraphrases", "neighbours", "consequences", "portability", "evidence")

Raw = tuple[int, bytes]
Reader = Callable[[str], Any]


class CorrectionFileError(CorrigendaError):
    """A file that cannot be read as corrections at all."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


class _UnreadableLineError(ValueError):
    """A line that is no record; its message is the reason."""


@dataclass(frozen=True, slots=True)
class ParsedLine:
    """What one line of a file holds.

    Attributes:
        number: the line in the file, from 1.
        text: what was written there, as it was submitted; what is no text is replaced, and an overlong line is cut.
        correction: the record, if it is one.
        problems: why it is none; empty if and only if there is a correction.
    """

    number: int
    text: str
    correction: Correction | None
    problems: tuple[str, ...] = ()


def parse_file(path: Path) -> list[ParsedLine]:
    """Read every record of a `.jsonl`, `.csv`, `.yaml` or `.yml` file; blank lines are skipped.

    Raises:
        CorrectionFileError: the file can't be read, is too large or of an unknown kind, or its frame (a CSV header,
            the list of a YAML file) is broken.
    """
    try:
        records = _FORMATS[path.suffix.lower()]
    except KeyError:
        raise CorrectionFileError(path, f"unknown suffix {path.suffix!r}; use {', '.join(_FORMATS)}") from None
    try:
        _check_size(path)
        with path.open("rb") as file:
            lines = [_parse(number, raw, read) for number, raw, read in records(path, file)]
    except OSError as error:
        raise CorrectionFileError(path, f"cannot be read: {error.strerror}") from error
    return _with_unique_ids(lines)


def parse_kept(name: str, content: bytes, *, lines: Collection[int]) -> dict[int, ParsedLine]:
    """Read some records again, by their lines, of a file that was kept; without looking at the other ones."""
    path = Path(name)
    records = _FORMATS[path.suffix.lower()](path, BytesIO(content))
    return {number: _parse(number, raw, read) for number, raw, read in records if number in lines}


def _check_size(path: Path) -> None:
    if not path.is_file():
        raise CorrectionFileError(path, "is not a file" if path.exists() else "does not exist; check the path")
    limit = MAX_YAML_BYTES if path.suffix.lower() in (".yaml", ".yml") else MAX_FILE_BYTES
    if (size := path.stat().st_size) > limit:
        raise CorrectionFileError(path, f"has {size:,} bytes; at most {limit:,} are allowed, split it or use JSONL")


def _parse(number: int, raw: bytes, read: Reader) -> ParsedLine:
    text = raw.decode("utf-8", errors="replace").rstrip("\r\n").replace("\0", "\N{SYMBOL FOR NULL}")
    if len(raw) > MAX_LINE_BYTES:
        reason = f"the record has {len(raw):,} bytes; at most {MAX_LINE_BYTES:,} are allowed"
        return ParsedLine(number, text[:KEPT_OF_LONG_LINE], None, (reason,))
    try:
        record = read(raw.decode("utf-8"))
        if not isinstance(record, dict):
            raise _UnreadableLineError(f"the record must be an object, got {kind_of(record)}")
        if "editing" in record:
            raise _UnreadableLineError("editing: is set by 'corrigenda retry' and not by a file; leave it out")
        return ParsedLine(number, text, Correction.model_validate(record))
    except UnicodeDecodeError as error:
        return ParsedLine(number, text, None, (f"byte {error.start + 1} is not UTF-8; save the file as UTF-8",))
    except ValidationError as error:
        return ParsedLine(number, text, None, problems_of(error))
    except RecursionError:
        return ParsedLine(number, text, None, ("the record is nested too deeply",))
    except (_UnreadableLineError, ValueError) as error:
        return ParsedLine(number, text, None, (str(error),))


def _with_unique_ids(lines: list[ParsedLine]) -> list[ParsedLine]:
    """Refuse a line that gives an earlier line's id to other content; the same line twice is no harm."""
    first: dict[str, ParsedLine] = {}
    checked = []
    for line in lines:
        if line.correction and (earlier := first.setdefault(line.correction.id, line)).correction != line.correction:
            reason = f"id {line.correction.id!r} is taken by line {earlier.number} with other content; choose another"
            line = ParsedLine(line.number, line.text, None, (reason,))
        checked.append(line)
    return checked


def _lines(file: BinaryIO) -> Iterator[Raw]:
    """Yield the lines that are not blank, without a byte order mark."""
    for number, raw in enumerate(file, start=1):
        line = raw.removeprefix(_BOM) if number == 1 else raw
        if line.strip():
            yield number, line


# JSONL


def _jsonl(path: Path, file: BinaryIO) -> Iterator[tuple[int, bytes, Reader]]:
    for number, raw in _lines(file):
        yield number, raw, _read_json


def _read_json(text: str) -> Any:  # noqa: ANN401 - any JSON
    try:
        return _JSON.decode(text.strip())
    except json.JSONDecodeError as error:
        where = f"{error.msg.removesuffix(' at')} at column {error.colno}"
        raise _UnreadableLineError(f"the line is not JSON: {where}") from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _UnreadableLineError(f"the field {twice!r} is given twice; keep one")
    return record


def _refuse_constant(name: str) -> NoReturn:
    raise _UnreadableLineError(f"the line holds {name}, which is not JSON")


_JSON = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)


# CSV


def _csv(path: Path, file: BinaryIO) -> Iterator[tuple[int, bytes, Reader]]:
    lines = _lines(file)
    header = _header(path, next(lines, (1, b""))[1])
    for number, raw in lines:
        yield number, raw, lambda text: _read_row(text, header)


def _header(path: Path, raw: bytes) -> list[str]:
    try:
        names = [name.strip() for name in _cells(raw.decode("utf-8"))]
    except ValueError as error:
        raise CorrectionFileError(path, f"its header cannot be read: {error}") from error
    if "subject" not in names:
        raise CorrectionFileError(path, f"its header has no column 'subject', only {names}; separate columns by commas")
    if len(set(names)) != len(names):
        raise CorrectionFileError(path, f"its header names a column twice: {names}")
    return names


def _read_row(text: str, header: list[str]) -> dict[str, Any]:
    cells = _cells(text)
    if len(cells) != len(header):
        raise _UnreadableLineError(
            f"the line has {len(cells)} cells, the header {len(header)}; quote cells that hold a comma"
        )
    return {name: _cell(name, cell) for name, cell in zip(header, cells, strict=True) if cell.strip()}


def _cells(text: str) -> list[str]:
    try:
        return next(csv.reader([text.rstrip("\r\n")], strict=True), [])
    except csv.Error as error:
        raise _UnreadableLineError(f"the line is not CSV: {error}; close its quotes on the line") from error


def _cell(name: str, cell: str) -> Any:  # noqa: ANN401 - not yet validated
    text = cell.strip()
    if name in (*_LISTS, "inverse") and text.startswith(("[", "{")):
        return _read_json(text)
    if name in _LISTS:
        return [part.strip() for part in text.split(";") if part.strip()]
    if name == "multi_valued":
        return {"true": True, "false": False}.get(text.casefold(), text)
    return cell


# YAML


def _yaml(path: Path, file: BinaryIO) -> Iterator[tuple[int, bytes, Reader]]:
    """Yield the list's items, each parsed alone: an error or an anchor in one is no matter of another."""
    start, item, marker = 0, list[bytes](), None
    for number, raw in enumerate(file, start=1):
        line = raw.removeprefix(_BOM) if number == 1 else raw
        if marker is None and re.match(rb"\s*(#.*|---\s*)?$", line):
            continue
        marker = marker or _marker(path, line)
        if marker.match(line):
            if item:
                yield start, b"".join(item), _read_yaml
            start, item = number, []
        item.append(line)
    if item:
        yield start, b"".join(item), _read_yaml


def _marker(path: Path, line: bytes) -> re.Pattern[bytes]:
    """Return what every item of the list begins with, from its first line."""
    if not (found := re.match(rb"( *)-\s", line)):
        raise CorrectionFileError(path, "is not a list; begin each correction with '- '")
    return re.compile(rb"%b-\s" % found[1])


def _read_yaml(text: str) -> Any:  # noqa: ANN401 - any YAML
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.CSafeLoader)):
            raise _UnreadableLineError("the item uses a YAML alias (*name); write the value out")
        loader = _UniqueKeyLoader(text)
        return loader.get_single_data()[0]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _UnreadableLineError(f"the item is not YAML: {error.problem} in line {line} of the item") from error
    except yaml.YAMLError as error:
        raise _UnreadableLineError(f"the item is not YAML: {error}") from error


class _UniqueKeyLoader(yaml.CSafeLoader):
    """The safe loader, which makes plain values only; it refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping whose keys are all different."""
        keys = [key.value for key, _ in node.value]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise _UnreadableLineError(f"the field {twice!r} is given twice; keep one")
        return super().construct_mapping(node, deep=deep)


_FORMATS: Mapping[str, Callable[[Path, BinaryIO], Iterator[tuple[int, bytes, Reader]]]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".yaml": _yaml,
    ".yml": _yaml,
}
