"""Answers through the chat template, beside those to the bare prompt."""

from __future__ import annotations

import pytest

from editors.models import load_model
from editors.scoring import Probe, score
from tasks.chat import asked_in_chat, with_chat
from tasks.probes import Question
from tasks.report import Said

PLAIN = "{% for message in messages %}{{ message.content }}{% endfor %}"
PROBES = [
    Probe(fact="c1", kind="efficacy", prompt="The capital of France is", target="Lyon"),
    Probe(fact="c1", kind="specificity", prompt="The capital of Italy is", target="Rome"),
    Probe(fact="c2", kind="retention", prompt="The CEO of Boeing is", target="Kelly Ortberg"),
]


@pytest.fixture
def tiny(tiny_folder):
    return load_model(tiny_folder, device="cpu")


def judged(*answers: str | None) -> list[Said]:
    said = [Said(text="raw", generation=False) for _ in PROBES]
    subjects = ("France", "Italy", "Boeing")
    questions = [
        Question(probe=probe, relation="r", subject=subject) for probe, subject in zip(PROBES, subjects, strict=True)
    ]
    return with_chat(said, questions, answers)


def test_facts_are_asked_through_the_template_and_neighbours_are_not(tiny):
    model, tokenizer = tiny
    assert asked_in_chat(model, tokenizer, PROBES) == [None] * 3, "there is no template"
    tokenizer.chat_template = PLAIN
    bare = [each.answer for each in score(model, tokenizer, PROBES)]
    assert asked_in_chat(model, tokenizer, PROBES) == [bare[0], None, bare[2]]
    tokenizer.chat_template = "Volvos are Volvos. " + PLAIN
    assert asked_in_chat(model, tokenizer, PROBES)[0] != bare[0]


def test_an_answer_in_a_whole_sentence_counts_by_what_it_adds_to_the_prompt():
    found = judged("The capital of France is Lyon.", None, "Kelly Ortberg, since 2024.")
    assert [each.chat for each in found] == [True, None, True]
    assert [each.chat_text for each in found] == ["The capital of France is Lyon.", "", "Kelly Ortberg, since 2024."]
    assert {each.generation for each in found} == {False}, "the bare prompt's answer stays"
    assert [each.chat for each in judged("The capital is Lyon.", None, "The CEO of Boeing Kelly is")] == [
        False,
        None,
        False,
    ]
