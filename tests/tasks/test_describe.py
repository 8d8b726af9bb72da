from __future__ import annotations

from urllib.parse import unquote

import pytest

from tasks.collect import Leaving
from tasks.corrections import Correction
from tasks.describe import (
    answers_list,
    changed_since,
    escape,
    facts_list,
    metrics_table,
    numbers,
    review_text,
    support,
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
        asked_by="bob",
        report=REPORT,
        verdict=VERDICT,
        links={},
    )
    assert "# Review candidate aaaaaaaaaaaa: 1 fact out" in text
    assert "- **The capital of France is** → Lyon becomes revoked: wrong \\*source\\* (asked by ada)" in text
    assert "Asked for by bob." in text and "New facts" not in text


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


def fact(**given) -> Correction:
    return Correction.model_validate({"subject": "France", "prompt": "The capital of {} is", "target": "Lyon"} | given)


def efficacy_of(correction: Correction, **said: str) -> Answer:
    answers = {
        name: Said(text=said.get(name, "x"), generation=name == "after") for name in ("before", "parent", "after")
    }
    prompt, target = correction.filled_prompt, correction.target
    return Answer(correction=correction.id, relation="r", kind="efficacy", prompt=prompt, target=target, **answers)


def test_a_fact_stands_with_its_answers_its_id_its_people_and_its_evidence():
    correction = fact(id="france", requester="ada", reason="it *moved*", evidence=["https://example.org/a?b=1&c=2"])
    report = REPORT.model_copy(update={"answers": (efficacy_of(correction, parent="Nice", after="Lyon"),)})
    assert facts_list("New facts", [correction], report, {"france": "bob"}).splitlines()[2:] == [
        "- ✓ **The capital of France is** → Lyon. Before: *x* Production: *Nice* Now: *Lyon*",
        "  - Id france, asked for by ada, submitted by bob: it \\*moved\\*",
        "  - Evidence: [https://example.org/a?b=1&c=2](<https://example.org/a?b=1&c=2>)",
    ]
    assert "asked for and submitted by bob" in facts_list("t", [fact(id="france")], report, {"france": "bob"})


@pytest.mark.parametrize(
    "address",
    ["https://a/>](javascript:alert(1))", "https://a/<img>", 'https://a/"onload="x', "https://a/)[b](http://c"],
)
def test_an_address_ends_its_link_nowhere_but_at_its_end(address):
    shown = support(fact(evidence=[address]).evidence)
    text, destination = shown[1:-2].split("](<")
    assert shown.endswith(">)") and not set(destination) & set('<>()[]"\\` *')
    assert text == destination and unquote(destination) == unquote(address)


def test_a_kept_file_is_named_by_its_digest():
    kept = fact(evidence=[{"kind": "file", "value": "min`utes.pdf", "sha256": "a" * 64}])
    assert support(kept.evidence) == f"file min\\`utes\\.pdf (sha256 {'a' * 16}…)"
    assert support(()) == "none given"


def test_what_changed_since_production_is_said_and_what_did_not_is_counted():
    earlier = efficacy_of(fact(id="france"), parent="Lyon", after="Lyon").model_copy(update={"kind": "retention"})
    assert "1 answer about them, all as in production" in changed_since(
        REPORT.model_copy(update={"answers": (earlier,)})
    )
    other = earlier.model_copy(update={"after": Said(text="Nice", generation=False)})
    text = changed_since(REPORT.model_copy(update={"answers": (earlier, other)}))
    assert "1 of 2" in text and "- ✗ **The capital of France is** → Lyon. Production: *Lyon* Now: *Nice*" in text
    assert changed_since(REPORT) == ""
