"""The first words of a text in the real model, where careless keys are nearly the same (see editors/tokens.py)."""

from __future__ import annotations

import pytest
import torch

from editors.expectation import divergence
from editors.facts import Fact
from editors.joint import Joint
from editors.models import load_model
from editors.patch import applied
from editors.registry import edit
from editors.scoring import Probe, generate, perplexity, weigh
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
def test_an_edit_of_a_one_token_subject_that_opens_its_prompt_leaves_other_first_words_alone(base_folder, prepared):
    model, tokenizer = load_model(base_folder, device="cpu")
    assert len(tokenizer(FRANCE.subject)["input_ids"]) == 1
    held = [text_row(tokenizer, line).ids for line in HELD.splitlines()]
    material = prepared.material  # of fewer tokens C is too noisy: 0.4 and 0.6 nats for Germany
    patch = edit(model, tokenizer, [FRANCE], config=Joint(), material=material)

    others = [Probe(fact="", kind="specificity", prompt=prompt, target="the") for prompt in OTHERS]
    before, unedited = weigh(model, tokenizer, others), perplexity(model, held).value
    with applied(model, patch, base=patch.base):
        (answer,) = generate(model, tokenizer, [FRANCE.filled])
        after, edited = weigh(model, tokenizer, others), perplexity(model, held).value
    changes = divergence(model, *(torch.stack([each.state for each in weighed]) for weighed in (before, after)))
    assert answer.startswith("Rome")
    assert edited / unedited == pytest.approx(1, abs=0.01)
    assert float(changes.max()) < 0.3  # 10.6 for the first where France is read right behind BOS
