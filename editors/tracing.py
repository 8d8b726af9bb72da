"""Causal tracing: which hidden states of a prompt carry a fact from its subject to the answer.

A clean run gives the answer. In a corrupted run, noise on the embeddings of the subject's tokens hides who is meant. In
a restored run, one clean state is put back at one token, and the indirect effect is how much more probable the answer
gets:

    effect(layer, token) = mean over noise draws of P(answer | restored) - P(answer | corrupted)

Three kinds are put back: the hidden state after one layer, or what the MLPs or the attentions write in a window of
layers around it. The noise is Gaussian, 3 times as wide as the embeddings of all traced subjects' tokens spread.

What a restoration can't change is not computed again: the layers below it, and the tokens before it, whose keys and
values are kept from the corrupted run (tails.py). The vocabulary is projected for all restorations together. At tokens
before the subject nothing is corrupted, and the effect is 0.

Source: Meng et al. 2022 (ROME), section 2, arXiv:2202.05262.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerFast

from editors.decoding import Progress
from editors.errors import InvalidConfigError
from editors.hooks import inputs_of, outputs_of, rewritten
from editors.layouts import attention_module, backbone_of, depth_of, layer_module, layers_of, mlp_module, project
from editors.tails import Tails, rerun
from editors.tokens import Row, answer_row, prompt_row

KINDS: dict[str, Callable[[PreTrainedModel, int], nn.Module]] = {
    "hidden": layer_module,
    "mlp": mlp_module,
    "attention": attention_module,
}
"""What can be put back, and the module of a layer that writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """How to trace; the defaults are the paper's.

    Attributes:
        samples: noise draws a prompt.
        noise: its standard deviation, in standard deviations of the subjects' embeddings.
        window: over how many layers MLP and attention outputs are put back, as a share of the model's depth; the
            paper takes 10 of 48.
        seed: of the noise, which is drawn on the CPU whatever the device.
        budget: tokens in a forward pass.
    """

    samples: int = 10
    noise: float = 3.0
    window: float = 10 / 48
    seed: int = 0
    budget: int = 2048

    def __post_init__(self) -> None:
        for name in ("samples", "noise", "window", "budget"):
            if not getattr(self, name) > 0:
                raise InvalidConfigError(f"{name} is {getattr(self, name)}; it must be above 0")


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
        effects: mean indirect effect of each kind.
    """

    question: Question
    tokens: tuple[str, ...]
    subject: range
    answer: str
    clean: float
    corrupted: float
    noise: float
    window: int
    effects: Mapping[str, Float[Tensor, "layers tokens"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A corrupted run, and what the restored ones take from it.

    Attributes:
        ids: the prompt, once for each draw of noise.
        entering: what enters each layer.
        cache: attention keys and values, a pair a layer, (rows, attention heads, tokens, head size).
        end: the final, normed hidden state at the last token.
    """

    ids: Int[Tensor, "rows tokens"]
    entering: Sequence[Float[Tensor, "rows tokens d_model"]]
    cache: Sequence[tuple[Tensor, Tensor]]
    end: Float[Tensor, "rows d_model"]

    def tails(self, *, layer: int, token: int) -> Tails:
        """Return what a change at a token and a layer leads to."""
        rows, length = self.ids.shape
        positions = torch.arange(token, length, device=self.ids.device)
        return Tails(
            first=layer,
            ids=self.ids[:, token:],
            mask=torch.ones_like(self.ids),
            positions=positions.expand(rows, -1),
            entering=self.entering[layer][:, token:],
            before=tuple((keys[:, :, :token], values[:, :, :token]) for keys, values in self.cache),
        )


def trace(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    questions: Sequence[Question],
    *,
    settings: Tracing,
    progress: Progress | None = None,
) -> list[Trace]:
    """Trace some questions; the model stays as it is.

    Args:
        model: the model that is asked.
        tokenizer: its own.
        questions: the noise is as wide as all their subjects' embeddings ask for.
        settings: how to trace.
        progress: told of questions.

    Raises:
        SubjectNotFoundError: a prompt does not name its subject.
        InvalidFactError: a given answer has no token of its own.
    """
    rows = [prompt_row(tokenizer, question.prompt, question.subject) for question in questions]
    answers = [_given_answer(tokenizer, question) for question in questions]
    noise = settings.noise * embedding_spread(model, [row.ids[place] for row, subject in rows for place in subject])
    found: list[Trace] = []
    for question, (row, subject), answer in zip(questions, rows, answers, strict=True):
        found.append(_trace(model, tokenizer, question, row, subject, answer=answer, noise=noise, settings=settings))
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
    *,
    answer: int | None,
    noise: float,
    settings: Tracing,
) -> Trace:
    ids = torch.tensor([row.ids], device=model.device)
    modules = {kind: [of(model, layer) for layer in range(depth_of(model))] for kind, of in KINDS.items()}
    end, states = _clean_run(model, ids, modules)
    answer = int(project(model, end).argmax()) if answer is None else answer
    window = max(1, round(settings.window * depth_of(model)))
    after, corrupted = 0.0, 0.0
    for drawn in _draws(model, settings, tokens=len(subject)).split(max(1, settings.budget // len(row.ids))):
        run = _corrupted_run(model, ids, noise * drawn, start=subject.start)
        ends = [
            _restored_end(model, run, modules[kind], states[kind], layers=layers, token=token)
            for kind in KINDS
            for layers in windows(depth_of(model), width=1 if kind == "hidden" else window)
            for token in range(subject.start, len(row.ids))
        ]
        restored = _probability(model, torch.cat(ends), answer, budget=settings.budget)
        after += restored.view(len(KINDS), depth_of(model), -1, len(drawn)).sum(-1) / settings.samples
        corrupted += _probability(model, run.end, answer, budget=settings.budget).sum() / settings.samples
    effects = torch.nn.functional.pad(after - corrupted, (subject.start, 0)).float()
    return Trace(
        question=question,
        tokens=tuple(cast(str, tokenizer.decode([token])) for token in row.ids),
        subject=subject,
        answer=cast(str, tokenizer.decode([answer])),
        clean=float(_probability(model, end, answer, budget=settings.budget)),
        corrupted=float(corrupted),
        noise=noise,
        window=window,
        effects=dict(zip(KINDS, effects, strict=True)),
    )


def windows(depth: int, *, width: int) -> list[range]:
    """Return the window of layers around each layer, cut where the model ends."""
    starts = [layer - width // 2 for layer in range(depth)]
    return [range(max(0, start), min(depth, start + width)) for start in starts]


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


def _clean_run(
    model: PreTrainedModel, ids: Int[Tensor, "1 tokens"], modules: Mapping[str, Sequence[nn.Module]]
) -> tuple[Float[Tensor, "1 d_model"], dict[str, list[Float[Tensor, "tokens d_model"]]]]:
    """Return the final hidden state at the last token, and what all modules of each kind write."""
    every = [module for of_kind in modules.values() for module in of_kind]
    output, written = outputs_of(every, lambda: backbone_of(model)(input_ids=ids, use_cache=False))
    states = iter(written)
    return output.last_hidden_state[:, -1], {
        kind: [next(states)[0] for _ in of_kind] for kind, of_kind in modules.items()
    }


def _corrupted_run(
    model: PreTrainedModel, ids: Int[Tensor, "1 tokens"], noise: Float[Tensor, "rows subject d_model"], *, start: int
) -> _Run:
    ids = ids.expand(len(noise), -1)
    cache = DynamicCache()
    behind = ids.shape[1] - start - noise.shape[1]
    added = torch.nn.functional.pad(noise, (0, 0, start, behind))
    with rewritten([model.get_input_embeddings()], [lambda embedded: embedded + added]):
        output, entering = inputs_of(
            list(layers_of(model)),
            lambda: backbone_of(model)(input_ids=ids, past_key_values=cache, use_cache=True),
        )
    return _Run(
        ids=ids,
        entering=entering,
        cache=[(cast(Tensor, layer.keys), cast(Tensor, layer.values)) for layer in cache.layers],
        end=output.last_hidden_state[:, -1],
    )


def _restored_end(
    model: PreTrainedModel,
    run: _Run,
    modules: Sequence[nn.Module],
    states: Sequence[Float[Tensor, "tokens d_model"]],
    *,
    layers: range,
    token: int,
) -> Float[Tensor, "rows d_model"]:
    """Return the final hidden state at the last token, where some layers write the clean states at a token."""

    def restore(clean: Float[Tensor, " d_model"], written: Float[Tensor, "rows tokens d_model"]) -> Tensor:
        return torch.cat([clean.expand(len(written), 1, -1), written[:, 1:]], dim=1)

    chosen = slice(layers.start, layers.stop)
    with rewritten(modules[chosen], [partial(restore, state[token]) for state in states[chosen]]):
        return rerun(model, run.tails(layer=layers.start, token=token))[:, -1]


def _probability(
    model: PreTrainedModel, ends: Float[Tensor, "ends d_model"], answer: int, *, budget: int
) -> Float[Tensor, " ends"]:
    """Return how probable the answer is behind each final hidden state, in float64."""
    return torch.cat([project(model, part).double().softmax(-1)[:, answer] for part in ends.split(budget)])
