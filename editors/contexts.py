"""Context templates: short texts in front of a prompt, so that a value holds wherever the prompt stands.

They are sampled from the model itself, as in MEMIT, and are an artifact of the base: the same seed gives the same ones.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from typing import cast

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.decoding import sample_rows

_OPENINGS = ("The", "Therefore", "Because", "I", "You")
_TOP_K = 5

LENGTH = 25
"""Tokens that are sampled behind each opening word. Ten, as in MEMIT's code, are shorter than what prompts stand behind
in practice: with 25, values hold in more paraphrases (docs/editing.md)."""


def sample_contexts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, count: int = 6, length: int = LENGTH, seed: int = 0
) -> list[str]:
    """Return templates with one `{}` each: the bare one first, then sampled texts that end in ". {}".

    Args:
        model: the base.
        tokenizer: its own.
        count: how many, the bare one included.
        length: tokens that are sampled behind each opening word.
        seed: of the draws.

    Source: Meng et al. 2023 (MEMIT), section 4.3 and the published code's settings, arXiv:2210.07229.
    """
    if count < 2:
        return ["{}"]
    rows = sample_rows(model, tokenizer, rows=count - 1, length=length + 2, seed=seed, openings=_OPENINGS, top_k=_TOP_K)
    texts = [cast(str, tokenizer.decode(row.tolist(), skip_special_tokens=True)) for row in rows]
    return ["{}", *(f"{_plain(text)}. {{}}" for text in texts)]


def _plain(text: str) -> str:
    """One line without braces: the only `{}` in a template is the prompt's place."""
    return " ".join(text.replace("{", "(").replace("}", ")").split()).rstrip(".")
