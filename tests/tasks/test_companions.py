"""What follows from a correction, in the real model: not by itself, but where it is edited in."""

from __future__ import annotations

import pytest

from editors.joint import Joint
from editors.models import load_model
from editors.patch import Patch
from editors.registry import edit
from tasks.companions import facts_of
from tasks.corrections import Correction
from tasks.evaluate import evaluate

ASTANA = {
    "subject": "Kazakhstan",
    "prompt": "The capital of {} is",
    "target": "Astana",
    "prior": "Almaty",
    "inverse": {"prompt": "{} is the capital of", "target": "Kazakhstan", "edit": False},
}


@pytest.mark.model
def test_an_inverse_does_not_follow_by_itself_and_is_said_once_it_is_edited_in(base_folder, prepared, monkeypatch):
    # Writing takes longest, and nothing here is about answers in chat or about text.
    monkeypatch.setattr("tasks.evaluate.asked_in_chat", lambda model, tokenizer, probes, **more: [None] * len(probes))
    monkeypatch.setattr("tasks.fluency.TEXTS", 1)
    monkeypatch.setattr("tasks.blast.SHOWN", 1)
    model, tokenizer = load_model(base_folder, device="cpu")
    base = prepared.material.base

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
            held_text=prepared.held[:1],
            ordinary_text=prepared.held[:1],
        )
        assert report.metrics["efficacy.generation"].after == 1
        return report.metrics[f"{kind}.generation"].after

    assert share("inverse") == 0
    assert share("inverse_edited", inverse=ASTANA["inverse"] | {"edit": True}) == 1
