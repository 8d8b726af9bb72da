"""What the three models write, and how the base reads it."""

from __future__ import annotations

import pytest
import torch

from editors.fluency import write
from editors.layouts import read_weight, sites_of
from editors.models import load_model
from editors.patch import Dense, Patch, applied
from tasks.corrections import Correction
from tasks.fluency import OPENINGS, TEXTS, fluency, passages_of, prompts_of


@pytest.fixture
def tiny(tiny_folder):
    return load_model(tiny_folder, device="cpu")


def corrections(number: int) -> list[Correction]:
    return [
        Correction.model_validate({"subject": f"Place {n}", "prompt": "The capital of {} is", "target": "Bern"})
        for n in range(number)
    ]


def test_facts_come_first_and_openings_fill_them_up():
    assert prompts_of(()) == list(OPENINGS)
    assert prompts_of(corrections(2)) == ["The capital of Place 0 is", "The capital of Place 1 is", *OPENINGS[:18]]
    assert len(prompts_of(corrections(50))) == TEXTS == len(OPENINGS)


def test_a_model_that_writes_what_the_base_would_not_is_read_with_surprise(tiny):
    model, tokenizer = tiny
    torch.manual_seed(0)
    sites = {site: read_weight(model, site) for site in sites_of(model, (4, 5))}
    noise = Patch(base="b", deltas={site: Dense(delta=3 * torch.randn_like(w)) for site, w in sites.items()})
    prompts = list(OPENINGS[:4])
    before = write(model, tokenizer, prompts, length=20)
    with applied(model, noise, base="b"):
        after = write(model, tokenizer, prompts, length=20)
    found = fluency(model, {"before": before, "parent": None, "after": after})
    assert found["fluency.entropy"].count == 4 and found["fluency.base_perplexity"].count == 80
    ratio = found["fluency.base_perplexity_ratio"]
    assert (ratio.before, ratio.parent) == (1, None)
    assert ratio.after > 1.2

    first, *_ = passages_of(prompts, {"before": before, "parent": None, "after": after})
    assert (first.prompt, first.before.text, first.after.text) == (prompts[0], before[0].text, after[0].text)
    assert first.parent is None
