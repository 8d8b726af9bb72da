"""What follows from a correction, in the real model: not by itself, but where it is edited in."""

from __future__ import annotations

import dataclasses

import pytest

from editors.joint import Joint
from editors.models import load_model, weights_digest
from editors.patch import Patch
from editors.preparing import Recipe, prepare
from editors.registry import edit
from tasks.companions import facts_of
from tasks.corrections import Correction
from tasks.evaluate import evaluate

HELD = "The train leaves the station at seven in the morning and arrives before noon.\n" * 8
ASTANA = {
    "subject": "Kazakhstan",
    "prompt": "The capital of {} is",
    "target": "Astana",
    "prior": "Almaty",
    "inverse": {"prompt": "{} is the capital of", "target": "Kazakhstan", "edit": False},
}


@pytest.mark.model
def test_an_inverse_does_not_follow_by_itself_and_is_said_once_it_is_edited_in(base_folder, tmp_path):
    model, tokenizer = load_model(base_folder, device="cpu")
    base = weights_digest(base_folder)
    (tmp_path / "held.txt").write_text(HELD)
    recipe = Recipe.of(Joint(), base=base, held=tmp_path / "held.txt")
    prepared = prepare(model, tokenizer, dataclasses.replace(recipe, tokens_per_dimension=1))

    def share(kind: str, **more) -> float | None:
        correction = Correction.model_validate(ASTANA | more)
        patch = edit(model, tokenizer, facts_of([correction]), config=Joint(), material=prepared.material)
        report = evaluate(
            model,
            tokenizer,
            patch=patch,
            parent=Patch(base=base),
            base_digest=base,
            new=[correction],
            earlier=[],
            held_text=prepared.held,
            ordinary_text=prepared.held[:1],
        )
        assert report.metrics["efficacy.generation"].after == 1
        return report.metrics[f"{kind}.generation"].after

    assert share("inverse") == 0
    assert share("inverse_edited", inverse=ASTANA["inverse"] | {"edit": True}) == 1
