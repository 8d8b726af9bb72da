"""Fluency: whether a model still writes, by how much its text varies and by how well the base reads it.

Text that goes round in circles has few different n-grams, so its entropy is low; text that falls apart varies, but the
base finds it improbable. Only both together say that a model writes as before.

As in ROME, text is drawn from the five most probable tokens, here with a fixed seed: the most probable token alone
leads a small model into circles by itself, and little is left to lose (SmolLM2-135M, 20 prompts, 80 tokens: entropy
4.71 and perplexity 1.80 greedily; 5.77 and 3.97 drawn; 5.69 and 3.73 with another seed).

Source: Zhang et al. 2018, arXiv:1809.05972 (the entropy); Meng et al. 2022 (ROME), arXiv:2202.05262, and the published
code (bigrams and trigrams, and their weights).
"""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.decoding import Progress, decode, drawn
from editors.tokens import Row, text_row

LENGTH = 60
"""Tokens that are written behind each prompt."""

_TOP_K = 5
_WEIGHTS = {2: 2 / 3, 3: 4 / 3}
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a model wrote behind a prompt.

    Attributes:
        row: the prompt, and as its target the tokens that were written.
        text: these as text.
    """

    row: Row
    text: str


def write(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    *,
    length: int = LENGTH,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Written]:
    """Return what a model writes behind each prompt; with the same seed, models that are alike write the same.

    Args:
        model: the model that writes.
        tokenizer: its own.
        prompts: texts to continue, all in one batch.
        length: tokens to write behind each; none ends earlier.
        seed: of the draws.
        progress: told of texts when they are written.
    """
    if not prompts:
        return []
    rows = [text_row(tokenizer, prompt.rstrip()) for prompt in prompts]
    choose = drawn(tokenizer, seed=seed, top_k=_TOP_K)
    written = decode(model, [row.ids for row in rows], length=length, choose=choose)
    if progress is not None:
        progress("texts", len(rows), len(rows))
    return [
        Written(row=Row(ids=(*row.ids, *ids), target=len(row.ids)), text=cast(str, tokenizer.decode(ids)).strip())
        for row, ids in zip(rows, written, strict=True)
    ]


def entropy(text: str) -> float:
    """Return the n-gram entropy of a text, in bits.

        (2/3 H_2 + 4/3 H_3) / 2, with H_n = - sum f log2 f over the shares f of its different n-grams

    Words and punctuation marks are what is counted. A text without an n-gram of a length has none of its entropy.
    """
    words = _WORD.findall(text)
    return sum(weight * _entropy(words, n) for n, weight in _WEIGHTS.items()) / len(_WEIGHTS)


def _entropy(words: Sequence[str], n: int) -> float:
    counts = Counter(tuple(words[first : first + n]) for first in range(len(words) - n + 1))
    total = counts.total()
    return sum(count / total * math.log2(total / count) for count in counts.values())
