"""A fact: the editor's view of a correction, and the only form in which one reaches an editor."""

from __future__ import annotations

from dataclasses import dataclass

from editors.errors import InvalidFactError


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What the model shall say when a prompt about a subject is completed.

    Attributes:
        id: the caller's name for it; it appears in errors.
        subject: what the fact is about, as it is written in the prompt.
        prompt: the text before the answer, with exactly one `{}` for the subject.
        target: what the model shall say.
        prior: what it says or said before, where that is known.
    """

    id: str
    subject: str
    prompt: str
    target: str
    prior: str | None = None

    def __post_init__(self) -> None:
        places = self.prompt.count("{}")
        if places != 1:
            raise InvalidFactError(
                f"fact {self.id}: the prompt {self.prompt!r} has {places} places '{{}}' for the subject; "
                "it needs exactly one"
            )
        for name in ("subject", "target"):
            if not getattr(self, name).strip():
                raise InvalidFactError(f"fact {self.id}: the {name} is empty; say what it is")
        if self.prior is not None and self.prior.strip() == self.target.strip():
            raise InvalidFactError(f"fact {self.id}: target and prior are both {self.target!r}; nothing to edit")

    @property
    def filled(self) -> str:
        """The prompt with the subject in its place."""
        return self.prompt.replace("{}", self.subject)
