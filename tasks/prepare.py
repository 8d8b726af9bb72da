"""Prepare: what every edit of a base needs beside its weights, computed once and kept.

Second moments, context templates, the held text for perplexity and the ordinary text for the blast radius depend on no
fact. They are found again in the object store by the digest over the base and the settings that they were made with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from editors.decoding import Progress
from editors.digests import canonical_json, digest_of
from editors.joint import Joint
from editors.models import load_model
from editors.moments import dump_moments
from editors.preparing import ORDINARY_ROWS, Recipe, ordinary_rows
from tasks.base import Base, editor_of
from tasks.files import DigestFile
from tasks.material import prepared_here, recipe_of
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
        ordinary: token rows for the blast radius, a JSON list of lists.
    """

    model_config = ConfigDict(frozen=True)

    moments: DigestFile
    contexts: DigestFile
    held: DigestFile
    ordinary: DigestFile


def prepare(base: Base, *, config: Joint, settings: Settings, store: Store, progress: Progress) -> Ingredients:
    """Find the ingredients of a base in the object store, or compute and keep them."""
    recipe = recipe_of(config, base=base.digest, settings=settings)
    folder = settings.home / "cache" / "ingredients"

    def found(what: str, record: dict[str, Any], make: Callable[[], dict[str, bytes]]) -> dict[str, DigestFile]:
        key = f"bases/{base.digest}/{what}-{digest_of(record)}.json"
        kept = store.record(key)
        if kept is None:
            made = {name: DigestFile.write(folder, content, name) for name, content in make().items()}
            kept = {"recipe": record, "files": {name: store.put_file(file.path).sha256 for name, file in made.items()}}
            store.put_record(key, kept)
        return {name: store.copy_in(folder, sha256, name) for name, sha256 in kept["files"].items()}

    record = recipe.to_record()
    of_edits = found("ingredients", record, lambda: _of_edits(base, recipe, settings=settings, progress=progress))
    ordinary = found("ordinary", record | {"rows": ORDINARY_ROWS}, lambda: _ordinary(base, recipe, settings, progress))
    return Ingredients(**of_edits, **ordinary)


def _of_edits(base: Base, recipe: Recipe, *, settings: Settings, progress: Progress) -> dict[str, bytes]:
    """What edits are made from, as bytes; what a benchmark of this base has made on this machine is not made again."""
    prepared = prepared_here(
        recipe, lambda: load_model(base.folder, device=settings.device), settings=settings, progress=progress
    )
    return {
        "moments": dump_moments(prepared.material.moments),
        "contexts": canonical_json(list(prepared.material.contexts)),
        "held": canonical_json(prepared.held),
    }


def _ordinary(base: Base, recipe: Recipe, settings: Settings, progress: Progress) -> dict[str, bytes]:
    rows = ordinary_rows(*load_model(base.folder, device=settings.device), recipe, progress=progress)
    return {"ordinary": canonical_json(rows)}


@task(name="prepare", **WHILE_AWAY, cache_policy=NO_CACHE)
def prepare_task(base: Base) -> Ingredients:
    """Find or compute what every edit of a base needs."""
    settings, progress = Settings(), logged(get_run_logger())
    return prepare(base, config=editor_of(settings), settings=settings, store=Store(settings), progress=progress)
