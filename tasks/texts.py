"""Texts as a requester writes them: what they may hold, how they are compared, and the types that say so.

A text is kept in NFC with single spaces, and holds nothing that a reviewer can't see. Names and prompts are compared
without case and by compatibility form.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

PLACE = "{}"
MAX_ID = 64
MAX_SUBJECT = 200
MAX_PROMPT = 500
MAX_RELATION = 3 * MAX_PROMPT  # casefolding can lengthen a prompt so much
MAX_TARGET = 200
MAX_REASON = 2_000
MAX_EVIDENCE = 2_000
MAX_ITEMS = 50

# Control characters, and those that hide or reorder what a reviewer sees: soft hyphen, zero-width, bidirectional
# formatting, line and paragraph separators, interlinear and musical formatting, tags, lone surrogates.
FORBIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff"
    "\ufeff\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)


def clean(text: str, *, limit: int) -> str:
    """Return `text` in NFC with single spaces and none around it.

    Raises:
        ValueError: it is empty, too long, or holds a character that cannot be seen.
    """
    if found := FORBIDDEN.search(text):
        raise ValueError(f"holds the control or invisible character U+{ord(found[0]):04X}; remove it")
    text = " ".join(unicodedata.normalize("NFC", text).split())
    if not text:
        raise ValueError("is empty")
    if len(text) > limit:
        raise ValueError(f"has {len(text):,} characters; at most {limit:,} are allowed")
    return text


def normalised(text: str) -> str:
    """Return `text` as two names are compared: NFKC, casefolded, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def relation_of(template: str) -> str:
    """Return a prompt template as a relation's name: casefolded, single spaces, no punctuation at its end."""
    return " ".join(unicodedata.normalize("NFC", template.casefold()).split()).rstrip(" .,:;?!…")


def folded(question: str) -> str:
    """Return a question as two of them are compared: as names are, without punctuation at its end."""
    return relation_of(normalised(question))


def one_place(prompt: str, subject: str | None) -> str:
    """Return a prompt that has exactly one place for its subject.

    Raises:
        ValueError: it has none or several, or another brace.
    """
    places = prompt.count(PLACE)
    if places > 1:
        raise ValueError(f"has {places} places {{}} for the subject; leave exactly one")
    if not places and subject and normalised(subject) in normalised(prompt):
        raise ValueError(f"is filled in already: write {{}} where {subject!r} stands")
    if not places:
        raise ValueError("has no {} where the subject belongs; write exactly one")
    if prompt.count("{") + prompt.count("}") > 2:
        raise ValueError("has a brace beside its {}; remove it")
    return prompt


def no_place(subject: str) -> str:
    """Return a subject that is none of a prompt's places.

    Raises:
        ValueError: it holds one.
    """
    if PLACE in subject:
        raise ValueError("holds {}, which marks its place in a prompt; write the subject itself")
    return subject


def _cleaner(limit: int) -> Callable[[str], str]:
    return lambda text: clean(text, limit=limit)


def _one_line(value: Any) -> Any:  # noqa: ANN401 - not yet validated
    return " ".join(value.split()) if isinstance(value, str) else value


def _moment(value: Any) -> Any:  # noqa: ANN401 - not yet validated
    """Read a date or a time in ISO form; one without a zone is UTC; seconds are precise enough."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise ValueError(f"is not a date: {value!r}; write it as 2025-09-01 or 2025-09-01T12:00:00Z") from error
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime):
        raise ValueError(f"must be a date, got {type(value).__name__}; write it as 2025-09-01")
    try:
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)
    except OverflowError as error:
        raise ValueError(f"is out of range: {value.isoformat()}") from error


Identifier = Annotated[str, Field(pattern=rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_ID - 1}}}$")]
Subject = Annotated[str, AfterValidator(_cleaner(MAX_SUBJECT)), AfterValidator(no_place)]
Person = Annotated[str, AfterValidator(_cleaner(MAX_SUBJECT))]
Prompt = Annotated[str, AfterValidator(_cleaner(MAX_PROMPT))]
Relation = Annotated[str, AfterValidator(lambda text: clean(relation_of(text), limit=MAX_RELATION))]
Target = Annotated[str, AfterValidator(_cleaner(MAX_TARGET))]
Pointer = Annotated[str, AfterValidator(_cleaner(MAX_EVIDENCE))]
Reason = Annotated[str, BeforeValidator(_one_line), Field(max_length=MAX_REASON)]
Moment = Annotated[datetime, BeforeValidator(_moment)]


class Written(BaseModel):
    """Something that a requester wrote: immutable, no field that it does not know, and nothing of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
