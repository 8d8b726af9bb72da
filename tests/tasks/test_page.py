from __future__ import annotations

import re

import pytest

from tasks.gate import gate
from tasks.page import page
from tasks.policy import Policy
from tasks.report import Answer, Metric, Passage, Report, Said

ATTACK = "<script>alert('x')</script>{{ 7 * 7 }}"


def answer(kind: str, *, prompt: str, before: bool, after: bool, text: str = "so", relation: str = "r") -> Answer:
    neighbour = kind == "specificity"
    was = Said(text="as it was", generation=before, argmax=True if neighbour else before, kl=0.0 if neighbour else None)
    now = Said(text=text, generation=after, argmax=after, kl=1.5 if neighbour else None)
    return Answer(
        correction="c1", relation=relation, kind=kind, prompt=prompt, target="t", before=was, parent=was, after=now
    )


@pytest.fixture
def report() -> Report:
    metrics = {
        "efficacy.argmax": Metric(before=0.0, parent=0.25, after=0.5, low=0.1, high=0.9, count=2, misses=1),
        "specificity.kl_median": Metric(before=0.0, parent=0.0, after=1.5, count=2),
    }
    answers = (
        answer("efficacy", prompt="what is said", before=False, after=True),
        answer("efficacy", prompt="what is not said", before=False, after=False, text=ATTACK),
        answer("specificity", prompt="kept", before=True, after=True, relation="calm"),
        answer("specificity", prompt="lost", before=True, after=False, relation="moved"),
    )
    return Report(base="b" * 64, patch="p" * 64, metrics=metrics, answers=answers)


def shown(report: Report, **bound) -> str:
    policy = Policy(name="own", gate=[{"metric": "efficacy.argmax", "min": 0.8, **bound}], text="x")
    return page(report, gate(report, policy), title="Candidate 1")


def rows(html: str, heading: str) -> str:
    """The table behind a heading."""
    return html[html.index(heading) :].partition("</table>")[0]


def test_every_bound_stands_beside_its_numbers_and_why_it_is_missed(report):
    html = shown(report)
    bounds = rows(html, "<h2>Bounds")
    assert 'Candidate 1: <span class="fail">fail' in html
    assert (
        re.sub(r"<[^>]+>", "|", bounds)
        .replace("\n", "")
        .endswith("|block||efficacy.argmax||0||0.25||0.5||0.1 to 0.9||2||at least 0.8||is 0.5, below 0.8||")
    )


def test_what_is_not_as_it_should_be_is_shown_with_the_answers_of_all_three(report):
    missed = rows(shown(report), "Efficacy: 1 not as it should be")
    assert "what is not said" in missed and "what is said" not in missed and missed.count("as it was") == 2
    lost = rows(shown(report), "Specificity: 1 not as it should be")
    assert "lost" in lost and "kept" not in lost


def test_relations_are_listed_the_most_changed_first(report):
    table = rows(shown(report), "Specificity by relation")
    assert table.index("moved") < table.index("calm")


@pytest.mark.parametrize("field", ["prompt", "target", "relation", "correction"])
def test_what_came_with_a_request_is_data(report, field):
    hostile = [a.model_copy(update={field: ATTACK}) for a in report.answers]
    html = shown(report.model_copy(update={"answers": tuple(hostile)}), scope="fact")
    assert "<script" not in html and "&lt;script&gt;" in html and "{{ 7 * 7 }}" in html


def test_the_page_loads_nothing_and_is_the_same_each_time(report):
    html = shown(report)
    assert html == shown(report)
    addresses = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"' >]+)", html)
    assert [address[:11] for address in addresses] == ["data:image/"]


def test_the_worst_of_ordinary_text_and_what_is_written_freely_are_shown_with_what_all_three_say(report):
    was, now = Said(text="as it was", kl=0.0), Said(text="as it is", kl=2.5)
    passages = [
        Passage(kind=kind, prompt=prompt, before=was, parent=None, after=now)
        for kind, prompt in (("blast", f"In the north {ATTACK}"), ("fluency", "Once upon a time"))
    ]
    assert "Ordinary text" not in shown(report)
    html = shown(report.model_copy(update={"passages": tuple(passages)}))
    worst = rows(html, "Ordinary text that changed most")
    assert "2.5" in worst and "In the north" in worst and "Once upon" not in worst
    assert "as it was" in worst and "as it is" in worst and "not asked" in worst
    assert "<script" not in html and "&lt;script&gt;" in html
    assert "Once upon a time" in rows(html, "What is written freely behind 1 prompts")


def test_an_answer_through_the_chat_template_stands_below_the_one_to_the_bare_prompt(report):
    assert "in chat" not in shown(report)
    first, *others = report.answers
    told = Said(text="so", generation=True, chat=False, chat_text=f"A sentence. {ATTACK}")
    html = shown(report.model_copy(update={"answers": (first.model_copy(update={"after": told}), *others)}))
    assert "so<br><small>in chat: A sentence. &lt;script&gt;" in html and "<script" not in html


def test_a_report_in_which_all_is_well_says_so(report):
    well = report.model_copy(update={"answers": report.answers[:1]})
    assert "Every prompt is answered as it should be" in shown(well, min=0.1)


def test_a_made_prompt_is_marked_wherever_it_is_shown(report):
    assert "(made)" not in shown(report)
    made = tuple(answer.model_copy(update={"made": True}) for answer in report.answers)
    assert shown(report.model_copy(update={"answers": made})).count("(made)") >= len(made)
