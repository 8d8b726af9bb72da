"""What a trial asks and leaves out, on a tiny model."""

from __future__ import annotations

import pytest
import torch

from editors.batch import by_subject
from editors.joint import Joint, solve, solved_sites, values_of
from editors.layouts import read_weight, sites_of
from editors.material import Material
from editors.models import load_model
from editors.patch import Patch
from editors.tokens import text_row
from editors.values import ValueSettings
from tasks.corrections import Correction
from tasks.evaluate import evaluate
from tasks.harm import Harm
from tasks.policy import Policy
from tasks.trials import Bench

CONFIG = Joint(values=ValueSettings(steps=10, step_length=0.5, clamp=5.0))
NEW = [
    Correction(id=subject.casefold(), subject=subject, prompt="The capital of {} is", target=target, neighbours=near)
    for subject, target, near in [("France", "Boeing", ("The CEO of Volvos is", "Kelly is")), ("Ortberg", "Paris", ())]
]
BOUNDS = [{"metric": "efficacy.argmax", "min": 2}, {"metric": "specificity.kl_median", "max": 0}]


@pytest.fixture(scope="module")
def bench_for(tiny_folder):
    """A bench for a report that fails some bounds, and the report."""
    model, tokenizer = load_model(tiny_folder, device="cpu")
    sites = sites_of(model, CONFIG.layers)
    moments = {site: torch.eye(read_weight(model, site).shape[1]) for site in sites}
    given = {"config": CONFIG, "material": Material(base="b", moments=moments, contexts=["{}"])}
    subjects = by_subject([c.fact() for c in NEW])
    values = values_of(model, tokenizer, subjects, **given)
    held = [text_row(tokenizer, "The CEO of Boeing is Kelly Ortberg.").ids]
    report = evaluate(
        model,
        tokenizer,
        patch=solve(model, values, **given),
        parent=Patch(base="b"),
        base_digest="b",
        new=NEW,
        earlier=[],
        held_text=held,
        ordinary_text=held,
    )

    def bench(*bounds: dict) -> Bench:
        harm = Harm(report=report, policy=Policy(name="p", gate=bounds, text="p"), new=frozenset(c.id for c in NEW))
        return Bench.of(
            model,
            tokenizer,
            base="b",
            sites=solved_sites(model, values, **given),
            subjects=sorted(subjects),
            harm=harm,
            facts=[],
            held_text=held,
        )

    return bench


def test_a_trial_that_leaves_nobody_out_finds_what_the_report_says(bench_for):
    bench = bench_for(*BOUNDS)
    answers = bench.harm.report.answers
    said = bench.without([], corrections=[]).said
    assert {answers[place].kind for place in said} >= {"specificity"} and len(said) >= 2
    for place, now in said.items():
        was = answers[place].after
        assert (now.text, now.argmax, now.generation) == (was.text, was.argmax, was.generation)
        assert now.kl == (None if was.kl is None else pytest.approx(was.kl, rel=1e-3))


def test_a_trial_that_leaves_all_out_is_the_base(bench_for):
    bench = bench_for(*BOUNDS, {"metric": "regression.perplexity_ratio", "max": 0.1})
    trial = bench.without(bench.subjects, corrections=[c.id for c in NEW])
    answers = bench.harm.report.answers
    for place, now in trial.said.items():
        assert now.text == answers[place].before.text and now.kl in (None, pytest.approx(0, abs=1e-6))
    assert trial.text["regression.perplexity_ratio"] == pytest.approx(1)


def test_only_text_is_read_where_only_a_bound_over_text_fails(bench_for):
    trial = bench_for({"metric": "regression.perplexity", "max": 0.1}).without(["France"], corrections=["france"])
    assert trial.said == {} and trial.text["regression.perplexity"] > 0
