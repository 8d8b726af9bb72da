"""Edit: from a base and a batch of facts to a patch in a file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from editors.batch import Subjects, by_subject
from editors.decoding import Progress
from editors.digests import canonical_json
from editors.joint import Joint, Value, solve, values_in_batches
from editors.material import Material
from editors.models import load_model
from editors.moments import load_moments
from tasks.base import Base, editor_of
from tasks.collect import Batch
from tasks.companions import facts_of, owner_of
from tasks.files import DigestFile
from tasks.prepare import Ingredients
from tasks.progress import logged
from tasks.retries import WHILE_AWAY
from tasks.settings import Settings
from tasks.store import Store
from tasks.values import KeptValues, recipe_of

EDITOR = "joint"


class Edit(BaseModel):
    """What the editor returned: the patch in a file, and what it was made with.

    Attributes:
        values: sha256 of each value that was solved for, sorted.
    """

    model_config = ConfigDict(frozen=True)

    editor: str
    settings: dict[str, Any]
    patch: DigestFile
    values: tuple[str, ...]
    ingredients: Ingredients


def make_patch(
    base: Base,
    batch: Batch,
    ingredients: Ingredients,
    *,
    config: Joint,
    settings: Settings,
    store: Store,
    progress: Progress,
) -> Edit:
    """Edit all facts of a batch into the base, and write the patch to a file, whole or not at all.

    Only subjects whose value is not kept yet cost time, and each value is kept as soon as it is known; then all are
    solved together.
    """
    model, tokenizer = load_model(base.folder, device=settings.device)
    material = material_of(base, ingredients)
    subjects = by_subject(facts_of(batch.facts))
    configs = configs_of(subjects, batch, config)
    recipes = recipes_of(subjects, base=base, ingredients=ingredients, configs=configs)
    kept = kept_values(base, settings=settings, store=store)
    files = kept.find(recipes)
    for own in dict.fromkeys(configs.values()):
        missing = {
            subject: facts for subject, facts in subjects.items() if subject not in files and configs[subject] == own
        }
        for found in values_in_batches(model, tokenizer, missing, config=own, material=material, progress=progress):
            files |= {subject: kept.keep(recipes[subject], value) for subject, value in found.items()}
    values = {subject: Value.load(file.path, expected=file.sha256) for subject, file in files.items()}
    patch = solve(model, values, config=config, material=material, progress=progress)
    return Edit(
        editor=EDITOR,
        settings=json.loads(canonical_json(asdict(config))),
        patch=DigestFile.write(settings.home / "cache" / "patches", patch.to_bytes(), "safetensors"),
        values=tuple(sorted(file.sha256 for file in files.values())),
        ingredients=ingredients,
    )


def kept_values(base: Base, *, settings: Settings, store: Store) -> KeptValues:
    """The values of a base."""
    return KeptValues(settings.home / "cache" / "values", base=base.digest, store=store)


def material_of(base: Base, ingredients: Ingredients) -> Material:
    """What the editor needs of a base, read from its files."""
    moments = ingredients.moments
    return Material(
        base=base.digest,
        moments=load_moments(moments.path, expected=moments.sha256),
        contexts=json.loads(ingredients.contexts.read()),
    )


def configs_of(subjects: Subjects, batch: Batch, config: Joint) -> dict[str, Joint]:
    """The settings that each subject's value is optimised with: the editor's, changed as its corrections ask for."""
    changes = {c.id: c.editing.changes() for c in batch.facts if c.editing}
    configs = dict.fromkeys(subjects, config)
    for subject, facts in subjects.items():
        for fact in sorted(facts, key=lambda fact: fact.id):
            own = dataclasses.replace(configs[subject].values, **changes.get(owner_of(fact), {}))
            configs[subject] = dataclasses.replace(configs[subject], values=own)
    return configs


def recipes_of(
    subjects: Subjects, *, base: Base, ingredients: Ingredients, configs: Mapping[str, Joint]
) -> dict[str, str]:
    """The recipe of each subject's value."""
    return {
        subject: recipe_of(facts, base=base.digest, contexts=ingredients.contexts.sha256, config=configs[subject])
        for subject, facts in subjects.items()
    }


@task(name="edit", **WHILE_AWAY, cache_policy=NO_CACHE)
def edit_task(base: Base, batch: Batch, ingredients: Ingredients) -> Edit:
    """Edit a batch into the base."""
    settings, progress = Settings(), logged(get_run_logger())
    config, store = editor_of(settings), Store(settings)
    return make_patch(base, batch, ingredients, config=config, settings=settings, store=store, progress=progress)
