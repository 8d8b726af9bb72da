"""Prepare: what every edit of a base needs beside its weights, computed once and kept.

Second moments, context templates and the held text for perplexity depend on no fact. They are found again in the object
store by the digest over the base and the settings that they were made with.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.decoding import Progress
from editors.digests import canonical_json, digest_of, sha256_file
from editors.joint import Joint
from editors.models import load_model
from editors.moments import dump_moments
from editors.preparing import HELD_LENGTH, Recipe, make_material, sample_held
from editors.tokens import text_row
from tasks.base import Base
from tasks.files import DigestFile
from tasks.progress import logged
from tasks.retries import WHILE_AWAY
from tasks.settings import Settings
from tasks.store import Store


class Ingredients(BaseModel):
    """What every edit of a base needs.

    Attributes:
        moments: C of each site, safetensors.
        contexts: templates, a JSON list.
        held: token rows for perplexity, a JSON list of lists.
    """

    model_config = ConfigDict(frozen=True)

    moments: DigestFile
    contexts: DigestFile
    held: DigestFile


def prepare(base: Base, *, config: Joint, settings: Settings, store: Store, progress: Progress) -> Ingredients:
    """Find the ingredients of a base in the object store, or compute and keep them."""
    recipe = Recipe.of(config, base=base.digest, tokens=settings.moment_tokens, seed=settings.seed)
    held = sha256_file(settings.held_text) if settings.held_text else "sampled"
    inputs = {**asdict(recipe), "held": held}
    key = f"bases/{base.digest}/ingredients-{digest_of(inputs)}.json"
    folder = settings.home / "cache" / "ingredients"
    kept = store.record(key)
    if kept is None:
        contents = _make(base, recipe=recipe, settings=settings, progress=progress)
        made = {name: DigestFile.write(folder, content, name) for name, content in contents.items()}
        kept = {"recipe": inputs, "files": {name: store.put_file(file.path).sha256 for name, file in made.items()}}
        store.put_record(key, kept)
    files = {name: DigestFile.named(folder, sha256, name) for name, sha256 in kept["files"].items()}
    for file in files.values():
        if not file.is_whole():
            folder.mkdir(parents=True, exist_ok=True)
            store.fetch(file.sha256, file.path)
    return Ingredients(**files)


def _make(base: Base, *, recipe: Recipe, settings: Settings, progress: Progress) -> dict[str, bytes]:
    """Compute all ingredients."""
    model, tokenizer = load_model(base.folder, device=settings.device)
    material = make_material(model, tokenizer, recipe, progress=progress)
    held = _held_rows(model, tokenizer, file=settings.held_text, progress=progress)
    return {
        "moments": dump_moments(material.moments),
        "contexts": canonical_json(list(material.contexts)),
        "held": canonical_json(held),
    }


def _held_rows(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, file: Path | None, progress: Progress
) -> list[list[int]]:
    """Token rows for perplexity: of a file, a paragraph a row, or sampled from the base with a seed of their own."""
    if file is None:
        return sample_held(model, tokenizer, progress=progress)
    paragraphs = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    rows = [list(text_row(tokenizer, line).ids[:HELD_LENGTH]) for line in paragraphs]
    return [row for row in rows if len(row) > 1]


@task(name="prepare", **WHILE_AWAY, cache_policy=NO_CACHE)
def prepare_task(base: Base) -> Ingredients:
    """Find or compute what every edit of a base needs."""
    settings = Settings()
    return prepare(base, config=Joint(), settings=settings, store=Store(settings), progress=logged(get_run_logger()))
