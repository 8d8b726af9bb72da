"""Causal tracing: which hidden states of a prompt carry a fact from its subject to the answer.

A clean run gives the answer. In a corrupted run, noise on the embeddings of the subject's tokens hides who is meant. In
a restored run, one clean state is put back at one token, and the indirect effect is how much more probable the answer
gets:

    effect(layer, token) = mean over noise draws of P(answer | restored) - P(answer | corrupted)

Three kinds are put back: the hidden state after one layer, or what the MLPs or the attentions write in a window of
layers around it. The noise is Gaussian, 3 times as wide as the embeddings of all traced subjects' tokens spread.

At tokens before the subject nothing is corrupted, and the effect is 0. What the runs cost is in restoring.py: it grows
with the square of the tokens from the subject on, so that an average over prompts traces some of them (roles.py).

Source: Meng et al. 2022 (ROME), section 2, arXiv:2202.05262.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.decoding import Progress
from editors.layouts import depth_of, project
from editors.ranges import above_zero
from editors.restoring import (
    KINDS,
    CleanRun,
    CorruptedRun,
    Restoration,
    restorations_of,
    run_clean,
    run_corrupted,
    run_restored,
)
from editors.tokens import Row, answer_row, prompt_row

_ENDS = 128  # final hidden states whose whole vocabulary is in memory at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """How to trace; the defaults are the paper's.

    Attributes:
        samples: noise draws a prompt.
        noise: its standard deviation, in standard deviations of the subjects' embeddings.
        window: over how many layers MLP and attention outputs are put back, as a share of the model's depth; the
            paper takes 10 of 48.
        every: put something back around every so many layers, from the first on.
        seed: of the noise, which is drawn on the CPU whatever the device.
        budget: tokens in a forward pass.
    """

    samples: int = 10
    noise: float = 3.0
    window: float = 10 / 48
    every: int = 1
    seed: int = 0
    budget: int = 2048

    def __post_init__(self) -> None:
        above_zero(self, "samples", "noise", "window", "every", "budget")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A prompt to trace.

    Attributes:
        prompt: the text before the answer.
        subject: what it is about, as it is written in the prompt.
        answer: what to look for; by default what the model itself says. Its first token counts.
    """

    prompt: str
    subject: str
    answer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Where the answer to one question comes from.

    Attributes:
        question: what was asked.
        tokens: of the prompt as text, BOS first.
        subject: positions of the subject's tokens.
        answer: the token whose probability is followed.
        clean: its probability in the clean run.
        corrupted: its mean probability over the corrupted runs.
        noise: standard deviation of what was added to the embeddings.
        window: layers over which MLP and attention outputs were put back.
        layers: around which something was put back.
        effects: mean indirect effect of each kind, NaN at tokens that were not traced.
    """

    question: Question
    tokens: tuple[str, ...]
    subject: range
    answer: str
    clean: float
    corrupted: float
    noise: float
    window: int
    layers: range
    effects: Mapping[str, Float[Tensor, "layers tokens"]]


def all_from(subject: range, length: int) -> Sequence[int]:
    """Return the tokens of a prompt from its subject's first on: all that the noise can reach."""
    return range(subject.start, length)


def trace(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    questions: Sequence[Question],
    *,
    settings: Tracing,
    choose: Callable[[range, int], Sequence[int]] = all_from,
    progress: Progress | None = None,
) -> list[Trace]:
    """Trace some questions; the model stays as it is.

    Args:
        model: the model that is asked.
        tokenizer: its own.
        questions: the noise is as wide as all their subjects' embeddings ask for.
        settings: how to trace.
        choose: from the subject's tokens and a prompt's length to the tokens to trace, in ascending order.
        progress: told of questions.

    Raises:
        SubjectNotFoundError: a prompt does not name its subject.
        InvalidFactError: a given answer has no token of its own.
    """
    if not questions:
        return []
    rows = [prompt_row(tokenizer, question.prompt, question.subject) for question in questions]
    answers = [_given_answer(tokenizer, question) for question in questions]
    noise = settings.noise * embedding_spread(model, [row.ids[place] for row, subject in rows for place in subject])
    found: list[Trace] = []
    for question, (row, subject), answer in zip(questions, rows, answers, strict=True):
        tokens = choose(subject, len(row.ids))
        found.append(
            _trace(model, tokenizer, question, row, subject, tokens, answer=answer, noise=noise, settings=settings)
        )
        if progress is not None:
            progress("traces", len(found), len(rows))
    return found


@torch.no_grad()
def embedding_spread(model: PreTrainedModel, tokens: Sequence[int]) -> float:
    """Return the standard deviation of all numbers in some tokens' embeddings."""
    embedded = model.get_input_embeddings()(torch.tensor(tokens, device=model.device))
    return float(embedded.double().std())


@torch.no_grad()
def _trace(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    question: Question,
    row: Row,
    subject: range,
    tokens: Sequence[int],
    *,
    answer: int | None,
    noise: float,
    settings: Tracing,
) -> Trace:
    ids, depth = torch.tensor([row.ids], device=model.device), depth_of(model)
    window = max(1, round(settings.window * depth))
    clean = run_clean(model, ids)
    answer = int(project(model, clean.end).argmax()) if answer is None else answer
    layers = range(0, depth, settings.every)
    wanted = restorations_of(depth, window=window, every=settings.every)
    after = torch.zeros(len(wanted), len(tokens), dtype=torch.float64)
    corrupted = torch.zeros((), dtype=torch.float64)
    for drawn in _draws(model, settings, tokens=len(subject)).split(max(1, settings.budget // len(row.ids))):
        run = run_corrupted(model, ids, noise * drawn, subject.start)
        ends = torch.stack(
            [_restored(model, run, clean, wanted, token=token, budget=settings.budget) for token in tokens], dim=1
        )
        restored = _probability(model, ends.flatten(end_dim=-2), answer).view(ends.shape[:-1])
        after += restored.sum(-1) / settings.samples
        corrupted += _probability(model, run.end, answer).sum() / settings.samples
    effects = torch.full((len(wanted), len(row.ids)), float("nan"))
    effects[:, : subject.start] = 0
    effects[:, list(tokens)] = (after - corrupted).float()
    return Trace(
        question=question,
        tokens=tuple(cast(str, tokenizer.decode([token])) for token in row.ids),
        subject=subject,
        answer=cast(str, tokenizer.decode([answer])),
        clean=float(_probability(model, clean.end, answer)),
        corrupted=float(corrupted),
        noise=noise,
        window=window,
        layers=layers,
        effects=dict(zip(KINDS, effects.view(len(KINDS), len(layers), -1), strict=True)),
    )


def _restored(
    model: PreTrainedModel,
    run: CorruptedRun,
    clean: CleanRun,
    wanted: Sequence[Restoration],
    *,
    token: int,
    budget: int,
) -> Float[Tensor, "restorations draws d_model"]:
    """Return the final hidden state at the last token for each restoration, those from one layer on together."""
    together: dict[int, list[int]] = {}
    for index, restoration in enumerate(wanted):
        together.setdefault(restoration.layers.start, []).append(index)
    at_once = max(1, budget // run.ids[:, token:].numel())
    ends = run.end.new_empty(len(wanted), *run.end.shape)
    for group in together.values():
        for first in range(0, len(group), at_once):
            chosen = group[first : first + at_once]
            ends[chosen] = run_restored(model, run, clean, [wanted[index] for index in chosen], token=token)
    return ends


def _given_answer(tokenizer: PreTrainedTokenizerFast, question: Question) -> int | None:
    if question.answer is None:
        return None
    row = answer_row(tokenizer, question.prompt, question.answer)
    return row.ids[row.target]


def _draws(model: PreTrainedModel, settings: Tracing, *, tokens: int) -> Float[Tensor, "samples tokens d_model"]:
    generator = torch.Generator().manual_seed(settings.seed)
    width = cast(Tensor, model.get_input_embeddings().weight).shape[1]
    drawn = torch.randn(settings.samples, tokens, width, generator=generator)
    return drawn.to(model.device, model.dtype)


def _probability(model: PreTrainedModel, ends: Float[Tensor, "ends d_model"], answer: int) -> Float[Tensor, " ends"]:
    """Return how probable the answer is behind each final hidden state."""
    found: list[Tensor] = []
    for part in ends.split(_ENDS):
        logits = project(model, part).float()
        found.append((logits[:, answer] - logits.logsumexp(-1)).double().exp())
    return torch.cat(found).cpu()
