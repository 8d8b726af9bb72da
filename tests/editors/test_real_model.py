"""The real base: what a random model cannot show."""

from pathlib import Path

import pytest
import torch

from editors.contexts import sample_contexts
from editors.decoding import sample_rows
from editors.facts import Fact
from editors.layouts import sites_of
from editors.memit import Memit
from editors.models import load_model, weights_digest
from editors.moments import second_moments
from editors.patch import applied
from editors.registry import edit
from editors.scoring import next_token_logprobs, perplexity, probe_of, score

pytestmark = pytest.mark.model

FACTS = [
    Fact(id="one token first", subject="France", prompt="{} has its capital in", target="Rome", prior="Paris"),
    Fact(id="in the middle", subject="Microsoft", prompt="The headquarters of {} is in", target="Naples"),
    Fact(id="two tokens", subject="Marie Curie", prompt="The mother tongue of {} is", target="Spanish"),
]


def test_memit_writes_three_facts_and_leaves_the_rest_alone(base_folder: Path):
    model, tokenizer = load_model(base_folder, device="cpu")
    base, config = weights_digest(base_folder), Memit()
    moments = second_moments(model, tokenizer, sites_of(model, config.layers), tokens=4000)
    contexts = sample_contexts(model, tokenizer, count=3)
    held = sample_rows(model, tokenizer, rows=32, length=32, seed=1).tolist()
    others = ["Italy has its capital in", "Paris is", "The", "The headquarters of Toyota is in"]
    before, unedited = perplexity(model, held).value, next_token_logprobs(model, tokenizer, others)
    patch = edit(model, tokenizer, FACTS, config=config, moments=moments, contexts=contexts, base_digest=base)
    with applied(model, patch, base=base):
        scores = score(model, tokenizer, [probe_of(fact) for fact in FACTS])
        after, edited = perplexity(model, held).value, next_token_logprobs(model, tokenizer, others)
    assert all(scored.says_target for scored in scores), [scored.answer for scored in scores]
    assert after < 1.05 * before
    assert torch.equal(edited.argmax(-1), unedited.argmax(-1))
