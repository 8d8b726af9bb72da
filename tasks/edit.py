"""Edit: from a base and a batch of facts to a patch in a file.

What an editor needs of the base beside its weights, the second moments and the context templates, depends on no fact.
It is computed once for a base and its settings, kept in the object store, and found again by the digest over these.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from editors import (
    Memit,
    Progress,
    canonical_json,
    digest_of,
    edit,
    load_model,
    load_moments,
    sample_contexts,
    save_moments,
    second_moments,
    sha256_file,
    sites_of,
)
from editors.artifacts import write_atomically
from tasks.base import Base
from tasks.collect import Batch
from tasks.progress import logged
from tasks.retries import WHILE_AWAY
from tasks.settings import Settings
from tasks.store import Store

EDITOR = "memit"


class Ingredients(BaseModel):
    """What an edit needs beside the facts: files, and their sha256."""

    model_config = ConfigDict(frozen=True)

    moments: Path
    moments_sha256: str
    contexts: Path
    contexts_sha256: str


class Edit(BaseModel):
    """What an editor returned: the patch in a file, and what it was made with."""

    model_config = ConfigDict(frozen=True)

    editor: str
    settings: dict[str, Any]
    patch: Path
    patch_sha256: str
    moments: Path
    contexts: Path


def prepare(base: Base, *, config: Memit, settings: Settings, store: Store, progress: Progress) -> Ingredients:
    """Find the second moments and contexts of a base, or compute and keep them."""
    recipe = {
        "base": base.digest,
        "layers": list(config.layers),
        "contexts": config.contexts,
        "tokens": settings.moment_tokens,
        "seed": settings.seed,
    }
    key = f"bases/{base.digest}/ingredients-{digest_of(recipe)}.json"
    folder = settings.home / "cache" / "ingredients"
    kept = store.record(key)
    if kept is None:
        made = _compute(base, recipe, folder, settings=settings, progress=progress)
        shas = {"moments": store.put_file(made["moments"]).sha256, "contexts": store.put_file(made["contexts"]).sha256}
        kept = {"recipe": recipe, **shas}
        store.put_record(key, kept)
    paths = {name: folder / f"{kept[name]}.{name}" for name in ("moments", "contexts")}
    for name, path in paths.items():
        if not path.is_file() or sha256_file(path) != kept[name]:
            folder.mkdir(parents=True, exist_ok=True)
            store.fetch(kept[name], path)
    return Ingredients(
        moments=paths["moments"],
        moments_sha256=kept["moments"],
        contexts=paths["contexts"],
        contexts_sha256=kept["contexts"],
    )


def make_patch(
    base: Base, batch: Batch, ingredients: Ingredients, *, config: Memit, settings: Settings, progress: Progress
) -> Edit:
    """Edit all facts of a batch into the base, and write the patch to a file."""
    model, tokenizer = load_model(base.folder, device=settings.device)
    patch = edit(
        model,
        tokenizer,
        [correction.fact() for correction in batch.facts],
        config=config,
        moments=load_moments(ingredients.moments, expected=ingredients.moments_sha256),
        contexts=json.loads(ingredients.contexts.read_bytes()),
        base_digest=base.digest,
        progress=progress,
    )
    path = settings.home / "cache" / "patches" / f"{patch.digest}.safetensors"
    sha256 = patch.save(path)
    return Edit(
        editor=EDITOR,
        settings=json.loads(canonical_json(asdict(config))),
        patch=path,
        patch_sha256=sha256,
        moments=ingredients.moments,
        contexts=ingredients.contexts,
    )


def _compute(
    base: Base, recipe: dict[str, Any], folder: Path, *, settings: Settings, progress: Progress
) -> dict[str, Path]:
    """Read second moments and contexts off the base, into files named by their digest."""
    model, tokenizer = load_model(base.folder, device=settings.device)
    sites = sites_of(model, recipe["layers"])
    moments = second_moments(model, tokenizer, sites, tokens=recipe["tokens"], seed=recipe["seed"], progress=progress)
    contexts = sample_contexts(model, tokenizer, count=recipe["contexts"], seed=recipe["seed"])
    scratch = {name: folder / f"computed.{name}" for name in ("moments", "contexts")}
    digests = {
        "moments": save_moments(moments, scratch["moments"]),
        "contexts": write_atomically(scratch["contexts"], canonical_json(contexts)),
    }
    return {name: path.replace(folder / f"{digests[name]}.{name}") for name, path in scratch.items()}


@task(name="prepare", **WHILE_AWAY, cache_policy=NO_CACHE)
def prepare_task(base: Base) -> Ingredients:
    """Find or compute what every edit of a base needs."""
    settings = Settings()
    return prepare(base, config=Memit(), settings=settings, store=Store(settings), progress=logged(get_run_logger()))


@task(name="edit", cache_policy=NO_CACHE)
def edit_task(base: Base, batch: Batch, ingredients: Ingredients) -> Edit:
    """Edit a batch into the base."""
    progress = logged(get_run_logger())
    return make_patch(base, batch, ingredients, config=Memit(), settings=Settings(), progress=progress)
