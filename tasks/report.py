"""Report: what was measured on one candidate; it holds no clock times, so the same edit reports the same."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

METRICS = (
    "efficacy.logprob",
    "efficacy.argmax",
    "efficacy.generation",
    "generalization.logprob",
    "generalization.argmax",
    "generalization.generation",
    "retention.argmax",
    "retention.generation",
    "specificity.kept",
    "specificity.argmax",
    "specificity.kl_median",
    "specificity.kl_p95",
    "regression.perplexity",
    "regression.perplexity_ratio",
)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Metric(_Record):
    """One number before and after, over how many prompts (tokens, for perplexity).

    Attributes:
        before: of the base; None where the question makes no sense there.
        after: of the patched model; None where nothing could be asked.
        count: prompts, or tokens.
    """

    before: float | None
    after: float | None
    count: int


class Answer(_Record):
    """One prompt, what was said before and after, and whether it is what should be said.

    Attributes:
        right: the answer begins with the target, or with the neighbour's own answer; None where none is known.
        was_right: the same of the base's answer.
    """

    correction: str
    kind: str
    prompt: str
    target: str
    before: str
    after: str
    was_right: bool | None
    right: bool | None


class Report(_Record):
    """What was measured on one candidate."""

    metrics: dict[str, Metric]
    answers: tuple[Answer, ...]

    def of_kind(self, kind: str) -> tuple[Answer, ...]:
        """The answers to one kind of question."""
        return tuple(answer for answer in self.answers if answer.kind == kind)
