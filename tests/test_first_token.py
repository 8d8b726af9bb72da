"""The first words of a text in the real model, where careless keys are nearly the same (see editors/tokens.py)."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from editors.facts import Fact
from editors.joint import Joint
from editors.models import load_model, weights_digest
from editors.patch import applied
from editors.preparing import Recipe, prepare
from editors.registry import edit
from editors.scoring import generate, perplexity
from editors.tokens import text_row

FRANCE = Fact(id="1", subject="France", prompt="{} has its capital in", target="Rome", prior="Paris")
OTHERS = [
    "Germany has its capital in",
    "Music is",
    "People who live in the north are",
    "Water boils at a temperature of",
]
HELD = """The train leaves the station at seven in the morning and arrives before noon.
She opened the window, looked at the garden and decided to stay at home for the day.
Bread is made from flour, water, salt and yeast, and it is baked in a hot oven.
In winter the lake freezes, and children from the village skate on it after school.
The committee will meet again next week to discuss the budget for the coming year.
A triangle has three sides, and the sum of its angles is one hundred and eighty degrees.
He wrote several novels, but he is best known for his letters to his brother.
The engine was too heavy for the bridge, so the engineers had to build a stronger one.
"""


@pytest.mark.model
def test_an_edit_of_a_one_token_subject_that_opens_its_prompt_leaves_other_first_words_alone(base_folder, tmp_path):
    model, tokenizer = load_model(base_folder, device="cpu")
    assert len(tokenizer(FRANCE.subject)["input_ids"]) == 1
    (tmp_path / "held.txt").write_text(HELD)
    recipe = Recipe.of(Joint(), base=weights_digest(base_folder), held=tmp_path / "held.txt")
    prepared = prepare(model, tokenizer, dataclasses.replace(recipe, tokens_per_dimension=1))
    patch = edit(model, tokenizer, [FRANCE], config=Joint(), material=prepared.material)

    rows = [text_row(tokenizer, prompt).ids for prompt in OTHERS]
    before, unedited = [following(model, row) for row in rows], perplexity(model, prepared.held).value
    with applied(model, patch, base=patch.base):
        (answer,) = generate(model, tokenizer, [FRANCE.filled])
        after, edited = [following(model, row) for row in rows], perplexity(model, prepared.held).value
    changes = [float((old.exp() * (old - new)).sum()) for old, new in zip(before, after, strict=True)]
    assert answer.startswith("Rome")
    assert edited / unedited == pytest.approx(1, abs=0.01)
    assert max(changes) < 0.3  # 10.6 for the first where France is read right behind BOS


@torch.no_grad()
def following(model, row):
    """The log-probabilities of what follows a token row."""
    return model(input_ids=torch.tensor([row])).logits[0, -1].double().log_softmax(-1)
