"""Writing for several askers at once: each with its own length, temperature and stops.

Whoever comes later doesn't wait for whoever writes long: each group of answers is a generator that takes one step at a
time, so that groups can take turns. A row that is finished, or that nobody waits for any more, leaves its group.
"""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.decoding import decoding
from editors.errors import InvalidConfigError

UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what the first bytes of a character are decoded to


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What shall be written behind a prompt.

    Attributes:
        ids: the prompt's tokens, BOS first.
        length: the most tokens to write.
        temperature: 0 for the most probable token, always.
        top_p: draw from the most probable tokens that together have this probability.
        seed: of the draws, which are made on the CPU whatever the device.
        stop: texts before which the answer ends.
    """

    ids: tuple[int, ...]
    length: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.ids or self.length < 1 or self.temperature < 0 or not 0 < self.top_p <= 1 or "" in self.stop:
            raise InvalidConfigError(
                f"nothing can be written for {len(self.ids)} tokens of prompt, length {self.length}, temperature "
                f"{self.temperature}, top_p {self.top_p}, stops {self.stop}"
            )


@dataclass(slots=True, kw_only=True)
class Answer:
    """What has been written for a wish so far.

    Attributes:
        wish: what was asked for.
        told: called after each step, from the thread that writes.
        tokens: what was chosen, the end token included.
        text: what is certain of the answer: no part of a character, nor of a stop.
        ended: why it is over; empty while it goes on.
        unwanted: nobody waits for it any more; it may be set from any thread.
    """

    wish: Wish
    told: Callable[[Answer], None]
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    ended: Literal["", "stop", "length", "unwanted", "failed"] = ""
    unwanted: bool = False


def write_together(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, answers: Sequence[Answer]
) -> Iterator[None]:
    """Write answers as one batch, a token of each in a step.

    Args:
        model: the model that writes.
        tokenizer: its own.
        answers: nothing is written of them yet.
    """
    ends = _ends(model, tokenizer)
    draws = [torch.Generator().manual_seed(answer.wish.seed) for answer in answers]

    def choose(logits: Float[Tensor, "rows vocab"], rows: Sequence[int]) -> Int[Tensor, " rows"]:
        best = logits.argmax(-1)
        for place, row in enumerate(rows):
            if answers[row].wish.temperature > 0:
                best[place] = _drawn(logits[place], answers[row].wish, draws[row])
        return best

    steps = decoding(
        model,
        [answer.wish.ids for answer in answers],
        choose=choose,
        finished=lambda row: bool(answers[row].ended),
    )
    for tokens in steps:
        for row, token in tokens.items():
            _take(answers[row], token, tokenizer=tokenizer, ends=ends)
            answers[row].told(answers[row])
        yield


def _take(answer: Answer, token: int, *, tokenizer: PreTrainedTokenizerFast, ends: frozenset[int]) -> None:
    """Add a token to an answer, and see whether it is over."""
    answer.tokens.append(token)
    over = token in ends
    ids = answer.tokens[:-1] if over else answer.tokens
    text = cast(str, tokenizer.decode(ids, skip_special_tokens=True))
    stops = [place for place in map(text.find, answer.wish.stop) if place >= 0]
    if over or stops:
        answer.text, answer.ended = text[: min(stops, default=len(text))], "stop"
    elif len(answer.tokens) >= answer.wish.length:
        answer.text, answer.ended = text, "length"
    elif answer.unwanted:
        answer.ended = "unwanted"
    else:
        answer.text = _certain(text, answer.wish.stop)


def _certain(text: str, stops: Sequence[str]) -> str:
    """What can't change any more: without the first bytes of a character, or letters that a stop may begin with."""
    text = text.rstrip(UNFINISHED)
    begun = [
        length for stop in stops for length in range(min(len(stop), len(text)), 0, -1) if text.endswith(stop[:length])
    ]
    return text[: len(text) - max(begun, default=0)]


def _drawn(logits: Float[Tensor, " vocab"], wish: Wish, generator: torch.Generator) -> int:
    """Draw the next token by its probability, from the nucleus that is wished for."""
    chances, tokens = (logits.double().cpu() / wish.temperature).softmax(-1).sort(descending=True)
    before = chances.cumsum(-1) - chances
    chances = chances.masked_fill(before >= wish.top_p, 0.0)
    return int(tokens[torch.multinomial(chances, 1, generator=generator)])


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """The tokens that end an answer: the tokenizer's own, and those that the model's generation settings name."""
    named: Any = getattr(model.generation_config, "eos_token_id", None)
    several = cast(list[Any], named if isinstance(named, list) else [named])
    ids = [*several, tokenizer.eos_token_id]
    return frozenset(each for each in ids if isinstance(each, int))
