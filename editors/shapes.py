"""The shapes in which benchmarks are published, each with how a line of it becomes records.

    CounterFact in full                           Meng et al. 2022, arXiv:2202.05262
    the same with one paraphrase and neighbour,   KnowEdit, Zhang et al. 2024, arXiv:2401.01286
    WikiData counterfactuals, WikiBio, its zsRE
    zsRE with unrelated questions                 MEND, Mitchell et al. 2022, arXiv:2110.11309
    MQuAKE                                        Zhong et al. 2023, arXiv:2305.14795
    HalluEditBench                                Huang et al. 2024, arXiv:2410.16251

A line of MQuAKE is several facts, and what is asked over all of them goes with the first. HalluEditBench's questions
nearby have no answer, and are left out. Only CounterFact and MQuAKE know an answer that the target is weighed against.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from editors.facts import Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question beside the fact, and its right answer."""

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record of a benchmark.

    Attributes:
        fact: what shall be said; its prior is the true answer, None where the benchmark weighs against none.
        paraphrases: other prompts that the target answers.
        neighbours: what shall not change; the answer is right before and after an edit.
        inverse: what leads back from the target to the subject.
        portability: what follows from the fact, by another name of the subject or over further facts.
    """

    fact: Fact
    paraphrases: tuple[str, ...] = ()
    neighbours: tuple[Question, ...] = ()
    inverse: tuple[Question, ...] = ()
    portability: tuple[Question, ...] = ()


class FieldError(Exception):
    """A field that is missing or of another kind."""


def records_of(value: object, number: int) -> list[Record]:
    """Return the records that a line holds.

    Args:
        value: the line's JSON.
        number: of the line, which names records that have no id of their own.

    Raises:
        FieldError: it is of no known shape, or a field of it is missing or of another kind.
        InvalidFactError: a fact in it can't be one.
    """
    if not isinstance(value, dict):
        raise FieldError(f"a record is a JSON object, got {type(value).__name__}")
    fields = cast(dict[str, Any], value)
    for mark, read in _SHAPES.items():
        if mark in fields:
            return read(fields, number)
    raise FieldError(
        f"no known shape: it has {', '.join(sorted(fields)) or 'no field'}; CounterFact has requested_rewrite or "
        "rephrase_prompt, zsRE has rephrase, KnowEdit portability, MQuAKE questions, HalluEditBench question_2hop"
    )


def _counterfact(fields: Mapping[str, Any], number: int) -> list[Record]:
    prior = _text(fields, "requested_rewrite", "target_true", "str")
    return [
        Record(
            fact=Fact(
                id=_name(fields, number),
                subject=_text(fields, "requested_rewrite", "subject"),
                prompt=_text(fields, "requested_rewrite", "prompt"),
                target=_text(fields, "requested_rewrite", "target_new", "str"),
                prior=prior,
            ),
            paraphrases=_texts(fields, "paraphrase_prompts"),
            neighbours=tuple(Question(prompt=text, answer=prior) for text in _texts(fields, "neighborhood_prompts")),
        )
    ]


def _simple_counterfact(fields: Mapping[str, Any], number: int) -> list[Record]:
    nearby = Question(prompt=_text(fields, "locality_prompt"), answer=_text(fields, "locality_ground_truth"))
    return [
        Record(
            fact=_fact(fields, number, prompt="prompt", target="target_new", prior="ground_truth"),
            paraphrases=(_text(fields, "rephrase_prompt"),),
            neighbours=(nearby,),
        )
    ]


def _zsre(fields: Mapping[str, Any], number: int) -> list[Record]:
    return [
        Record(
            fact=_fact(fields, number, prompt="src", target="alt"),
            paraphrases=(_text(fields, "rephrase"),),
            neighbours=(Question(prompt=_text(fields, "loc"), answer=_text(fields, "loc_ans")),),
        )
    ]


def _knowedit(fields: Mapping[str, Any], number: int) -> list[Record]:
    return [
        Record(
            fact=_fact(fields, number, prompt="prompt", target="target_new"),
            neighbours=_answered_groups(fields, "locality"),
            portability=_answered_groups(fields, "portability"),
        )
    ]


def _mquake(fields: Mapping[str, Any], number: int) -> list[Record]:
    """One record for each fact of the chain; what is asked over all of it goes with the first."""
    chain = _objects(fields, "requested_rewrite")
    last = _text(fields, "new_answer")
    follows = tuple(Question(prompt=text, answer=last) for text in _texts(fields, "questions"))
    return [
        Record(
            fact=Fact(
                id=f"{_name(fields, number)}, hop {hop}",
                subject=_text(each, "subject"),
                prompt=_text(each, "prompt"),
                target=_text(each, "target_new", "str"),
                prior=_text(each, "target_true", "str"),
            ),
            paraphrases=(_text(each, "question"),),
            portability=follows if hop == 1 else (),
        )
        for hop, each in enumerate(chain, start=1)
    ]


def _halluedit(fields: Mapping[str, Any], number: int) -> list[Record]:
    hops = (("question_2hop", "answer_2hop"), ("question_3hop", "answer_3hop"))
    follows = tuple(Question(prompt=_text(fields, asked), answer=_text(fields, right)) for asked, right in hops)
    return [
        Record(
            fact=_fact(fields, number, prompt="question", target="object"),
            paraphrases=(_text(fields, "paraphrased_question"),),
            inverse=(Question(prompt=_text(fields, "reversed_relation_question"), answer=_text(fields, "subject")),),
            portability=follows,
        )
    ]


_SHAPES: dict[str, Callable[[Mapping[str, Any], int], list[Record]]] = {
    "questions": _mquake,
    "requested_rewrite": _counterfact,
    "portability": _knowedit,
    "rephrase_prompt": _simple_counterfact,
    "rephrase": _zsre,
    "question_2hop": _halluedit,
}


def _fact(fields: Mapping[str, Any], number: int, *, prompt: str, target: str, prior: str = "") -> Fact:
    """The fact of a line whose subject stands in its prompt, by the names of the fields."""
    return Fact(
        id=_name(fields, number),
        subject=_text(fields, "subject"),
        prompt=_open_prompt(fields, prompt),
        target=_text(fields, target),
        prior=_text(fields, prior) if prior else None,
    )


def _name(fields: Mapping[str, Any], number: int) -> str:
    return f"case {fields['case_id']}" if "case_id" in fields else f"line {number}"


def _open_prompt(fields: Mapping[str, Any], name: str) -> str:
    """The prompt with its place where the subject first stands."""
    prompt, subject = _text(fields, name), _text(fields, "subject")
    if subject not in prompt:
        raise FieldError(
            f"{name}: the subject {subject!r} is not in {prompt!r}; write it there as in the field subject"
        )
    return prompt.replace(subject, "{}", 1)


def _text(fields: Mapping[str, Any], *path: str) -> str:
    value: Any = fields
    for name in path:
        value = cast(dict[str, Any], value).get(name) if isinstance(value, dict) else None
    if not isinstance(value, str) or not value.strip():
        raise FieldError(f"{'.'.join(path)}: a text is needed, got {json.dumps(value)[:60]}")
    return value


def _texts(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = fields.get(name)
    texts = cast(list[Any], value) if isinstance(value, list) else [None]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise FieldError(f"{name}: a list of texts is needed, got {json.dumps(value)[:60]}")
    return tuple(cast(list[str], texts))


def _objects(fields: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = fields.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(each, dict) for each in cast(list[Any], value)):
        raise FieldError(f"{name}: a list of objects is needed, got {json.dumps(value)[:60]}")
    return cast(list[Mapping[str, Any]], value)


def _answered_groups(fields: Mapping[str, Any], name: str) -> tuple[Question, ...]:
    """The questions of all groups of a field, each group with as many prompts as answers."""
    value = fields.get(name)
    if not isinstance(value, dict):
        raise FieldError(f"{name}: an object is needed, got {json.dumps(value)[:60]}")
    found: list[Question] = []
    for group, asked in cast(dict[str, Any], value).items():
        if not isinstance(asked, dict):
            raise FieldError(f"{name}.{group}: an object with prompt and ground_truth is needed")
        prompts, answers = (_texts(cast(dict[str, Any], asked), part) for part in ("prompt", "ground_truth"))
        if len(prompts) != len(answers):
            raise FieldError(f"{name}.{group}: {len(prompts)} prompts have {len(answers)} answers")
        found += (Question(prompt=prompt, answer=answer) for prompt, answer in zip(prompts, answers, strict=True))
    return tuple(found)
