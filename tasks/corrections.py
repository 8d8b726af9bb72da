"""A correction: what a requester submits, checked at the boundary.

This is the shape of one record: its fields, their types and lengths, its dates, and text without invisible characters.
What shows only beside other corrections, against a tokenizer or on a clock is `tasks/validate.py`'s. A correction is
immutable; everything but its id and how it is edited is its content, and unless the requester names it, the id is
derived from that.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import to_jsonable_python

from editors.digests import digest_of
from editors.facts import Fact

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
Subject = Annotated[str, AfterValidator(_cleaner(MAX_SUBJECT))]
Prompt = Annotated[str, AfterValidator(_cleaner(MAX_PROMPT))]
Relation = Annotated[str, AfterValidator(lambda text: clean(relation_of(text), limit=MAX_RELATION))]
Target = Annotated[str, AfterValidator(_cleaner(MAX_TARGET))]
Reason = Annotated[str, BeforeValidator(_one_line), Field(max_length=MAX_REASON)]
Moment = Annotated[datetime, BeforeValidator(_moment)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Neighbour(_Record):
    """A prompt whose answer must stay as it is; a bare string in a file is its prompt.

    Attributes:
        prompt: the text before the answer.
        answer: what is really right there, where the requester knows it.
    """

    prompt: Prompt
    answer: Target | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:  # noqa: ANN401 - not yet validated
        return {"prompt": value} if isinstance(value, str) else value


class Inverse(_Record):
    """The same fact asked from its other end: "Kelly Ortberg is the CEO of" and "Boeing"."""

    prompt: Prompt
    target: Target


class Evidence(_Record):
    """Where a reviewer can check the correction; a bare string in a file is its value.

    Attributes:
        kind: an address, which is stored and never fetched, or a file, which is kept by its digest.
        value: the address, or the file's path.
        sha256: the digest of the file's bytes, once it is kept.
    """

    kind: Literal["address", "file"]
    value: Annotated[str, AfterValidator(_cleaner(MAX_EVIDENCE))]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:  # noqa: ANN401 - not yet validated
        if not isinstance(value, str):
            return value
        return {"kind": "address" if re.match(r"\s*[a-zA-Z][\w+.-]+:", value) else "file", "value": value}

    @model_validator(mode="after")
    def _check_address(self) -> Self:
        if self.kind == "file":
            return self
        if self.sha256:
            raise ValueError("is an address with a sha256; an address is stored, not fetched: leave the digest out")
        parts = urlsplit(self.value)
        if parts.scheme.lower() not in ("http", "https"):
            raise ValueError(f"is {self.value!r}, neither http nor https; give a web address or a file's path")
        if not parts.hostname or " " in self.value:
            raise ValueError(f"is {self.value!r}, which is not a complete web address")
        if parts.username or parts.password:
            raise ValueError("holds a user name or password; remove it")
        return self


class Editing(_Record):
    """How the value of a fact's subject is optimised, where it is not as for all others; as in `ValueSettings`.

    Attributes:
        steps: at most.
        step_length: of the first step, in lengths of the hidden state.
        clamp: the longest injection, in the same lengths.
    """

    steps: Annotated[int, Field(ge=1, le=200)] | None = None
    step_length: Annotated[float, Field(gt=0, le=1)] | None = None
    clamp: Annotated[float, Field(gt=0, le=10)] | None = None

    def changes(self) -> dict[str, float]:
        """The settings that are given, by name."""
        return self.model_dump(exclude_none=True)


class Correction(_Record):
    """One fact that the model has wrong, and what is right instead.

    Attributes:
        subject: what the fact is about, as it is written in the prompt.
        prompt: the text before the answer, with exactly one `{}` where the subject stands.
        target: what the model shall say.
        prior: what it says or said before.
        relation: what kind of fact it is; by default the normalised prompt.
        multi_valued: whether a subject may have several targets in this relation.
        aliases: other names of the subject.
        paraphrases: other ways to ask; a template with one `{}`, kept as the text filled with the subject, or a text
            that names the subject or an alias.
        neighbours: prompts about other subjects, whose answers must not change.
        inverse: the same fact from its other end.
        supersedes: the id of the active correction that this one replaces.
        reason: why, in the requester's words.
        evidence: where a reviewer can check it.
        requester: who asked for it; None if that is who submitted it.
        effective: from when on it holds; None means at once.
        expires: from when on it no longer holds.
        id: its name; by default `c-` and twelve digits of the content's digest.
        editing: how it is edited; chosen by whoever queues it again, and no part of what was asked for.
    """

    subject: Subject
    prompt: Prompt
    target: Target
    prior: Target | None = None
    relation: Relation = Field(default_factory=lambda content: relation_of(content["prompt"]))
    multi_valued: bool = False
    aliases: tuple[Subject, ...] = Field(default=(), strict=False, max_length=MAX_ITEMS)
    paraphrases: tuple[Prompt, ...] = Field(default=(), strict=False, max_length=MAX_ITEMS)
    neighbours: tuple[Neighbour, ...] = Field(default=(), strict=False, max_length=MAX_ITEMS)
    inverse: Inverse | None = None
    supersedes: Identifier | None = None
    reason: Reason = ""
    evidence: tuple[Evidence, ...] = Field(default=(), strict=False, max_length=MAX_ITEMS)
    requester: Subject | None = None
    effective: Moment | None = None
    expires: Moment | None = None
    # Behind the content, because its default is derived from all the fields above.
    id: Identifier = Field(default_factory=lambda content: f"c-{digest_of(to_jsonable_python(content))[:12]}")
    editing: Editing | None = None

    def content_digest(self) -> str:
        """Return the digest of all that was asked for: everything but the id and how it is edited."""
        return digest_of(self.model_dump(mode="json", exclude={"id", "editing"}))

    def fact(self) -> Fact:
        """Return the editor's view of it."""
        return Fact(id=self.id, subject=self.subject, prompt=self.prompt, target=self.target, prior=self.prior)

    @property
    def filled_prompt(self) -> str:
        """The prompt with the subject in its place."""
        return self.prompt.replace(PLACE, self.subject)

    @field_validator("subject")
    @classmethod
    def _subject_is_no_template(cls, subject: str) -> str:
        if PLACE in subject:
            raise ValueError("holds {}, which marks its place in a prompt; write the subject itself")
        return subject

    @field_validator("prompt")
    @classmethod
    def _prompt_has_one_place(cls, prompt: str, info: ValidationInfo) -> str:
        places = prompt.count(PLACE)
        if places > 1:
            raise ValueError(f"has {places} places {{}} for the subject; leave exactly one")
        if not places and normalised(info.data.get("subject", PLACE)) in normalised(prompt):
            raise ValueError(f"is filled in already: write {{}} where {info.data['subject']!r} stands")
        if not places:
            raise ValueError("has no {} where the subject belongs; write exactly one")
        if prompt.count("{") + prompt.count("}") > 2:
            raise ValueError("has a brace beside its {}; remove it")
        return prompt

    @field_validator("paraphrases")
    @classmethod
    def _paraphrases_name_the_subject(cls, paraphrases: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "subject" not in info.data:
            return paraphrases
        names = (info.data["subject"], *info.data.get("aliases", ()))
        return tuple(_filled(text, names, number) for number, text in enumerate(paraphrases, start=1))

    @model_validator(mode="after")
    def _dates_in_order(self) -> Self:
        if self.effective and self.expires and self.expires <= self.effective:
            raise ValueError(f"expires on {self.expires:%Y-%m-%d}, not after it takes effect; correct one of the dates")
        return self


def _filled(paraphrase: str, names: Sequence[str], number: int) -> str:
    """Return a paraphrase with the first of the names in its place, if it has one."""
    text = paraphrase.replace(PLACE, names[0], 1)
    if PLACE in text:
        raise ValueError(f"number {number} has more than one {{}}; leave one")
    if not any(normalised(name) in normalised(text) for name in names):
        raise ValueError(f"number {number} names neither {names[0]!r} nor an alias; put {{}} in its place")
    return clean(text, limit=MAX_PROMPT)
