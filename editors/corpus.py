"""Ordinary text from a file, a paragraph a line, as token rows."""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

import random
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from editors.errors import TextFileError
from editors.tokens import bos_token


def corpus_rows(
    tokenizer: PreTrainedTokenizerFast, path: Path, *, rows: int, length: int, seed: int
) -> Int[Tensor, "rows length"]:
    """Return rows of one length, BOS first, of text that flows on from row to row.

    No more of the corpus is tokenized than is needed. Its paragraphs come in an order drawn from the seed, so that a
    part of it stands for all of it.

    Args:
        tokenizer: the model's own.
        path: the corpus, UTF-8.
        rows: how many.
        length: tokens of each, BOS included.
        seed: of the order.

    Raises:
        TextFileError: it is too short, or not UTF-8.
        OSError: it can't be read.
    """
    drawn = paragraphs(path)
    random.Random(seed).shuffle(drawn)  # noqa: S311 - nothing is to be kept secret
    needed, ids = rows * (length - 1), list[int]()
    for paragraph in drawn:
        ids += cast(list[int], tokenizer(f"{paragraph}\n", add_special_tokens=False)["input_ids"])
        if len(ids) >= needed:
            text = torch.tensor(ids[:needed]).view(rows, length - 1)
            return torch.nn.functional.pad(text, (1, 0), value=bos_token(tokenizer))
    raise TextFileError(
        path, f"it holds {len(ids):,} tokens of this model's, and {needed:,} are needed; give a longer text"
    )


def paragraph_rows(tokenizer: PreTrainedTokenizerFast, path: Path, *, length: int) -> list[list[int]]:
    """Return the beginning of each paragraph as a row of its own, BOS first, of so many tokens at most.

    Raises:
        TextFileError: it holds no paragraph, or is not UTF-8.
        OSError: it can't be read.
    """
    first = bos_token(tokenizer)
    found = [cast(list[int], tokenizer(text, add_special_tokens=False)["input_ids"]) for text in paragraphs(path)]
    return [[first, *ids[: length - 1]] for ids in found if ids]


def paragraphs(path: Path) -> list[str]:
    """Return the lines of a file that are not blank.

    Raises:
        TextFileError: there are none, or it is not UTF-8.
        OSError: it can't be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise TextFileError(path, f"it is not UTF-8 ({error}); convert it") from error
    found = [line for line in lines if line.strip()]
    if not found:
        raise TextFileError(path, "it holds no text; give one with a paragraph a line")
    return found
