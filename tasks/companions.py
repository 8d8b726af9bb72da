"""Companions: facts that follow from a correction, and are edited in, approved and withdrawn with it.

An alias is a further name with the same target; an inverse is the fact from its other end; a consequence is a fact of
its own. What a requester wants asked, but not edited in, is an inverse with `edit` false, or a question of portability.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from editors.facts import Fact
from tasks.texts import PLACE, Prompt, Subject, Target, Written, normalised, one_place

if TYPE_CHECKING:
    from tasks.corrections import Correction


class Inverse(Written):
    """The same fact asked from its other end: "Kelly Ortberg is the CEO of" and "Boeing".

    Attributes:
        prompt: the text before the answer; a template with one `{}` is kept filled with the correction's target.
        target: what the model shall say.
        edit: whether it is edited in with the correction; if not, it is only asked.
    """

    prompt: Prompt
    target: Target
    edit: bool = Field(default=True, exclude_if=lambda edit: edit)

    def about(self, subject: str) -> Self:
        """Return it with the correction's target in its place.

        Raises:
            ValueError: it is to be edited in, and has no place for that.
        """
        filled = self.prompt.replace(PLACE, subject, 1)
        if PLACE in filled.replace(subject, ""):
            raise ValueError("has a prompt with more than one {}; leave one")
        if self.edit and subject not in filled:
            raise ValueError(
                f"does not name {subject!r} in its prompt; put {{}} in its place, or set edit to false to have it "
                "asked and not edited in"
            )
        return self.model_copy(update={"prompt": filled})


class Consequence(Written):
    """A fact that follows from a correction, and is edited in with it.

    Attributes:
        subject: what it is about.
        prompt: the text before the answer, with exactly one `{}` where the subject stands.
        target: what the model shall say.
        prior: what it says or said before.
    """

    subject: Subject
    prompt: Prompt
    target: Target
    prior: Target | None = None

    @field_validator("prompt")
    @classmethod
    def _prompt_has_one_place(cls, prompt: str, info: ValidationInfo) -> str:
        return one_place(prompt, info.data.get("subject"))

    @model_validator(mode="after")
    def _corrects_something(self) -> Self:
        if self.prior and normalised(self.prior) == normalised(self.target):
            raise ValueError(f"has a target that says the same as its prior, {self.prior!r}; leave the prior out")
        return self


class Step(Written):
    """A question, and the answer that is right."""

    prompt: Prompt
    answer: Target


class Hop(Step):
    """A question whose answer should follow from a correction by itself; it is asked, and not edited in.

    Attributes:
        given: what a model has to know besides; where the base doesn't, the question is left out.
    """

    given: Step | None = None


Kind = Literal["inverse", "portability"]

MARK = "+"
"""Stands in a companion's id behind the correction's, in which there can be none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """A fact that is edited in with a correction.

    Attributes:
        id: the correction's, and what it is of that.
        kind: what it would be asked as, were it not edited in.
        what: in words.
    """

    id: str
    kind: Kind
    what: str
    subject: str
    prompt: str
    target: str
    prior: str | None = None

    @property
    def question(self) -> str:
        """The prompt with the subject in its place."""
        return self.prompt.replace(PLACE, self.subject)

    def fact(self) -> Fact:
        """Return the editor's view of it."""
        return Fact(id=self.id, subject=self.subject, prompt=self.prompt, target=self.target, prior=self.prior)


def companions_of(correction: Correction) -> tuple[Companion, ...]:
    """Return what is edited in with a correction, each question once."""
    asked = {correction.filled_prompt}
    return tuple(each for each in _companions(correction) if not (each.question in asked or asked.add(each.question)))


def owner_of(fact: Fact) -> str:
    """Return the id of the correction that a fact is edited in with."""
    return fact.id.partition(MARK)[0]


def facts_of(corrections: Iterable[Correction]) -> list[Fact]:
    """Return the editor's view of some corrections: what several of them say is one fact, and a correction's own first.

    An answer that is the same but for its spelling, as an inverse may name a subject by its alias, is the same.
    """
    ordered = sorted(corrections, key=lambda correction: correction.id)
    own = [correction.fact() for correction in ordered]
    following = [companion.fact() for correction in ordered for companion in correction.companions()]
    asked = {fact.filled for fact in own}
    return [*own, *(fact for fact in following if not (fact.filled in asked or asked.add(fact.filled)))]


def _companions(correction: Correction) -> Iterator[Companion]:
    for number, alias in enumerate(correction.aliases, start=1):
        yield Companion(
            id=f"{correction.id}{MARK}alias{number}",
            kind="portability",
            what=f"the alias {alias!r}",
            subject=alias,
            prompt=correction.prompt,
            target=correction.target,
            prior=correction.prior,
        )
    inverse = correction.inverse
    if inverse and inverse.edit:
        yield Companion(
            id=f"{correction.id}{MARK}inverse",
            kind="inverse",
            what="the inverse",
            subject=correction.target,
            prompt=inverse.prompt.replace(correction.target, PLACE, 1),
            target=inverse.target,
        )
    for number, each in enumerate(correction.consequences, start=1):
        yield Companion(
            id=f"{correction.id}{MARK}{number}",
            kind="portability",
            what=f"consequence {number}",
            subject=each.subject,
            prompt=each.prompt,
            target=each.target,
            prior=each.prior,
        )
