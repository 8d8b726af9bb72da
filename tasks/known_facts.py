"""Reads facts that a model may know: a prompt, the subject that it names, and the attribute that is true of it.

JSONL in the shape of the file that the authors of ROME published for causal tracing (known_1000.jsonl): one object a
line with `subject`, `prompt` and `attribute`; other fields are left alone.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from editors.facts import Fact
from tasks.errors import CorrigendaError


class FactsFileError(CorrigendaError):
    """A file that can't be read as facts."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}; each line needs 'subject', 'prompt' (which names it) and 'attribute'")


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore")

    subject: str = Field(min_length=1)
    prompt: str
    attribute: str


def read_facts(path: Path) -> list[Fact]:
    """Return the facts of a file; the number of its line is a fact's id.

    Raises:
        FactsFileError: it can't be read, or a line is no fact.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FactsFileError(path, f"cannot be read ({error})") from error
    facts = [_fact(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not facts:
        raise FactsFileError(path, "holds no fact")
    return facts


def _fact(path: Path, number: int, text: str) -> Fact:
    try:
        line = _Line.model_validate_json(text)
        before, named, behind = line.prompt.partition(line.subject)
        if not named:
            raise FactsFileError(path, f"line {number}: {line.subject!r} is not in {line.prompt!r}")
        return Fact(id=str(number), subject=line.subject, prompt=f"{before}{{}}{behind}", target=line.attribute)
    except ValidationError as error:
        raise FactsFileError(path, f"line {number}: {error.errors()[0]['msg']}") from error
    except ValueError as error:  # a Fact that refuses its fields
        raise FactsFileError(path, f"line {number}: {error}") from error
