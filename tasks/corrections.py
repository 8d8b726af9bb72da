"""A correction: what a requester submits, checked at the boundary.

This is the shape of one record: its fields, their types and lengths, its dates, and text without invisible characters.
What shows only beside other corrections, against a tokenizer or on a clock is `tasks/validate.py`'s. A correction is
immutable; everything but its id and how it is edited is its content, and unless the requester names it, the id is
derived from that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import to_jsonable_python

from editors.digests import digest_of
from editors.facts import Fact
from governance.changes import content_digest
from tasks.companions import Companion, Consequence, Hop, Inverse, companions_of
from tasks.texts import (
    MAX_ITEMS,
    MAX_PROMPT,
    PLACE,
    Identifier,
    Moment,
    Person,
    Pointer,
    Prompt,
    Reason,
    Relation,
    Subject,
    Target,
    Written,
    clean,
    folded,
    normalised,
    one_place,
    relation_of,
)

LATER = ("consequences", "portability")
"""Fields that are no part of the content where they are empty, so that a correction without them keeps its digest."""


class Neighbour(Written):
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


class Evidence(Written):
    """Where a reviewer can check the correction; a bare string in a file is its value.

    Attributes:
        kind: an address, which is stored and never fetched, or a file, which is kept by its digest.
        value: the address, or the file's path.
        sha256: the digest of the file's bytes, once it is kept.
    """

    kind: Literal["address", "file"]
    value: Pointer
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


class Editing(Written):
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


class Correction(Written):
    """One fact that the model has wrong, and what is right instead.

    Attributes:
        subject: what the fact is about, as it is written in the prompt.
        prompt: the text before the answer, with exactly one `{}` where the subject stands.
        target: what the model shall say.
        prior: what it says or said before.
        relation: what kind of fact it is; by default the normalised prompt.
        multi_valued: whether a subject may have several targets in this relation.
        aliases: other names of the subject, under which it is edited in too.
        paraphrases: other ways to ask; a template with one `{}`, kept as the text filled with the subject, or a text
            that names the subject or an alias.
        neighbours: prompts about other subjects, whose answers must not change.
        inverse: the same fact from its other end; edited in with it, unless it says otherwise.
        consequences: facts that follow, edited in with it.
        portability: questions whose answers should follow by themselves; only asked.
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
    consequences: tuple[Consequence, ...] = Field(
        default=(), strict=False, max_length=MAX_ITEMS, exclude_if=lambda given: not given
    )
    portability: tuple[Hop, ...] = Field(
        default=(), strict=False, max_length=MAX_ITEMS, exclude_if=lambda given: not given
    )
    supersedes: Identifier | None = None
    reason: Reason = ""
    evidence: tuple[Evidence, ...] = Field(default=(), strict=False, max_length=MAX_ITEMS)
    requester: Person | None = None
    effective: Moment | None = None
    expires: Moment | None = None
    # Behind the content, because its default is derived from all the fields above.
    id: Identifier = Field(default_factory=lambda content: f"c-{_digest(content)[:12]}")
    editing: Editing | None = None

    def content_digest(self) -> str:
        """Return the digest of all that was asked for: everything but the id and how it is edited."""
        return content_digest(self.model_dump(mode="json"))

    def fact(self) -> Fact:
        """Return the editor's view of the correction alone."""
        return Fact(id=self.id, subject=self.subject, prompt=self.prompt, target=self.target, prior=self.prior)

    def facts(self) -> tuple[Fact, ...]:
        """Return the editor's view of all that is edited in: the correction and its companions."""
        return (self.fact(), *(companion.fact() for companion in self.companions()))

    def companions(self) -> tuple[Companion, ...]:
        """Return what is edited in with it: its aliases, its inverse and its consequences."""
        return companions_of(self)

    @property
    def filled_prompt(self) -> str:
        """The prompt with the subject in its place."""
        return self.asked_of(self.subject)

    def asked_of(self, name: str) -> str:
        """Return the prompt with one of the subject's names in its place."""
        return self.prompt.replace(PLACE, name)

    @field_validator("prompt")
    @classmethod
    def _prompt_has_one_place(cls, prompt: str, info: ValidationInfo) -> str:
        return one_place(prompt, info.data.get("subject"))

    @field_validator("paraphrases")
    @classmethod
    def _paraphrases_name_the_subject(cls, paraphrases: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "subject" not in info.data:
            return paraphrases
        names = (info.data["subject"], *info.data.get("aliases", ()))
        return tuple(_filled(text, names, number) for number, text in enumerate(paraphrases, start=1))

    @field_validator("inverse")
    @classmethod
    def _inverse_names_the_target(cls, inverse: Inverse | None, info: ValidationInfo) -> Inverse | None:
        return inverse and inverse.about(info.data["target"]) if "target" in info.data else inverse

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        said = {folded(self.filled_prompt): self.target}
        for companion in self.companions():
            other = said.setdefault(folded(companion.question), companion.target)
            if normalised(other) != normalised(companion.target):
                raise ValueError(
                    f"answers {companion.question!r} with {other!r} and, as {companion.what}, with "
                    f"{companion.target!r}; keep one"
                )
        return self

    @model_validator(mode="after")
    def _dates_in_order(self) -> Self:
        if self.effective and self.expires and self.expires <= self.effective:
            raise ValueError(f"expires on {self.expires:%Y-%m-%d}, not after it takes effect; correct one of the dates")
        return self


def read_corrections(lines: bytes) -> list[Correction]:
    """Return the corrections of a candidate as they were stored, one JSON object a line."""
    return [Correction.model_validate_json(line) for line in lines.splitlines()]


def _digest(content: Mapping[str, Any]) -> str:
    return digest_of(to_jsonable_python({name: value for name, value in content.items() if value or name not in LATER}))


def _filled(paraphrase: str, names: Sequence[str], number: int) -> str:
    """Return a paraphrase with the first of the names in its place, if it has one."""
    text = paraphrase.replace(PLACE, names[0], 1)
    if PLACE in text:
        raise ValueError(f"number {number} has more than one {{}}; leave one")
    if not any(normalised(name) in normalised(text) for name in names):
        raise ValueError(f"number {number} names neither {names[0]!r} nor an alias; put {{}} in its place")
    return clean(text, limit=MAX_PROMPT)
