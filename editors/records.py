"""Benchmark records: a fact, the same question in other words, and questions nearby whose answers shall stay.

Three published shapes are told apart by their fields: CounterFact in full (Meng et al. 2022, arXiv:2202.05262), the
same with one paraphrase and one neighbour as KnowEdit gives it, and zsRE with unrelated questions (Mitchell et al.
2022, MEND, arXiv:2110.11309), which knows no answer that the target is weighed against.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from editors.errors import InvalidFactError, RecordFileError
from editors.facts import Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A question nearby, and the answer that is right there before and after an edit."""

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record of a benchmark.

    Attributes:
        fact: what shall be said; its prior is the true answer, None where the benchmark weighs against none.
        paraphrases: other prompts that the target answers.
        neighbours: what shall not change.
    """

    fact: Fact
    paraphrases: tuple[str, ...]
    neighbours: tuple[Neighbour, ...]


def read_records(path: Path, *, limit: int | None = None) -> list[Record]:
    """Read benchmark records, one JSON object a line.

    Args:
        path: the file; blank lines in it are skipped.
        limit: stop after as many records.

    Raises:
        OSError: the file cannot be read.
        RecordFileError: a line is no record of a known shape, or there is none at all; it names line and field.
    """
    records: list[Record] = []
    for number, line in _lines(path):
        try:
            records.append(_record(json.loads(line), number))
        except json.JSONDecodeError as error:
            raise RecordFileError(path, number, f"not JSON: {error.msg} at column {error.colno}") from error
        except (_FieldError, InvalidFactError) as error:
            raise RecordFileError(path, number, f"{error}") from error
        if len(records) == limit:
            break
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


class _FieldError(Exception):
    """A field that is missing or of another kind."""


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


def _record(value: object, number: int) -> Record:
    if not isinstance(value, dict):
        raise _FieldError(f"a record is a JSON object, got {type(value).__name__}")
    fields = cast(dict[str, Any], value)
    for mark, read in _SHAPES.items():
        if mark in fields:
            return read(fields, number)
    raise _FieldError(
        f"no known shape: it has {', '.join(sorted(fields)) or 'no field'}; CounterFact has requested_rewrite or "
        "rephrase_prompt, zsRE has rephrase"
    )


def _counterfact(fields: Mapping[str, Any], number: int) -> Record:
    prior = _text(fields, "requested_rewrite", "target_true", "str")
    return Record(
        fact=Fact(
            id=_name(fields, number),
            subject=_text(fields, "requested_rewrite", "subject"),
            prompt=_text(fields, "requested_rewrite", "prompt"),
            target=_text(fields, "requested_rewrite", "target_new", "str"),
            prior=prior,
        ),
        paraphrases=_texts(fields, "paraphrase_prompts"),
        neighbours=tuple(Neighbour(prompt=text, answer=prior) for text in _texts(fields, "neighborhood_prompts")),
    )


def _simple_counterfact(fields: Mapping[str, Any], number: int) -> Record:
    nearby = Neighbour(prompt=_text(fields, "locality_prompt"), answer=_text(fields, "locality_ground_truth"))
    return Record(
        fact=Fact(
            id=_name(fields, number),
            subject=_text(fields, "subject"),
            prompt=_open_prompt(fields, "prompt"),
            target=_text(fields, "target_new"),
            prior=_text(fields, "ground_truth"),
        ),
        paraphrases=(_text(fields, "rephrase_prompt"),),
        neighbours=(nearby,),
    )


def _zsre(fields: Mapping[str, Any], number: int) -> Record:
    return Record(
        fact=Fact(
            id=_name(fields, number),
            subject=_text(fields, "subject"),
            prompt=_open_prompt(fields, "src"),
            target=_text(fields, "alt"),
        ),
        paraphrases=(_text(fields, "rephrase"),),
        neighbours=(Neighbour(prompt=_text(fields, "loc"), answer=_text(fields, "loc_ans")),),
    )


_SHAPES: dict[str, Callable[[Mapping[str, Any], int], Record]] = {
    "requested_rewrite": _counterfact,
    "rephrase_prompt": _simple_counterfact,
    "rephrase": _zsre,
}


def _name(fields: Mapping[str, Any], number: int) -> str:
    return f"case {fields['case_id']}" if "case_id" in fields else f"line {number}"


def _open_prompt(fields: Mapping[str, Any], name: str) -> str:
    """The prompt with its place where the subject first stands."""
    prompt, subject = _text(fields, name), _text(fields, "subject")
    if subject not in prompt:
        raise _FieldError(
            f"{name}: the subject {subject!r} is not in {prompt!r}; write it there as in the field subject"
        )
    return prompt.replace(subject, "{}", 1)


def _text(fields: Mapping[str, Any], *path: str) -> str:
    value: Any = fields
    for name in path:
        value = cast(dict[str, Any], value).get(name) if isinstance(value, dict) else None
    if not isinstance(value, str) or not value.strip():
        raise _FieldError(f"{'.'.join(path)}: a text is needed, got {json.dumps(value)[:60]}")
    return value


def _texts(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = fields.get(name)
    texts = cast(list[Any], value) if isinstance(value, list) else [None]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise _FieldError(f"{name}: a list of texts is needed, got {json.dumps(value)[:60]}")
    return tuple(cast(list[str], texts))
