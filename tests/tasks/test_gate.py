from __future__ import annotations

import math

import pytest

from tasks.errors import PolicyError
from tasks.gate import Policy, gate, read_policy
from tasks.report import METRICS, Metric, Report


def report(**metrics: Metric) -> Report:
    return Report(metrics={name.replace("_", ".", 1): metric for name, metric in metrics.items()}, answers=())


def policy(**bound) -> Policy:
    return Policy(name="p", gate=[{"metric": "efficacy.argmax", **bound}], text="p")


def test_a_bound_that_holds_passes():
    verdict = gate(report(efficacy_argmax=Metric(before=0.0, after=0.9, count=10)), policy(min=0.8))
    assert verdict.passed and not verdict.failures


def test_a_missing_metric_fails_closed():
    verdict = gate(report(), policy(min=0.0))
    assert not verdict.passed
    assert verdict.failures[0].why == "was not measured"


@pytest.mark.parametrize("after", [None, math.nan, math.inf])
def test_what_is_no_number_fails_closed(after):
    verdict = gate(report(efficacy_argmax=Metric(before=0.0, after=after, count=10)), policy(min=0.0))
    assert [o.why for o in verdict.failures] == ["is not a number"]


def test_too_few_prompts_fail():
    verdict = gate(report(efficacy_argmax=Metric(before=0.0, after=1.0, count=3)), policy(min=0.8, count=4))
    assert "on 3 prompts, the policy asks for 4" in verdict.failures[0].why


def test_a_drop_is_measured_from_the_base():
    measured = report(efficacy_argmax=Metric(before=0.9, after=0.7, count=10))
    assert not gate(measured, policy(max_drop=0.1)).passed
    assert gate(measured, policy(max_drop=0.25)).passed


def test_a_drop_without_a_base_fails_closed():
    measured = report(efficacy_argmax=Metric(before=None, after=0.7, count=10))
    assert not gate(measured, policy(max_drop=0.1)).passed


def test_a_warning_tells_without_blocking():
    verdict = gate(report(efficacy_argmax=Metric(before=0.0, after=0.1, count=10)), policy(min=0.8, severity="warn"))
    assert verdict.passed and [o.why for o in verdict.warnings] == ["0.1 is below 0.8"]


def test_what_need_not_be_asked_may_be_empty():
    nothing = Metric(before=None, after=None, count=0)
    assert gate(report(efficacy_argmax=nothing), policy(min=0.8, count=0)).passed


def test_the_shipped_policy_is_valid_and_blocks_on_the_essentials():
    blocking = {bound.metric for bound in read_policy().gate if bound.severity == "block"}
    assert blocking >= {
        "efficacy.generation",
        "retention.generation",
        "specificity.argmax",
        "regression.perplexity_ratio",
    }


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name = 'x'\n[[gate]]\nmetric = 'efficacy.guess'\nmin = 1", "efficacy.guess"),
        ("name = 'x'\n[[gate]]\nmetric = 'efficacy.argmax'", "no bound"),
        ("name = 'x'", "gate"),
        ("name = 'x'\n[[gate]]\nmetric = 'efficacy.argmax'\nmin = 1\nseverity = 'loud'", "severity"),
        ("name = ", "can't be read"),
        ("name = 'x'\ngates = 1", "gates"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(tmp_path, text, named):
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(PolicyError, match=named):
        read_policy(path)


def test_a_policy_that_is_missing_lets_nothing_through(tmp_path):
    with pytest.raises(PolicyError, match="nothing is let through"):
        read_policy(tmp_path / "none.toml")


def test_the_policy_is_known_by_the_digest_of_its_text(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text("name = 'x'\n[[gate]]\nmetric = 'efficacy.argmax'\nmin = 1\n")
    first = read_policy(path).digest
    path.write_text("name = 'x'\n[[gate]]\nmetric = 'efficacy.argmax'\nmin = 0.9\n")
    assert read_policy(path).digest != first
    assert len(METRICS) == len(set(METRICS))
