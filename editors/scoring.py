"""Telling whether an edit took: probes are scored by probability, by argmax and by what is written, never mixed.

Rows run in batches of like length, and the vocabulary is projected only where it is asked for. Prompts begin with
BOS, as everywhere in this library (see tokens.py).
"""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.answers import natural_stop, starts_with
from editors.decoding import Progress, decode, greedy
from editors.facts import Fact
from editors.layouts import backbone_of, project
from editors.tokens import Row, answer_row, batches_of_like_length, chat_row, pad, text_row

ANSWER_TOKENS = 24
_TOKENS = 2048  # of a forward pass, padding included
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
class ProbeScore:
    """What a model made of a probe.

    Attributes:
        probe: the question.
        target_logprob: mean over the target's tokens, in nats.
        prior_logprob: the same of the prior; None where there is none.
        argmax: whether every token of the target is the most probable one.
        answer: greedy generation up to its natural stop.
        says_target: whether what is generated begins with the target.
    """

    probe: Probe
    target_logprob: float
    prior_logprob: float | None
    argmax: bool
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
    """Return the score of each probe, in their order.

    Raises:
        InvalidFactError: a target has no token of its own.
    """
    targets = _logprobs(model, [answer_row(tokenizer, probe.prompt, probe.target) for probe in probes], progress)
    weighed = [probe for probe in probes if probe.prior is not None]
    rows = [answer_row(tokenizer, probe.prompt, cast(str, probe.prior)) for probe in weighed]
    priors = iter(_logprobs(model, rows, progress))
    answers = _write(
        model,
        tokenizer,
        [text_row(tokenizer, probe.prompt.rstrip()) for probe in probes],
        length=ANSWER_TOKENS,
        after=[len(probe.target) for probe in probes],
        progress=progress,
    )
    return [
        ProbeScore(
            probe=probe,
            target_logprob=logprob,
            prior_logprob=None if probe.prior is None else next(priors)[0],
            argmax=argmax,
            answer=answer,
            says_target=starts_with(answer, probe.target),
        )
        for probe, (logprob, argmax), answer in zip(probes, targets, answers, strict=True)
    ]


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
    return _write(model, tokenizer, rows, length=max_new_tokens, after=[0] * len(rows), progress=progress)


@torch.no_grad()
def next_token_logprobs(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str]
) -> Float[Tensor, "prompts vocab"]:
    """Return the log-probabilities of what follows each prompt, on the CPU."""
    rows = [text_row(tokenizer, prompt.rstrip()) for prompt in prompts]
    found = torch.empty(len(rows), model.config.vocab_size)
    for chosen, hidden in _hidden(model, rows):
        last = torch.tensor([len(rows[index].ids) - 1 for index in chosen], device=model.device)
        logits = project(model, hidden[torch.arange(len(chosen)), last])
        found[chosen] = logits.float().log_softmax(-1).cpu()
    return found


def perplexity(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> Perplexity:
    """Return the perplexity of token rows that begin with BOS; BOS itself is not scored.

    Args:
        model: the model that reads.
        rows: as `sample_rows` gives them, or the ids of `text_row`.
    """
    scored = _logprobs(model, [Row(ids=tuple(int(token) for token in row), target=1) for row in rows], None)
    counts = [len(row) - 1 for row in rows]
    total = sum(logprob * count for (logprob, _), count in zip(scored, counts, strict=True))
    return Perplexity(value=float(torch.tensor(-total / sum(counts), dtype=torch.float64).exp()), tokens=sum(counts))


@torch.no_grad()
def _logprobs(model: PreTrainedModel, rows: Sequence[Row], progress: Progress | None) -> list[tuple[float, bool]]:
    """Return of each row's target the mean log-probability and whether every token is the argmax."""
    found: dict[int, tuple[float, bool]] = {}
    for chosen, hidden in _hidden(model, rows):
        for place, index in enumerate(chosen):
            row = rows[index]
            wanted = torch.tensor(row.ids[row.target :], device=model.device)
            logits = project(model, hidden[place, row.target - 1 : len(row.ids) - 1]).float()
            logprobs = logits.log_softmax(-1).gather(1, wanted[:, None])
            found[index] = (float(logprobs.double().mean()), bool((logits.argmax(-1) == wanted).all()))
        if progress is not None:
            progress("scoring", len(found), len(rows))
    return [found[index] for index in range(len(rows))]


def _hidden(
    model: PreTrainedModel, rows: Sequence[Row]
) -> Iterator[tuple[list[int], Float[Tensor, "batch tokens d_model"]]]:
    backbone = backbone_of(model)
    for chosen in batches_of_like_length([len(row.ids) for row in rows], budget=_TOKENS):
        ids, mask = pad([rows[index] for index in chosen], device=model.device)
        output: Any = backbone(input_ids=ids, attention_mask=mask, use_cache=False)
        yield chosen, output.last_hidden_state


def _write(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Row],
    *,
    length: int,
    after: Sequence[int],
    progress: Progress | None,
) -> list[str]:
    """Return the answer behind each row; `after` says within how many characters of it nothing is a stop."""
    answers: dict[int, str] = {}
    order = sorted(range(len(rows)), key=lambda index: (len(rows[index].ids), index))
    for first in range(0, len(order), _ROWS):
        chosen = order[first : first + _ROWS]

        def finished(place: int, written: list[int], chosen: list[int] = chosen) -> bool:
            return _stopped(tokenizer, written, after[chosen[place]])

        prompts = [rows[index].ids for index in chosen]
        written = decode(model, prompts, length=length, choose=greedy, finished=finished)
        for index, ids in zip(chosen, written, strict=True):
            answers[index] = _answer(tokenizer, ids, after[index])
        if progress is not None:
            progress("answers", len(answers), len(rows))
    return [answers[index] for index in range(len(rows))]


def _stopped(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int], after: int) -> bool:
    return tokenizer.eos_token_id in ids or natural_stop(_text(tokenizer, ids), after=after) is not None


def _answer(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int], after: int) -> str:
    text = _text(tokenizer, ids)
    return text[: natural_stop(text, after=after)].strip()


def _text(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> str:
    end = tokenizer.eos_token_id
    until = ids.index(end) if end in ids else len(ids)
    return cast(str, tokenizer.decode(list(ids[:until]), skip_special_tokens=True))
