"""Preparing a base: what every edit of it needs beside its weights, made once, and found again in a folder.

It depends on no fact. Second moments and contexts are sampled from the model itself; so are the held rows, on which
perplexity is measured, but with a seed of their own, apart from the text that the moments are made from.
"""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.artifacts import dump_tensors, read_tensors, write_atomically
from editors.contexts import sample_contexts
from editors.decoding import Progress, sample_rows
from editors.digests import canonical_json, digest_of
from editors.errors import DamagedArtifactError
from editors.layouts import sites_of
from editors.material import Material
from editors.moments import ROW_LENGTH, moments_of_text, rows_for
from editors.registry import Config

logger = logging.getLogger(__name__)

HELD_SEED = 1_000_003  # apart from a recipe's seed, or perplexity would be measured on the text of the moments
HELD_ROWS = 32
HELD_LENGTH = 64
_TEXT, _HELD = "text", "held"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the material of a base is made with.

    Attributes:
        base: the digest of its weights.
        layers: whose sites get second moments.
        contexts: how many context templates, the bare one included.
        tokens: that are sampled for the second moments, at least.
        seed: of the draws.
    """

    base: str
    layers: tuple[int, ...]
    contexts: int
    tokens: int
    seed: int

    @classmethod
    def of(cls, config: Config, *, base: str, tokens: int = 8_000, seed: int = 0) -> Recipe:
        """Return the recipe that a method's settings ask for."""
        return cls(base=base, layers=config.layers, contexts=config.contexts, tokens=tokens, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The material of a base, and token rows for perplexity that nothing of it was made from."""

    material: Material
    held: Sequence[Sequence[int]]


def prepare(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, *, progress: Progress | None = None
) -> Prepared:
    """Make the material of a base, and sample its held rows.

    Raises:
        UnknownSiteError: the model has no such layer.
        NonFiniteError: the model reads NaN or infinity.
    """
    material = make_material(model, tokenizer, recipe, progress=progress)
    return Prepared(material=material, held=sample_held(model, tokenizer, progress=progress))


def make_material(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, *, progress: Progress | None = None
) -> Material:
    """Make the material of a base.

    Args:
        model: the base.
        tokenizer: its own.
        recipe: what to make.
        progress: told of rows.

    Raises:
        UnknownSiteError: the model has no such layer.
        NonFiniteError: the model reads NaN or infinity.
    """
    sites = sites_of(model, recipe.layers)
    text = sample_rows(
        model, tokenizer, rows=rows_for(recipe.tokens), length=ROW_LENGTH, seed=recipe.seed, progress=progress
    )
    return Material(
        base=recipe.base,
        moments=moments_of_text(model, sites, text, progress=progress),
        contexts=sample_contexts(model, tokenizer, count=recipe.contexts, seed=recipe.seed),
        text=_lists(text),
    )


def sample_held(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, progress: Progress | None = None
) -> list[list[int]]:
    """Return token rows for perplexity, sampled from the base with a seed of their own."""
    rows = sample_rows(model, tokenizer, rows=HELD_ROWS, length=HELD_LENGTH, seed=HELD_SEED, progress=progress)
    return _lists(rows)


def kept_in(folder: Path, recipe: Recipe, make: Callable[[Recipe], Prepared]) -> Prepared:
    """Return what a recipe gives: from a folder, or made now and kept there under the recipe's digest.

    A file that is not as it was written is made again.

    Raises:
        OSError: the folder cannot be written.
    """
    name = digest_of(asdict(recipe))
    record, tensors = folder / f"{name}.json", folder / f"{name}.safetensors"
    if record.is_file() and tensors.is_file():
        try:
            return _load(tensors, expected=json.loads(record.read_text(encoding="utf-8"))["sha256"])
        except (DamagedArtifactError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s is made again: %s", tensors, error)
    prepared = make(recipe)
    sha256 = write_atomically(tensors, _dump(prepared))
    write_atomically(record, canonical_json({"recipe": asdict(recipe), "sha256": sha256}))
    return prepared


def _dump(prepared: Prepared) -> bytes:
    material = prepared.material
    rows = {_TEXT: torch.tensor(material.text), _HELD: torch.tensor(prepared.held)}
    return dump_tensors({**material.moments, **rows}, {"base": material.base, "contexts": list(material.contexts)})


def _load(path: Path, *, expected: str) -> Prepared:
    tensors, metadata = read_tensors(path, expected=expected)
    text, held = tensors.pop(_TEXT), tensors.pop(_HELD)
    return Prepared(
        material=Material(base=metadata["base"], moments=tensors, contexts=metadata["contexts"], text=_lists(text)),
        held=_lists(held),
    )


def _lists(rows: Tensor) -> list[list[int]]:
    return cast(list[list[int]], rows.tolist())
