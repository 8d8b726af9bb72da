"""Prepare: what every edit of a base needs beside its weights, computed once and kept.

Second moments, context templates and the held text for perplexity depend on no fact. They are found again in the object
store by the digest over the base and the settings that they were made with.
"""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from editors.decoding import Progress
from editors.digests import canonical_json
from editors.joint import Joint
from editors.models import load_model
from editors.moments import dump_moments
from editors.preparing import Recipe
from tasks.base import Base
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
    """

    model_config = ConfigDict(frozen=True)

    moments: DigestFile
    contexts: DigestFile
    held: DigestFile


def prepare(base: Base, *, config: Joint, settings: Settings, store: Store, progress: Progress) -> Ingredients:
    """Find the ingredients of a base in the object store, or compute and keep them."""
    recipe = recipe_of(config, base=base.digest, settings=settings)
    key = f"bases/{base.digest}/ingredients-{recipe.digest()}.json"
    folder = settings.home / "cache" / "ingredients"
    kept = store.record(key)
    if kept is None:
        contents = _make(base, recipe=recipe, settings=settings, progress=progress)
        made = {name: DigestFile.write(folder, content, name) for name, content in contents.items()}
        kept = {
            "recipe": recipe.to_record(),
            "files": {name: store.put_file(file.path).sha256 for name, file in made.items()},
        }
        store.put_record(key, kept)
    files = {name: store.copy_in(folder, sha256, name) for name, sha256 in kept["files"].items()}
    return Ingredients(**files)


def _make(base: Base, *, recipe: Recipe, settings: Settings, progress: Progress) -> dict[str, bytes]:
    """All ingredients as bytes; what a benchmark of this base has made on this machine is not made again."""
    prepared = prepared_here(
        recipe, lambda: load_model(base.folder, device=settings.device), settings=settings, progress=progress
    )
    return {
        "moments": dump_moments(prepared.material.moments),
        "contexts": canonical_json(list(prepared.material.contexts)),
        "held": canonical_json(prepared.held),
    }


@task(name="prepare", **WHILE_AWAY, cache_policy=NO_CACHE)
def prepare_task(base: Base) -> Ingredients:
    """Find or compute what every edit of a base needs."""
    settings = Settings()
    return prepare(base, config=Joint(), settings=settings, store=Store(settings), progress=logged(get_run_logger()))
