"""The commands for whoever writes a policy."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from flows.cli import app
from tasks.candidate import report_record
from tasks.errors import PolicyError, ReportError
from tasks.gate import gate
from tasks.policy import read_policy
from tasks.report import Answer, Metric, Report, Said

SAID = Said(text="Rome", generation=True, argmax=True)
ANSWER = Answer(
    correction="c1", relation="r", kind="efficacy", prompt="p", target="Rome", before=SAID, parent=SAID, after=SAID
)
EFFICACY = Metric(before=0.0, parent=0.0, after=0.8, count=10, misses=2)


def invoke(*words: str, code: int = 0) -> str:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, words)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def kept(tmp_path):
    """A report with its verdict, as a candidate keeps it."""
    report = Report(base="b", patch="p", metrics={"efficacy.generation": EFFICACY}, answers=(ANSWER,))
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report_record(report, gate(report, read_policy("default")))))
    return str(path)


@pytest.fixture
def policy(tmp_path):
    """Write a policy of one bound on efficacy.generation."""

    def write(bound: str) -> str:
        path = tmp_path / "own.toml"
        path.write_text(f"name = 'own'\n[[gate]]\nmetric = 'efficacy.generation'\n{bound}\n")
        return str(path)

    return write


def test_the_shipped_policies_are_listed():
    assert {"default", "hotfix", "strict"} <= set(invoke("policy", "list").split())


def test_a_policy_is_read_back_in_words(policy):
    shown = invoke("policy", "check", policy("max_drop = 0.1\nfrom = 'parent'"))
    assert "at most 0.1 below the parent" in shown


def test_a_policy_with_an_unknown_metric_is_refused_by_name(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text("name = 'own'\n[[gate]]\nmetric = 'efficacy.guess'\nmin = 1\n")
    with pytest.raises(PolicyError, match=r"efficacy\.guess"):
        invoke("policy", "check", str(path))


def test_a_policy_is_tried_on_a_kept_report(kept, policy):
    assert "policy own: pass" in invoke("policy", "test", policy("min = 0.8"), "--report", kept)
    shown = invoke("policy", "test", policy("max_misses = 1"), "--report", kept, code=1)
    assert "2 of 10 prompts are wrong, more than 1" in shown and "policy own: fail" in shown


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "can't be read as a report"),
        ("{}", "KeyError"),
        ("[]", "no report in it"),
        ('{"report": {"metrics": {}}}', "base: Field required"),
        ('{"report": {"base": "b", "patch": "p", "metrics": {}, "answers": []}}', "nothing was asked"),
    ],
)
def test_what_is_no_report_is_refused_by_name(tmp_path, policy, text, named):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(ReportError, match=named):
        invoke("policy", "test", policy("min = 0.8"), "--report", str(path))


def test_the_schema_of_a_policy_is_json():
    assert json.loads(invoke("policy", "schema"))["title"] == "Policy"
