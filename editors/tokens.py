"""From facts to token rows: where the subject ends, where the target begins, and what stands in front.

Every row begins with the BOS token, whether the tokenizer adds one or not. Position 0 is an attention sink: whatever
stands there has nearly the same key, so an edit that read it would touch every text. (Perplexity of SmolLM2-135M on
ordinary text: 33.88 without BOS, 33.95 with it.) Where the tokenizer adds none, the model never saw text right behind
BOS, and the sink reaches one further: in SmolLM2-135M "France", "Music" and "Dog" at position 1 have keys with a
cosine of 0.82-1.00. Behind a line break it is 0.02-0.24, as elsewhere; so there a prompt's row begins with both.

Subjects and targets are found by character offsets, never by tokenizing them alone: " Paris" after a prompt and
"Paris" by itself are different tokens. Rows are padded here and not by the tokenizer: on the right, where causal
attention cannot see the padding, or on the left, where something is to follow at once.
"""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from editors.errors import InvalidConfigError, InvalidFactError, SubjectNotFoundError
from editors.facts import Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One tokenized text.

    Attributes:
        ids: its tokens, BOS first.
        subject: the position of the subject's last token; 0 where there is no subject.
        target: the position of the target's first token; the length where there is no target.
    """

    ids: tuple[int, ...]
    subject: int = 0
    target: int = 0


def bos_token(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the token that opens every row: BOS, or the end token where there is no BOS.

    Raises:
        InvalidConfigError: the tokenizer has neither.
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if isinstance(token, int):
            return token
    raise InvalidConfigError("the tokenizer has neither a BOS nor an end token; set bos_token in tokenizer_config.json")


def opening(tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    """Return the tokens in front of every prompt: BOS, and a line break where the tokenizer adds no BOS by itself.

    Raises:
        InvalidConfigError: the tokenizer has neither BOS nor an end token.
    """
    bos = bos_token(tokenizer)
    if bos in cast(list[int], tokenizer("")["input_ids"]):
        return (bos,)
    return (bos, *cast(list[int], tokenizer("\n", add_special_tokens=False)["input_ids"]))


def text_row(tokenizer: PreTrainedTokenizerFast, text: str) -> Row:
    """Return the row of a plain text."""
    ids, _ = _encode(tokenizer, text)
    return Row(ids=ids, target=len(ids))


def chat_row(tokenizer: PreTrainedTokenizerFast, message: str) -> Row:
    """Return the row of a user's message in the chat template, up to where the assistant answers.

    Raises:
        InvalidConfigError: the tokenizer has no chat template.
    """
    return messages_row(tokenizer, [{"role": "user", "content": message}])


def messages_row(tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]]) -> Row:
    """Return the row of a conversation in the chat template, up to where the assistant answers.

    Args:
        tokenizer: the model's own.
        messages: each with `role` and `content`.

    Raises:
        InvalidConfigError: the tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        raise InvalidConfigError("the tokenizer has no chat template; ask in raw form")
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return text_row(tokenizer, cast(str, text))


def answer_row(tokenizer: PreTrainedTokenizerFast, prompt: str, target: str) -> Row:
    """Return the row of a prompt and the target that continues it after one space.

    Raises:
        InvalidFactError: the target has no token of its own.
    """
    prompt = prompt.rstrip()
    ids, offsets = _encode(tokenizer, f"{prompt} {target.strip()}")
    first = next((place for place, (_, end) in enumerate(offsets) if end > len(prompt)), len(ids))
    if first in (0, len(ids)):
        raise InvalidFactError(f"the target {target!r} of {prompt!r} has no token of its own; check it")
    return Row(ids=ids, target=first)


def fact_row(tokenizer: PreTrainedTokenizerFast, fact: Fact, *, context: str = "{}", ending: str = "") -> Row:
    """Return the row of a fact in a context: the filled prompt, the target and what ends the sentence.

    Args:
        tokenizer: the model's own.
        fact: subject, prompt and target.
        context: a text with one `{}` for the filled prompt.
        ending: put behind the target, so that the model learns where to stop.

    Raises:
        SubjectNotFoundError: no token of the row belongs to the subject.
        InvalidFactError: the target has no token of its own.
    """
    start = context.index("{}") + fact.prompt.index("{}")
    text = context.replace("{}", fact.filled)
    row = answer_row(tokenizer, text, fact.target.strip() + ending)
    _, offsets = _encode(tokenizer, f"{text.rstrip()} {fact.target.strip()}{ending}")
    return Row(ids=row.ids, subject=_last_token(offsets, fact, start), target=row.target)


def prompt_row(tokenizer: PreTrainedTokenizerFast, prompt: str, subject: str) -> tuple[Row, range]:
    """Return the row of a prompt that names its subject, and the positions of the subject's tokens in it.

    Raises:
        SubjectNotFoundError: the prompt does not name it, or no token of the row belongs to it.
    """
    prompt, start = prompt.rstrip(), prompt.find(subject)
    if start < 0 or not subject.strip():
        raise SubjectNotFoundError(subject, prompt, "it is not written there")
    ids, offsets = _encode(tokenizer, prompt)
    inside = _touching(offsets, start, start + len(subject))
    if not inside:
        raise SubjectNotFoundError(subject, prompt, "the tokenizer drops all its characters")
    assert inside[0] > 0, "BOS stands at position 0"
    return Row(ids=ids, subject=inside[-1], target=len(ids)), range(inside[0], inside[-1] + 1)


def essence_row(tokenizer: PreTrainedTokenizerFast, fact: Fact) -> Row:
    """Return the row of "<subject> is a" up to the subject, where the model's idea of it is read.

    Raises:
        SubjectNotFoundError: no token of it belongs to the subject.
    """
    ids, offsets = _encode(tokenizer, f"{fact.subject} is a")
    last = _last_token(offsets, fact, 0)
    return Row(ids=ids[: last + 1], subject=last, target=last + 1)


def pad(
    rows: Sequence[Row], *, device: torch.device, left: bool = False
) -> tuple[Int[Tensor, "rows tokens"], Int[Tensor, "rows tokens"]]:
    """Return rows of one batch padded on the right, or on the left, and the mask that is 1 where a token is real."""
    width = max(len(row.ids) for row in rows)
    ids: list[list[int]] = []
    mask: list[list[int]] = []
    for row in rows:
        padding = [row.ids[0]] * (width - len(row.ids))
        ids.append([*padding, *row.ids] if left else [*row.ids, *padding])
        mask.append([0] * len(padding) + [1] * len(row.ids) if left else [1] * len(row.ids) + [0] * len(padding))
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def batches_of_like_length(
    lengths: Sequence[int], *, budget: int, rows: Sequence[int] | None = None, padding: int | None = None
) -> Iterator[list[int]]:
    """Yield indices in batches whose padded size stays under a budget of tokens, short ones first.

    Args:
        lengths: of each item, in tokens.
        budget: tokens in a batch, padding included; a larger item is a batch by itself.
        rows: how many rows of that length each item has; one if not given.
        padding: tokens of padding that a batch may hold; any number if not given.
    """
    rows = rows or [1] * len(lengths)
    batch: list[int] = []
    height = filled = 0
    for index in sorted(range(len(lengths)), key=lambda index: (lengths[index], index)):
        size = (height + rows[index]) * lengths[index]
        filled += rows[index] * lengths[index]
        if batch and (size > budget or (padding is not None and size - filled > padding)):
            yield batch
            batch, height, filled = [], 0, rows[index] * lengths[index]
        batch.append(index)
        height += rows[index]
    if batch:
        yield batch


def _encode(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = cast(list[int], encoding["input_ids"])
    offsets = cast(list[tuple[int, int]], encoding["offset_mapping"])
    if ids and ids[0] == bos_token(tokenizer):
        return tuple(ids), offsets
    front = opening(tokenizer)
    return (*front, *ids), [*[(0, 0)] * len(front), *offsets]


def _last_token(offsets: Sequence[tuple[int, int]], fact: Fact, start: int) -> int:
    inside = _touching(offsets, start, start + len(fact.subject))
    if not inside:
        raise SubjectNotFoundError(
            fact.subject, fact.prompt, f"the tokenizer drops all its characters (fact {fact.id})"
        )
    assert inside[-1] > 0, "BOS stands at position 0"
    return inside[-1]


def _touching(offsets: Sequence[tuple[int, int]], start: int, stop: int) -> list[int]:
    """Return the places of the tokens that hold some of the characters from start to stop."""
    return [place for place, (left, right) in enumerate(offsets) if left < stop and right > start and right > left]
