"""Edit: from a base and a batch of facts to a patch in a file."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from editors.decoding import Progress
from editors.digests import canonical_json
from editors.material import Material
from editors.memit import Memit
from editors.models import load_model
from editors.moments import load_moments
from editors.registry import edit
from tasks.base import Base
from tasks.collect import Batch
from tasks.files import DigestFile
from tasks.prepare import Ingredients
from tasks.progress import logged
from tasks.settings import Settings

EDITOR = "memit"


class Edit(BaseModel):
    """What an editor returned: the patch in a file, and what it was made with."""

    model_config = ConfigDict(frozen=True)

    editor: str
    settings: dict[str, Any]
    patch: DigestFile
    ingredients: Ingredients


def make_patch(
    base: Base, batch: Batch, ingredients: Ingredients, *, config: Memit, settings: Settings, progress: Progress
) -> Edit:
    """Edit all facts of a batch into the base, and write the patch to a file, whole or not at all."""
    model, tokenizer = load_model(base.folder, device=settings.device)
    moments = ingredients.moments
    patch = edit(
        model,
        tokenizer,
        [correction.fact() for correction in batch.facts],
        config=config,
        material=Material(
            base=base.digest,
            moments=load_moments(moments.path, expected=moments.sha256),
            contexts=json.loads(ingredients.contexts.read()),
        ),
        progress=progress,
    )
    return Edit(
        editor=EDITOR,
        settings=json.loads(canonical_json(asdict(config))),
        patch=DigestFile.write(settings.home / "cache" / "patches", patch.to_bytes(), "safetensors"),
        ingredients=ingredients,
    )


@task(name="edit", cache_policy=NO_CACHE)
def edit_task(base: Base, batch: Batch, ingredients: Ingredients) -> Edit:
    """Edit a batch into the base."""
    progress = logged(get_run_logger())
    return make_patch(base, batch, ingredients, config=Memit(), settings=Settings(), progress=progress)
