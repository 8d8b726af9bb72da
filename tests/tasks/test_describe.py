from __future__ import annotations

import pytest

from tasks.collect import Leaving
from tasks.corrections import Correction
from tasks.describe import (
    answers_list,
    escape,
    metrics_table,
    numbers,
    review_text,
    what_follows,
    worst_of_text,
)
from tasks.gate import gate
from tasks.policy import Policy
from tasks.report import Answer, Metric, Passage, Report, Said

EFFICACY = Metric(before=0.0, parent=0.5, after=1.0, low=0.34, high=1.0, count=2)
REPORT = Report(base="b", patch="p", metrics={"efficacy.argmax": EFFICACY}, answers=())
VERDICT = gate(REPORT, Policy(name="p", gate=[{"metric": "efficacy.argmax", "min": 0.8}], text="p"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", "a\\|b"),
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert\\(1\\)&gt;"),
        ("[x](http://evil)", "\\[x\\]\\(http\\://evil\\)"),
        ("# Approved\n\n**yes**", "\\# Approved \\*\\*yes\\*\\*"),
    ],
)
def test_request_text_can_forge_no_markup(text, shown):
    assert escape(text) == shown


def test_a_prompt_of_several_lines_stays_one_item_of_the_list():
    answer = Answer(
        correction="c",
        relation="r",
        kind="efficacy",
        prompt="a\n- b is",
        target="c",
        before=Said(text="x", generation=False),
        parent=Said(text="x", generation=False),
        after=Said(text="c", generation=True),
    )
    items = [line for line in answers_list("t", [answer]).splitlines() if line.startswith("- ")]
    assert items == ["- ✓ **a \\- b is** → c. Before: *x* Now: *c*"]


def test_every_bound_is_shown_beside_its_number():
    assert "| pass | efficacy.argmax | 0 → 0.5 → 1 | at least 0.8 | 2 |" in metrics_table(VERDICT)


def test_production_is_shown_where_it_is_not_as_the_base():
    assert numbers(EFFICACY) == "0 → 0.5 → 1"
    assert numbers(EFFICACY.model_copy(update={"parent": 0.0})) == "0 → 1"
    assert numbers(None) == "–"


def test_the_worst_of_ordinary_text_is_one_item_each_with_both_answers():
    passage = Passage(
        kind="blast",
        prompt="Far away. " * 40 + "a\n# b",
        before=Said(text="x", kl=0.0),
        parent=None,
        after=Said(text="*y*", kl=1.25),
    )
    shown = worst_of_text(REPORT.model_copy(update={"passages": (passage,)}))
    (item,) = [line for line in shown.splitlines() if line.startswith("- ")]
    assert item.startswith("- 1.2 nats behind *…") and item.endswith("a \\# b* Before: *x* Now: *\\*y\\**")
    assert len(item) < 300
    assert worst_of_text(REPORT) == ""


def test_the_review_says_what_a_decision_does_and_links_the_evidence():
    text = review_text(
        candidate="a" * 64,
        version="3",
        parent="b" * 64,
        new=[],
        report=REPORT,
        verdict=VERDICT,
        links={"version in MLflow": "http://127.0.0.1/x"},
    )
    assert (
        "Version **3**" in text
        and "Rejecting keeps production as it is" in text
        and "[version in MLflow](http://127.0.0.1/x)" in text
    )


def test_a_withdrawal_names_what_leaves_why_and_who_asked():
    fact = Correction.model_validate({"subject": "France", "prompt": "The capital of {} is", "target": "Lyon"})
    leaving = Leaving(correction=fact, becomes="revoked", reason="wrong *source*", asked_by="ada")
    text = review_text(
        candidate="a" * 64,
        version="3",
        parent="b" * 64,
        new=[],
        leaving=[leaving],
        report=REPORT,
        verdict=VERDICT,
        links={},
    )
    assert "# Review candidate aaaaaaaaaaaa: 1 fact out" in text
    assert "- **The capital of France is** → Lyon becomes revoked: wrong \\*source\\* (asked by ada)" in text
    assert "New facts" not in text


def question(kind: str, *, made: bool = False) -> Answer:
    models = dict.fromkeys(("before", "parent", "after"), Said(text="x", generation=False))
    return Answer(correction="c", relation="r", kind=kind, prompt=kind, target="t", made=made, **models)


def test_what_is_edited_in_with_a_fact_stands_apart_from_what_should_follow_by_itself():
    kinds = ("inverse_edited", "portability", "portability_edited", "inverse")
    text = what_follows(REPORT.model_copy(update={"answers": tuple(question(kind) for kind in kinds)}))
    edited_in, by_itself = text.split("## Should follow by itself")
    assert edited_in.count("_edited") == 2 and "_edited" not in by_itself
    assert what_follows(REPORT) == ""


def test_a_made_prompt_is_told_from_a_requesters():
    assert "(a made prompt)" in answers_list("t", [question("inverse", made=True)])
    assert "made" not in answers_list("t", [question("inverse")])
    made = REPORT.model_copy(update={"metrics": {"efficacy.argmax": EFFICACY.model_copy(update={"made": 1})}})
    verdict = gate(made, Policy(name="p", gate=[{"metric": "efficacy.argmax", "min": 0.8}], text="p"))
    assert "| at least 0.8 | 2, 1 made |" in metrics_table(verdict)
