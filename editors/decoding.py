"""Letting a model write: one loop for greedy answers, sampled text and contexts, with cached keys and values."""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerFast

from editors.layouts import backbone_of, project
from editors.tokens import Row, bos_token, pad

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

_ROWS = 128


def decode(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    length: int,
    choose: Callable[[Float[Tensor, "rows vocab"]], Int[Tensor, " rows"]],
    finished: Callable[[int, list[int]], bool] = lambda row, written: False,
) -> list[list[int]]:
    """Return up to `length` tokens behind each prompt; prompts of different length are padded on the left.

    Args:
        model: the model that writes.
        prompts: token rows, BOS first.
        length: the most tokens to write behind each.
        choose: picks the next tokens from the logits of all rows.
        finished: whether what a row has written so far is enough; it leaves the batch then.
    """
    written: list[list[int]] = [[] for _ in prompts]
    steps = decoding(
        model, prompts, choose=lambda logits, _: choose(logits), finished=lambda row: finished(row, written[row])
    )
    for tokens in islice(steps, length):
        for row, token in tokens.items():
            written[row].append(token)
    return written


@torch.no_grad()
def decoding(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    choose: Callable[[Float[Tensor, "rows vocab"], Sequence[int]], Int[Tensor, " rows"]],
    finished: Callable[[int], bool],
) -> Iterator[dict[int, int]]:
    """Yield the next token of each row that still writes, step by step; others may write between two steps.

    Args:
        model: the model that writes.
        prompts: token rows, BOS first; padded on the left.
        choose: picks the next tokens from the logits of the rows that are named.
        finished: whether a row has written enough, asked after each step; it leaves the batch then.
    """
    ids, mask = pad([Row(ids=tuple(prompt)) for prompt in prompts], device=model.device, left=True)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    backbone, cache = backbone_of(model), DynamicCache(config=model.config)
    writing = list(range(len(prompts)))
    while writing:
        output: Any = backbone(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        ids = choose(project(model, output.last_hidden_state[:, -1]), writing)[:, None]
        yield dict(zip(writing, cast(list[int], ids[:, 0].tolist()), strict=True))
        going = [place for place, row in enumerate(writing) if not finished(row)]
        if len(going) < len(writing):
            kept = torch.tensor(going, dtype=torch.long, device=model.device)
            cache.batch_select_indices(kept)
            ids, mask, positions = ids[kept], mask[kept], positions[kept]
            writing = [writing[place] for place in going]
        mask = torch.cat([mask, mask.new_ones(len(writing), 1)], dim=1)
        positions = positions[:, -1:] + 1


def greedy(logits: Float[Tensor, "rows vocab"]) -> Int[Tensor, " rows"]:
    """Choose the most probable token of each row."""
    return logits.argmax(-1)


def drawn(
    tokenizer: PreTrainedTokenizerFast, *, seed: int, top_k: int | None = None
) -> Callable[[Float[Tensor, "rows vocab"]], Int[Tensor, " rows"]]:
    """Return a choice that draws each next token by its probability.

    Args:
        tokenizer: the model's own; its special tokens are never drawn.
        seed: of the draws, which are made on the CPU whatever the device.
        top_k: draw from this many most probable tokens only.
    """
    generator = torch.Generator().manual_seed(seed)
    banned = torch.tensor(sorted(set(tokenizer.all_special_ids)))

    def draw(logits: Float[Tensor, "rows vocab"]) -> Int[Tensor, " rows"]:
        allowed = logits.float().cpu().index_fill(1, banned, float("-inf"))
        if top_k is not None:
            allowed = allowed.masked_fill(allowed < allowed.topk(top_k).values[:, -1:], float("-inf"))
        cumulative = allowed.double().softmax(-1).cumsum(-1)
        point = torch.rand(len(allowed), 1, generator=generator, dtype=torch.float64) * cumulative[:, -1:]
        return torch.searchsorted(cumulative, point, right=True)[:, 0].to(logits.device)

    return draw


def sample_rows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    rows: int,
    length: int,
    seed: int,
    openings: Sequence[str] = ("",),
    top_k: int | None = None,
    progress: Progress | None = None,
) -> Int[Tensor, "rows length"]:
    """Sample text from the model itself at temperature 1: what it writes is what it reads most.

    Args:
        model: the model that writes.
        tokenizer: its own; special tokens are never sampled, so a row is one stretch of text.
        rows: how many texts.
        length: tokens of each, BOS and opening included.
        seed: of the draws, which are made on the CPU whatever the device.
        openings: texts to begin with, in turn.
        top_k: draw from this many most probable tokens only.
        progress: told of rows.
    """
    draw = drawn(tokenizer, seed=seed, top_k=top_k)
    starts = [_opening(tokenizer, openings[row % len(openings)]) for row in range(rows)]
    sampled: list[list[int]] = []
    for first in range(0, rows, _ROWS):
        batch = starts[first : first + _ROWS]
        written = decode(model, batch, length=length - min(map(len, batch)), choose=draw)
        sampled += [(start + new)[:length] for start, new in zip(batch, written, strict=True)]
        if progress is not None:
            progress("sampling text", len(sampled), rows)
    return torch.tensor(sampled)


def _opening(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    ids = cast(list[int], tokenizer(text, add_special_tokens=False)["input_ids"])
    return [bos_token(tokenizer), *ids]
