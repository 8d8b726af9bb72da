"""Chat: the same prompts once more, as a user's message in the base's chat template.

Users meet the model in that form, and what holds behind a bare prompt need not hold there: the subject is copied from
the message into the answer, and the edit meets it twice. The two forms are never mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from editors.answers import beyond, starts_with
from editors.decoding import Progress
from editors.scoring import Probe, chat_answers
from tasks.probes import Question
from tasks.report import Said

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

KINDS = ("efficacy", "generalization", "retention")


def asked_in_chat(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    probes: Sequence[Probe],
    *,
    progress: Progress | None = None,
) -> list[str | None]:
    """What a model answers to each probe through its chat template; None without one, and to probes of other kinds."""
    if not tokenizer.chat_template:
        return [None] * len(probes)
    answers = iter(
        chat_answers(model, tokenizer, [probe for probe in probes if probe.kind in KINDS], progress=progress)
    )
    return [next(answers) if probe.kind in KINDS else None for probe in probes]


def with_chat(said: Sequence[Said], questions: Sequence[Question], answers: Sequence[str | None]) -> list[Said]:
    """Add to what a model said what it answers through its chat template.

    Args:
        said: to each question.
        questions: in the same order.
        answers: as `asked_in_chat` gives them.
    """
    return [
        each if answer is None else each.model_copy(update=_judged(answer, question.probe, question.subject))
        for each, question, answer in zip(said, questions, answers, strict=True)
    ]


def _judged(answer: str, probe: Probe, subject: str) -> dict[str, bool | str]:
    past = beyond(answer, probe.prompt, subject=subject)
    right = starts_with(answer, probe.target) or starts_with(past, probe.target)
    return {"chat": right, "chat_text": answer}
