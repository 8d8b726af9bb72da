"""Telling whether an edit took: probes are scored by probability, by argmax and by what is written, never mixed.

Probability and argmax come from one pass over the prompts (expectation.py), answers from a second one that writes.
Who only needs to know whether an answer begins with its target asks `says_targets`, which stops writing as soon as
that is settled. Prompts begin with BOS, as everywhere in this library (see tokens.py).
"""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.answers import is_open, natural_stop, starts_with
from editors.decoding import Progress, decode, greedy
from editors.expectation import expect
from editors.facts import Fact
from editors.tokens import Row, answer_row, chat_row, text_row

ANSWER_TOKENS = 24
_ROWS = 32  # of a batch that writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question to a model.

    Attributes:
        fact: the id of the fact that it belongs to.
        kind: which metric it counts for, as in "efficacy", "generalization" or "specificity".
        prompt: the whole text before the answer.
        target: the answer that is looked for.
        prior: the answer that it is weighed against, where there is one.
    """

    fact: str
    kind: str
    prompt: str
    target: str
    prior: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What a model expects behind a probe's prompt; nothing is written for it.

    Attributes:
        probe: the question.
        target_logprob: mean over the target's tokens, in nats.
        prior_logprob: the same of the prior; None where there is none.
        argmax: whether every token of the target is the most probable one.
        predicted: the most probable token at each place of the target.
        following: the most probable token behind the bare prompt.
        state: the final hidden state that it is read from, on the CPU.
    """

    probe: Probe
    target_logprob: float
    prior_logprob: float | None
    argmax: bool
    predicted: tuple[int, ...]
    following: int
    state: Float[Tensor, " d_model"]

    @property
    def prefers_target(self) -> bool | None:
        """Whether the target is likelier than the prior, token for token; None where there is no prior."""
        return None if self.prior_logprob is None else self.target_logprob > self.prior_logprob


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeScore:
    """What a model made of a probe.

    Attributes:
        weighed: what it expects behind the prompt.
        answer: greedy generation up to its natural stop.
        says_target: whether what is generated begins with the target.
    """

    weighed: Weighed
    answer: str
    says_target: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Perplexity:
    """The exponential of the mean negative log-probability, and over how many tokens."""

    value: float
    tokens: int


def probe_of(fact: Fact, *, kind: str = "efficacy") -> Probe:
    """Return the probe that asks a fact by its own prompt."""
    return Probe(fact=fact.id, kind=kind, prompt=fact.filled, target=fact.target, prior=fact.prior)


def score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    probes: Sequence[Probe],
    *,
    progress: Progress | None = None,
) -> list[ProbeScore]:
    """Return the score of each probe with its whole answer, in their order.

    Raises:
        InvalidFactError: a target has no token of its own.
    """
    weighed = weigh(model, tokenizer, probes, progress=progress)
    rows = [text_row(tokenizer, probe.prompt.rstrip()) for probe in probes]
    answers = _answer(model, tokenizer, probes, rows, progress=progress)
    return [
        ProbeScore(weighed=each, answer=answer, says_target=starts_with(answer, each.probe.target))
        for each, answer in zip(weighed, answers, strict=True)
    ]


def weigh(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    probes: Sequence[Probe],
    *,
    progress: Progress | None = None,
) -> list[Weighed]:
    """Return what a model expects behind the prompt of each probe, in their order, in one pass over the prompts.

    Raises:
        InvalidFactError: a target has no token of its own.
    """
    bare = [text_row(tokenizer, probe.prompt.rstrip()) for probe in probes]
    targets = [answer_row(tokenizer, probe.prompt, probe.target) for probe in probes]
    priors = [answer_row(tokenizer, probe.prompt, probe.prior) for probe in probes if probe.prior is not None]
    found = iter(expect(model, [*bare, *targets, *priors], progress=progress))
    of_bare, of_targets = ([next(found) for _ in probes] for _ in range(2))
    return [
        Weighed(
            probe=probe,
            target_logprob=target.mean,
            prior_logprob=None if probe.prior is None else next(found).mean,
            argmax=target.predicted == row.ids[row.target :],
            predicted=target.predicted,
            following=prompt.predicted[0],
            state=prompt.state,
        )
        for probe, row, prompt, target in zip(probes, targets, of_bare, of_targets, strict=True)
    ]


def says_targets(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    weighed: Sequence[Weighed],
    *,
    progress: Progress | None = None,
) -> list[bool]:
    """Return whether greedy generation begins with each probe's target, as `score` says it, but writing less.

    The first token is known from the weighing and settles most probes; the others are written until they are settled.
    """
    probes = [each.probe for each in weighed]
    left = [
        index for index, each in enumerate(weighed) if is_open(_text(tokenizer, [each.following]), each.probe.target)
    ]
    targets = [probes[index].target for index in left]
    answers = _write(
        model,
        tokenizer,
        [text_row(tokenizer, probes[index].prompt.rstrip()) for index in left],
        length=ANSWER_TOKENS,
        after=[len(target) for target in targets],
        enough=lambda place, text: not is_open(text, targets[place]),
        progress=progress,
    )
    said = [False] * len(weighed)
    for index, target, answer in zip(left, targets, answers, strict=True):
        said[index] = starts_with(answer, target)
    return said


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = ANSWER_TOKENS,
    chat: bool = False,
    progress: Progress | None = None,
) -> list[str]:
    """Return what a model writes greedily behind each prompt, up to its natural stop.

    Args:
        model: the model that is asked.
        tokenizer: its own.
        prompts: texts to continue, or messages of a user.
        max_new_tokens: the most tokens to write.
        chat: ask through the chat template.
        progress: told of prompts.

    Raises:
        InvalidConfigError: `chat` is set and the tokenizer has no chat template.
    """
    rows = [chat_row(tokenizer, text) if chat else text_row(tokenizer, text.rstrip()) for text in prompts]
    return _write(
        model,
        tokenizer,
        rows,
        length=max_new_tokens,
        after=[0] * len(rows),
        enough=lambda _, text: natural_stop(text) is not None,
        progress=progress,
    )


def chat_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    probes: Sequence[Probe],
    *,
    progress: Progress | None = None,
) -> list[str]:
    """Return what a model answers to each probe's prompt through the chat template, in their order.

    Raises:
        InvalidConfigError: the tokenizer has no chat template.
    """
    rows = [chat_row(tokenizer, probe.prompt.rstrip()) for probe in probes]
    return _answer(model, tokenizer, probes, rows, progress=progress)


def perplexity(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> Perplexity:
    """Return the perplexity of token rows that begin with BOS; BOS itself is not scored.

    Args:
        model: the model that reads.
        rows: as `sample_rows` gives them.
    """
    return perplexity_of(model, [Row(ids=tuple(int(token) for token in row), target=1) for row in rows])


def perplexity_of(model: PreTrainedModel, rows: Sequence[Row]) -> Perplexity:
    """Return the perplexity of the targets of rows, each behind its prompt.

    Args:
        model: the model that reads.
        rows: prompts, each with a target.
    """
    expected = expect(model, rows)
    logprobs = torch.tensor([logprob for each in expected for logprob in each.logprobs], dtype=torch.float64)
    return Perplexity(value=float((-logprobs.mean()).exp()), tokens=len(logprobs))


def _answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    probes: Sequence[Probe],
    rows: Sequence[Row],
    *,
    progress: Progress | None,
) -> list[str]:
    """Return the answer to each probe behind its row, up to a natural stop that is not within the target."""
    after = [len(probe.target) for probe in probes]
    return _write(
        model,
        tokenizer,
        rows,
        length=ANSWER_TOKENS,
        after=after,
        enough=lambda index, text: natural_stop(text, after=after[index]) is not None,
        progress=progress,
    )


def _write(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Row],
    *,
    length: int,
    after: Sequence[int],
    enough: Callable[[int, str], bool],
    progress: Progress | None,
) -> list[str]:
    """Return the answer behind each row, cut at its natural stop.

    Args:
        model: the model that writes.
        tokenizer: its own.
        rows: the prompts.
        length: the most tokens to write behind each.
        after: characters of each answer within which nothing is a stop.
        enough: whether what a row has written so far, as text, will do.
        progress: told of rows.
    """
    answers: dict[int, str] = {}
    order = sorted(range(len(rows)), key=lambda index: (len(rows[index].ids), index))
    for first in range(0, len(order), _ROWS):
        chosen = order[first : first + _ROWS]

        def finished(place: int, written: list[int], chosen: list[int] = chosen) -> bool:
            return tokenizer.eos_token_id in written or enough(chosen[place], _text(tokenizer, written))

        prompts = [rows[index].ids for index in chosen]
        written = decode(model, prompts, length=length, choose=greedy, finished=finished)
        for index, ids in zip(chosen, written, strict=True):
            text = _text(tokenizer, ids)
            answers[index] = text[: natural_stop(text, after=after[index])].strip()
        if progress is not None:
            progress("answers", len(answers), len(rows))
    return [answers[index] for index in range(len(rows))]


def _text(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> str:
    end = tokenizer.eos_token_id
    until = ids.index(end) if end in ids else len(ids)
    return cast(str, tokenizer.decode(list(ids[:until]), skip_special_tokens=True))
