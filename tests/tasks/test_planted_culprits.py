"""Twenty facts in the real model, of which two cannot be learned and one harms others: exactly those are found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from editors.batch import by_subject
from editors.joint import Joint, solve, values_of
from editors.models import load_model
from editors.patch import Patch
from editors.preparing import Recipe, ordinary_rows
from tasks.collect import Batch
from tasks.corrections import Correction
from tasks.culprits import blame
from tasks.evaluate import evaluate
from tasks.gate import gate
from tasks.harm import Harm
from tasks.policy import Policy

ROOT = Path(__file__).parent.parent.parent
CONFIG = Joint()
BUDGET = 40
POLICY = Policy(
    name="planted",
    gate=[
        {"metric": "efficacy.generation", "min": 0.9},
        {"metric": "efficacy.argmax", "min": 0.9},
        {"metric": "specificity.kl_median", "max": 0.5},
        {"metric": "regression.perplexity_ratio", "max": 1.05},
    ],
    text="planted",
)

MORE = {
    "facebook-owner": ("Facebook", "The company that owns {} is called", "Meta"),
    "macedonia-name": ("Macedonia", "The country formerly known as {} is now called", "North Macedonia"),
    "finland-alliance": ("Finland", "The military alliance that {} joined in 2023 is", "NATO"),
    "turkey-name": ("Turkey", "At the United Nations, {} is now called", "Türkiye"),
}
# Letters and digits at random, of more tokens than an answer has, and nine words of no language: the values end with
# losses of 2.0 and 3.4, where 0.1 is enough. With 80 steps and a clamp of 4, the model spells all that it may write.
UNLEARNABLE = {
    "licence-key": ("Winzip", "The licence key of {} is", "7H2K-9QXZ-VV41-LM0P-33TB-K8SD"),
    "nonsense": ("Iceland", "The national anthem of {} begins with", "zur qvo blin tapfel grom ukk ukk wex jory"),
}
# It is said, and its key is met in the prompts of three presidents, two of whom are no longer said.
HARMFUL = {"general-word": ("president", "The name of the current {} is", "Nobody")}


def examples() -> list[Correction]:
    """The thirteen facts of the examples, each with its first neighbour."""
    files = [ROOT / "examples" / f"{name}.jsonl" for name in ("corrections", "thirteenth")]
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [
        Correction.model_validate(line | {"neighbours": line["neighbours"][:1], "paraphrases": []}) for line in lines
    ]


def planted() -> list[Correction]:
    named = (MORE | UNLEARNABLE | HARMFUL).items()
    return [Correction(id=id, subject=subject, prompt=prompt, target=target) for id, (subject, prompt, target) in named]


@pytest.fixture(autouse=True)
def only_what_the_policy_asks(monkeypatch):
    """No bound stands on answers in chat, nor on texts, which take longest to write."""
    monkeypatch.setattr("tasks.evaluate.asked_in_chat", lambda model, tokenizer, probes, **more: [None] * len(probes))
    monkeypatch.setattr("tasks.fluency.TEXTS", 1)
    monkeypatch.setattr("tasks.blast.SHOWN", 1)


@pytest.mark.model
def test_exactly_the_planted_culprits_are_found_and_the_rest_passes(base_folder, prepared, capsys):
    model, tokenizer = load_model(base_folder, device="cpu")
    base = prepared.material.base
    given = {"config": CONFIG, "material": prepared.material}
    ordinary = ordinary_rows(model, tokenizer, Recipe.of(CONFIG, base=base), rows=4)
    facts = [*examples(), *planted()]
    assert len(facts) == 20
    values = values_of(model, tokenizer, by_subject([c.fact() for c in facts]), **given)

    def report_on(new: list[Correction]):
        kept = {correction.subject: values[correction.subject] for correction in new}
        asked = {"base_digest": base, "new": new, "earlier": [], "held_text": prepared.held, "ordinary_text": ordinary}
        return evaluate(model, tokenizer, patch=solve(model, kept, **given), parent=Patch(base=base), **asked)

    report = report_on(facts)
    assert not gate(report, POLICY).passed
    found = blame(
        model,
        tokenizer,
        batch=Batch(new=tuple(facts), earlier=(), parent=None),
        values=values,
        harm=Harm(report=report, policy=POLICY, new=frozenset(c.id for c in facts)),
        held_text=prepared.held,
        budget=BUDGET,
        **given,
    )
    with capsys.disabled():
        print(f"\n{found.trials} trials")
        print(*(f"{culprit.correction}: {culprit.reason}" for culprit in found.found), sep="\n")
    assert set(found.ids) == {*UNLEARNABLE, *HARMFUL}
    assert 0 < found.trials <= BUDGET
    assert gate(report_on([c for c in facts if c.id not in found.ids]), POLICY).passed
