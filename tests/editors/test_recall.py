import dataclasses

from editors import recall
from editors.recall import known_facts
from editors.scoring import generate, weigh


def believed(tiny, facts):
    """The facts as the random model has them: what it writes first is their target."""
    answers = generate(tiny.model, tiny.tokenizer, [fact.filled for fact in facts])
    return [
        dataclasses.replace(fact, target=answer.split()[0], prior=None)
        for fact, answer in zip(facts, answers, strict=True)
    ]


def test_a_fact_is_known_if_the_answer_begins_with_its_target(tiny, facts):
    right = believed(tiny, facts)
    asked = [right[0], dataclasses.replace(right[1], target="Elsewhere"), right[2]]
    assert known_facts(tiny.model, tiny.tokenizer, asked, limit=3) == [right[0], right[2]]


def test_no_more_facts_are_asked_than_are_needed(tiny, facts, monkeypatch):
    monkeypatch.setattr(recall, "_FACTS", 1)
    asked, right = [], believed(tiny, facts)
    monkeypatch.setattr(recall, "weigh", lambda *given: asked.extend(given[2]) or weigh(*given))
    assert known_facts(tiny.model, tiny.tokenizer, right, limit=2) == right[:2]
    assert [probe.fact for probe in asked] == ["f1", "f2"]
