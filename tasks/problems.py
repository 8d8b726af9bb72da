"""What is wrong with a record, in plain words: pydantic's errors as a requester can read and act on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tasks.companions import Consequence, Hop, Inverse
from tasks.corrections import Correction, Evidence, Neighbour

_NESTED: Mapping[str, type[BaseModel]] = {
    "neighbours": Neighbour,
    "inverse": Inverse,
    "consequences": Consequence,
    "portability": Hop,
    "evidence": Evidence,
}
_KINDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    tuple: "a list",
    dict: "an object",
    type(None): "null",
}
# What follows from another error, which is told itself.
_SECONDARY = "default_factory_not_called"


def problems_of(error: ValidationError) -> tuple[str, ...]:
    """Return one sentence for each thing that is wrong with a record, each beginning with the field's name."""
    return tuple(_sentence(details) for details in error.errors(include_url=False) if details["type"] != _SECONDARY)


def kind_of(value: object) -> str:
    """Return what a value is, in words: "a number", "a list"."""
    return _KINDS.get(type(value), type(value).__name__)


def closest(name: str, known: Sequence[str]) -> str:
    """Return "; did you mean 'subject'?" for a misspelt name, or what is known if nothing is near."""
    near = get_close_matches(name.casefold(), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"


def _sentence(details: ErrorDetails) -> str:
    says = _WORDS.get(details["type"])
    message = says(details) if says else details["msg"]
    where = _path(details["loc"])
    return f"{where} {message}" if where else message


def _path(location: tuple[int | str, ...]) -> str:
    """Return ("neighbours", 0, "prompt") as "neighbours[1].prompt": people count from one."""
    text = ""
    for step in location:
        text += f"[{step + 1}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".")


def _unknown_field(details: ErrorDetails) -> str:
    *parents, name = details["loc"]
    model = _NESTED.get(str(parents[0]), Correction) if parents else Correction
    return f"is an unknown field{closest(str(name), list(model.model_fields))}"


def _must_be(what: str) -> Callable[[ErrorDetails], str]:
    def says(details: ErrorDetails) -> str:
        hint = "; put it in quotes" if what == "text" and isinstance(details["input"], bool | int | float) else ""
        return f"must be {what}, got {kind_of(details['input'])}{hint}"

    return says


def _context(details: ErrorDetails) -> dict[str, Any]:
    return details.get("ctx", {})


_WORDS: Mapping[str, Callable[[ErrorDetails], str]] = {
    "missing": lambda details: "is missing",
    "extra_forbidden": _unknown_field,
    "value_error": lambda details: str(_context(details)["error"]),
    "string_type": _must_be("text"),
    "string_unicode": lambda details: "holds characters that are not Unicode text",
    "bool_type": _must_be("true or false"),
    "tuple_type": _must_be("a list"),
    "model_type": _must_be("an object"),
    "model_attributes_type": _must_be("an object"),
    "string_too_long": lambda details: (
        f"has {len(details['input']):,} characters; at most {_context(details)['max_length']:,} are allowed"
    ),
    "too_long": lambda details: f"has more than {_context(details)['max_length']} entries",
    "literal_error": lambda details: f"must be {_context(details)['expected']}, got {details['input']!r}",
    "string_pattern_mismatch": lambda details: (
        f"is {str(details['input'])[:80]!r}, which does not match {_context(details)['pattern']}"
    ),
}
