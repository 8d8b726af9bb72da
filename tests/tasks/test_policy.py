from __future__ import annotations

import re

import pytest

from tasks.errors import PolicyError
from tasks.policy import policy_schema, read_policy, shipped_policies


@pytest.fixture
def written(tmp_path):
    """Write a policy's gate, and return its path."""

    def write(gate: str, *, head: str = "name = 'x'") -> str:
        path = tmp_path / "policy.toml"
        path.write_text(f"{head}\n[[gate]]\n{gate}\n" if gate else head)
        return str(path)

    return write


@pytest.mark.parametrize("name", shipped_policies())
def test_every_shipped_policy_is_valid_and_blocks_on_the_essentials(name):
    policy = read_policy(name)
    assert policy.name == name
    blocking = {bound.metric for bound in policy.gate if bound.severity == "block"}
    assert {"efficacy.generation", "specificity.argmax", "regression.perplexity_ratio", "protected.kept"} <= blocking
    assert "absence.generation" in blocking
    assert blocking & {"retention.generation", "retention.kept"}


@pytest.mark.parametrize(
    ("gate", "named"),
    [
        ("metric = 'efficacy.guess'\nmin = 1", "efficacy.guess"),
        ("metric = 'efficacy.argmax'", "no bound"),
        ("metric = 'efficacy.argmax'\nmin = 1\nseverity = 'loud'", "severity"),
        ("metric = 'efficacy.argmax'\nmin = 1\nbetween = 2", "between"),
        ("metric = 'efficacy.argmax'\nmin = 1\nfrom = 'parent'", "without a max_drop"),
        ("metric = 'efficacy.argmax'\nmin = nan", "finite"),
        ("metric = 'efficacy.argmax'\nmin = -inf", "finite"),
        ("metric = 'regression.perplexity'\nmax_drop = 0.1", "less of .* is better"),
        ("metric = 'specificity.kl_p95'\nmax_misses = 1", "less of .* is better"),
        ("metric = 'efficacy.argmax'\nmax_misses = 1\nstatistic = 'confidence'", "goes with min or max"),
        ("metric = 'regression.perplexity'\nmax = 9\nscope = 'fact'", "measured over text"),
        ("metric = 'regression.perplexity'\nmax = 9\nstatistic = 'confidence'", "measured over text"),
    ],
)
def test_a_bound_that_makes_no_sense_is_refused_by_name(written, gate, named):
    with pytest.raises(PolicyError, match=named):
        read_policy(written(gate))


@pytest.mark.parametrize(
    ("head", "named"),
    [
        ("name = 'x'", "gate"),
        ("name = ", "can't be read"),
        ("name = 'x'\ngates = 1", "gates"),
        ("text = 'x'", "no such field"),
    ],
)
def test_a_file_that_is_no_policy_is_refused_by_name(written, head, named):
    with pytest.raises(PolicyError, match=named):
        read_policy(written("", head=head))


@pytest.mark.parametrize("policy", ["/nowhere/none.toml", "lenient"])
def test_a_policy_that_is_missing_lets_nothing_through(policy):
    with pytest.raises(PolicyError, match="nothing is let through"):
        read_policy(policy)


def test_a_policy_is_known_by_the_digest_of_its_text(written):
    first = read_policy(written("metric = 'efficacy.argmax'\nmin = 1")).digest
    assert read_policy(written("metric = 'efficacy.argmax'\nmin = 0.9")).digest != first


def test_a_policy_can_bound_the_score_in_any_task(written):
    (bound,) = read_policy(written("metric = 'regression.task.copa'\nmax_drop = 0.02\ncount = 40")).gate
    assert (bound.metric, bound.max_drop) == ("regression.task.copa", 0.02)


def test_the_schema_knows_the_metrics_and_the_words_of_a_file():
    schema = policy_schema()
    bound = schema["$defs"]["Bound"]["properties"]
    known, of_tasks = bound["metric"]["anyOf"]
    assert "efficacy.generation" in known["enum"] and re.search(of_tasks["pattern"], "regression.task.copa")
    assert set(schema["properties"]) == {"name", "gate", "quorum"} and "from" in bound
