"""What a report says of a patch, checked against the model's own logits."""

from __future__ import annotations

import pytest
import torch

from editors.layouts import read_weight, sites_of
from editors.models import load_model
from editors.patch import Dense, Patch, applied
from editors.scoring import generate, probe_of, weigh
from editors.tokens import text_row
from tasks.corrections import Correction
from tasks.evaluate import evaluate
from tasks.report import METRICS, Report

PROMPTS = ["The capital of Italy is", "Boeing", "Volvos are", "The CEO of Volvo is"]
UNEDITED = Patch(base="b")
FRANCE = {"subject": "France", "prompt": "The capital of {} is", "target": "Lyon"}


@pytest.fixture
def tiny(tiny_folder):
    return load_model(tiny_folder, device="cpu")


@pytest.fixture
def patch(tiny) -> Patch:
    """Noise as large as the weights of two sites."""
    torch.manual_seed(0)
    weights = {site: read_weight(tiny[0], site) for site in sites_of(tiny[0], (4, 5))}
    return Patch(base="b", deltas={site: Dense(delta=3 * torch.randn_like(weight)) for site, weight in weights.items()})


def report_of(tiny, patch: Patch, *, parent: Patch | None = UNEDITED, protected=(), withdrawn=(), **more) -> Report:
    new = [Correction.model_validate(FRANCE | more)]
    held = [text_row(tiny[1], "The CEO of Boeing is Kelly Ortberg.").ids]
    return evaluate(
        *tiny,
        patch=patch,
        parent=parent,
        base_digest="b",
        new=new,
        earlier=[],
        protected=protected,
        withdrawn=withdrawn,
        held_text=held,
        ordinary_text=held,
    )


@torch.no_grad()
def logits(tiny, prompt: str) -> torch.Tensor:
    model, tokenizer = tiny
    return model(input_ids=torch.tensor([text_row(tokenizer, prompt).ids])).logits[0, -1]


def test_neighbours_are_compared_by_all_that_could_follow_them(tiny, patch):
    before = torch.stack([logits(tiny, prompt) for prompt in PROMPTS])
    with applied(tiny[0], patch, base="b"):
        after = torch.stack([logits(tiny, prompt) for prompt in PROMPTS])
    divergence = torch.nn.functional.kl_div(
        after.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="none"
    ).sum(-1)
    assert divergence.min() > 1e-3

    metrics = report_of(tiny, patch, neighbours=PROMPTS).metrics
    for name, share in (("median", 0.5), ("p95", 0.95)):
        found = metrics[f"specificity.kl_{name}"]
        assert found.after == pytest.approx(float(divergence.quantile(share)), rel=1e-3)
        assert (found.before, found.count) == (0, len(PROMPTS))
    same = (before.argmax(-1) == after.argmax(-1)).float()
    assert metrics["specificity.argmax"].after == pytest.approx(float(same.mean()))


def test_the_empty_patch_changes_no_number(tiny):
    metrics = report_of(tiny, Patch(base="b"), neighbours=PROMPTS, prior="Paris").metrics
    assert set(metrics) == set(METRICS)
    assert [name for name, metric in metrics.items() if metric.before != metric.after] == []


def test_what_could_not_be_asked_has_no_number(tiny, patch):
    metrics = report_of(tiny, patch).metrics
    unasked = {name for name, metric in metrics.items() if metric.count == 0}
    assert {"efficacy.logprob", "retention.argmax", "specificity.kl_p95", "specificity.argmax"} <= unasked
    assert all(metrics[name].before is None and metrics[name].after is None for name in unasked)


def test_production_is_asked_by_its_own_patch_and_is_the_base_where_there_is_none(tiny, patch):
    served = report_of(tiny, Patch(base="b"), parent=patch, neighbours=PROMPTS)
    edited = report_of(tiny, patch, neighbours=PROMPTS)
    for name in METRICS:
        assert served.metrics[name].parent == edited.metrics[name].after
        assert edited.metrics[name].parent == edited.metrics[name].before
    assert [a.parent for a in served.answers] == [a.after for a in edited.answers]
    assert edited.metrics["specificity.argmax"].after < 1, "the patch changes something"


def test_production_on_another_base_is_not_asked(tiny, patch):
    found = report_of(tiny, patch, parent=None, neighbours=PROMPTS)
    assert {metric.parent for metric in found.metrics.values()} == {None}
    assert {answer.parent for answer in found.answers} == {None}
    assert found.metrics["specificity.argmax"].before == 1


def test_a_protected_fact_with_the_id_of_a_correction_keeps_its_own_relation(tiny, patch):
    guarded = Correction.model_validate({"id": "same", "subject": "Italy", "prompt": "{} borders", "target": "Austria"})
    found = report_of(tiny, patch, id="same", protected=[guarded])
    relations = {answer.kind: answer.relation for answer in found.of_kind("efficacy", "protected")}
    assert relations == {"efficacy": "the capital of {} is", "protected": "{} borders"}


def test_a_report_names_the_patch_and_the_relation_that_it_is_of(tiny, patch):
    found = report_of(tiny, patch)
    assert (found.base, found.patch) == ("b", patch.digest)
    assert {answer.relation for answer in found.answers} == {"the capital of {} is"}


def test_protected_facts_are_asked_and_count_where_production_has_them_right(tiny, patch):
    model, tokenizer = tiny
    (says,) = generate(model, tokenizer, ["The capital of Italy is"])
    known = Correction.model_validate(
        {"subject": "Italy", "prompt": "The capital of {} is", "target": says.split()[0], "paraphrases": ["{} is"]}
    )
    unknown = Correction.model_validate({"subject": "Boeing", "prompt": "The CEO of {} is", "target": "Nobody"})
    kept = report_of(tiny, Patch(base="b"), protected=[known, unknown])
    assert len(kept.of_kind("protected")) == 3
    assert 1 <= kept.metrics["protected.kept"].count <= 2 and kept.metrics["protected.kept"].misses == 0
    lost = report_of(tiny, patch, protected=[known, unknown]).metrics["protected.kept"]
    assert lost.parent == 1 and lost.misses > 0


def withdrawn_as(answer: str) -> Correction:
    fact = Correction.model_validate({"subject": "Italy", "prompt": "The capital of {} is", "target": "Rome"})
    return fact.model_copy(update={"target": answer})  # a random model says what no requester could write


def test_a_withdrawn_fact_is_gone_where_its_target_is_not_said_unless_the_base_says_it(tiny, patch):
    prompt = "The capital of Italy is"
    was = generate(*tiny, [prompt])[0]
    with applied(tiny[0], patch, base="b"):
        now = generate(*tiny, [prompt])[0]
    assert was.split()[0] != now.split()[0]

    gone = {said: report_of(tiny, patch, withdrawn=[withdrawn_as(said)]).metrics for said in (was, now, "Rome")}
    assert [metrics["absence.generation"].after for metrics in gone.values()] == [1.0, 0.0, 1.0]


def test_the_rise_of_a_withdrawn_target_is_read_from_both_models_and_the_largest_counts(tiny, patch):
    facts = [withdrawn_as(target) for target in ("Rome", "Milan")]
    probes = [probe_of(fact.fact()) for fact in facts]
    was = [each.target_logprob for each in weigh(*tiny, probes)]
    with applied(tiny[0], patch, base="b"):
        now = [each.target_logprob for each in weigh(*tiny, probes)]
    rises = [after - before for before, after in zip(was, now, strict=True)]
    assert max(map(abs, rises)) > 0.01
    found = report_of(tiny, patch, withdrawn=facts).metrics["absence.rise"]
    assert found.after == pytest.approx(max(rises), abs=1e-4) and found.count == 2


def test_without_an_edit_nothing_that_was_withdrawn_is_likelier_than_in_the_base(tiny):
    metrics = report_of(tiny, UNEDITED, parent=UNEDITED, withdrawn=[withdrawn_as("Rome")]).metrics
    assert metrics["absence.rise"].after == 0 and metrics["absence.generation"].after == 1


def test_a_hop_counts_only_where_the_base_knows_what_it_takes_for_granted(tiny, patch):
    (says,) = generate(*tiny, ["Boeing"])
    known = {"prompt": "Boeing", "answer": says.split()[0]}
    unknown = {"prompt": "The CEO of Boeing is", "answer": "Nobody at all"}
    hops = [{"prompt": f"Hop {number}", "answer": "Lyon"} for number in range(3)]
    found = report_of(tiny, patch, portability=[hops[0], hops[1] | {"given": known}, hops[2] | {"given": unknown}])
    assert [answer.prompt for answer in found.of_kind("portability")] == ["Hop 0", "Hop 1"]
    assert found.metrics["portability.generation"].count == 2


def test_what_is_edited_in_and_what_follows_are_counted_apart(tiny, patch):
    inverse = {"prompt": "{} is in", "target": "France"}
    aided = report_of(tiny, patch, inverse=inverse, aliases=["Gaul"]).metrics
    alone = report_of(tiny, patch, inverse=inverse | {"edit": False}).metrics
    counts = {name: (aided[name].count, alone[name].count) for name in METRICS if name.endswith(".generation")}
    assert (counts["inverse.generation"], counts["inverse_edited.generation"]) == ((0, 1), (1, 0))
    assert counts["portability_edited.generation"] == (1, 0)
    assert counts["efficacy.generation"] == (1, 1)


def test_made_prompts_are_counted_and_marked(tiny, patch):
    found = report_of(tiny, patch)
    metric = found.metrics["generalization.argmax"]
    assert (metric.made, metric.count) == (2, 2) and all(answer.made for answer in found.of_kind("generalization"))
    assert report_of(tiny, patch, paraphrases=["{} is ruled from"]).metrics["generalization.argmax"].made == 0
