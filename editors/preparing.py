"""Preparing a base: what every edit of it needs beside its weights, made once, and found again in a folder.

It depends on no fact. The text of the second moments comes from a corpus, or is sampled from the model itself; so are
the held rows, on which perplexity is measured, but with a seed of their own. Contexts are always sampled. Sampling is
what takes longest, so the text is kept piece by piece with the sums over it: a kill costs one piece.
"""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors import contexts
from editors.corpus import corpus_rows, paragraph_rows
from editors.decoding import Progress, sample_rows
from editors.digests import digest_of, sha256_file
from editors.keeping import drop, find, keep
from editors.layouts import read_weight, sites_of
from editors.material import Material
from editors.moments import ROW_LENGTH, Sums, Text, rows_for, sum_over
from editors.ranges import above_zero
from editors.registry import Config

ORDINARY_ROWS = 160
HELD_ROWS = 32
HELD_LENGTH = 64
_TEXT, _HELD, _ORDINARY = "text", "held", "ordinary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the material of a base is made with.

    Attributes:
        base: the digest of its weights.
        layers: whose sites get second moments.
        contexts: how many context templates, the bare one included.
        seed: of all draws.
        tokens_per_dimension: tokens of text for each dimension that a site reads, at least.
        corpus: text for the second moments, a paragraph a line; sampled from the base where there is none.
        held: text for perplexity, a paragraph a line; sampled too where there is none.
    """

    base: str
    layers: tuple[int, ...]
    contexts: int
    seed: int = 0
    tokens_per_dimension: int = 10
    corpus: Path | None = None
    held: Path | None = None

    def __post_init__(self) -> None:
        above_zero(self, "tokens_per_dimension")

    @classmethod
    def of(
        cls, config: Config, *, base: str, seed: int = 0, corpus: Path | None = None, held: Path | None = None
    ) -> Recipe:
        """Return the recipe that a method's settings ask for."""
        return cls(base=base, layers=config.layers, contexts=config.contexts, seed=seed, corpus=corpus, held=held)

    def to_record(self) -> dict[str, Any]:
        """Return the recipe as JSON: of files their digest, wherever they lie.

        Raises:
            OSError: a file can't be read.
        """
        return {
            "base": self.base,
            "layers": list(self.layers),
            "contexts": self.contexts,
            "context_length": contexts.LENGTH,
            "seed": self.seed,
            "tokens_per_dimension": self.tokens_per_dimension,
            "corpus": "sampled" if self.corpus is None else sha256_file(self.corpus),
            "held": "sampled" if self.held is None else sha256_file(self.held),
        }

    def digest(self) -> str:
        """Return the digest of the record, by which what is made is found again."""
        return digest_of(self.to_record())


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The material of a base, and token rows for perplexity that nothing of it was made from."""

    material: Material
    held: Sequence[Sequence[int]]


def prepare_in(
    folder: Path,
    recipe: Recipe,
    load: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerFast]],
    *,
    progress: Progress | None = None,
) -> Prepared:
    """Return what a recipe gives: found in a folder, or made now and kept there.

    Args:
        folder: of this machine; what is damaged there is made again, what is half made gone on with.
        recipe: what to make.
        load: called for the base and its tokenizer if there is something to make.
        progress: told of rows.

    Raises:
        UnknownSiteError, NonFiniteError, TextFileError: as `prepare` does.
        OSError: the folder cannot be written, or a text cannot be read.
    """
    digest = recipe.digest()
    if found := find(folder, digest):
        return _from_file(*found)
    prepared = prepare(*load(), recipe, folder=folder, progress=progress)
    keep(folder, digest, *_to_file(prepared, recipe))
    drop(folder, _begun(digest))
    return prepared


def prepare(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Make the material of a base and its held rows.

    Args:
        model: the base.
        tokenizer: its own.
        recipe: what to make.
        folder: where second moments are kept while they are half made, and gone on with.
        progress: told of rows.

    Raises:
        UnknownSiteError: the model has no such layer.
        NonFiniteError: the model reads NaN or infinity.
        TextFileError: a text is too short, or not UTF-8.
        OSError: a text can't be read, or the folder not be written.
    """
    sites, rows = sites_of(model, recipe.layers), _rows(model, recipe)
    text = _text(model, tokenizer, recipe, rows=rows)
    begun, keep_sums = _kept(folder, recipe)
    sums = sum_over(model, sites, text, rows=rows, begun=begun, keep=keep_sums, progress=progress)
    templates = contexts.sample_contexts(model, tokenizer, count=recipe.contexts, seed=recipe.seed)
    material = Material(base=recipe.base, moments=sums.moments(), contexts=templates, text=_lists(sums.text))
    return Prepared(material=material, held=_held_rows(model, tokenizer, recipe))


def ordinary_rows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    *,
    rows: int = ORDINARY_ROWS,
    progress: Progress | None = None,
) -> list[list[int]]:
    """Return rows of ordinary text that nothing else is made from or measured on.

    Edits are solved so that they disturb the text of the second moments least; so this is other text: what follows it
    in the corpus, or sampled with a seed of its own.

    Args:
        model: the base.
        tokenizer: its own.
        recipe: where the text comes from.
        rows: how many, of ROW_LENGTH tokens.
        progress: told of rows.

    Raises:
        TextFileError: the corpus is too short for the second moments and these rows, or not UTF-8.
        OSError: it can't be read.
    """
    if recipe.corpus is not None:
        before = _rows(model, recipe)
        drawn = corpus_rows(tokenizer, recipe.corpus, rows=before + rows, length=ROW_LENGTH, seed=recipe.seed)
        return _lists(drawn[before:])
    seed = _seed_of(recipe, _ORDINARY, 0)
    return _lists(sample_rows(model, tokenizer, rows=rows, length=ROW_LENGTH, seed=seed, progress=progress))


def _rows(model: PreTrainedModel, recipe: Recipe) -> int:
    """How many rows of text the second moments are made from."""
    d_in = max(read_weight(model, site).shape[1] for site in sites_of(model, recipe.layers))
    return rows_for(recipe.tokens_per_dimension * d_in)


def _text(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, *, rows: int) -> Text:
    """Rows of the corpus; or sampled ones, each piece with a seed of its own, so that none needs those before it."""
    if recipe.corpus is not None:
        corpus = corpus_rows(tokenizer, recipe.corpus, rows=rows, length=ROW_LENGTH, seed=recipe.seed)
        return lambda first, end: corpus[first:end]

    def sampled(first: int, end: int) -> Int[Tensor, "rows tokens"]:
        seed = _seed_of(recipe, _TEXT, first)
        return sample_rows(model, tokenizer, rows=end - first, length=ROW_LENGTH, seed=seed)

    return sampled


def _held_rows(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> list[list[int]]:
    if recipe.held is not None:
        return paragraph_rows(tokenizer, recipe.held, length=HELD_LENGTH)
    seed = _seed_of(recipe, _HELD, 0)
    return _lists(sample_rows(model, tokenizer, rows=HELD_ROWS, length=HELD_LENGTH, seed=seed))


def _seed_of(recipe: Recipe, what: str, first: int) -> int:
    return int(digest_of([recipe.seed, what, first])[:15], 16)


def _kept(folder: Path | None, recipe: Recipe) -> tuple[Sums | None, Callable[[Sums], None]]:
    """The sums that a folder holds of a recipe, and how to keep later ones there."""
    if folder is None:
        return None, lambda sums: None
    key = _begun(recipe.digest())
    found = find(folder, key)
    begun = None if found is None else Sums(text=found[0].pop(_TEXT), totals=found[0])
    return begun, lambda sums: keep(folder, key, {**sums.totals, _TEXT: sums.text}, {"recipe": recipe.to_record()})


def _begun(digest: str) -> str:
    return f"{digest}-begun"


def _to_file(prepared: Prepared, recipe: Recipe) -> tuple[dict[str, Tensor], dict[str, Any]]:
    material = prepared.material
    # Held rows of a file differ in length: they are text, not a tensor.
    metadata = {"recipe": recipe.to_record(), "contexts": list(material.contexts), _HELD: list(prepared.held)}
    return {**material.moments, _TEXT: torch.tensor(material.text)}, metadata


def _from_file(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Prepared:
    moments = dict(tensors)
    text = moments.pop(_TEXT)
    base, contexts = metadata["recipe"]["base"], metadata["contexts"]
    material = Material(base=base, moments=moments, contexts=contexts, text=_lists(text))
    return Prepared(material=material, held=metadata[_HELD])


def _lists(rows: Tensor) -> list[list[int]]:
    return cast(list[list[int]], rows.tolist())
