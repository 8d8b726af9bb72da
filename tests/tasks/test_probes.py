"""What is asked of a candidate, which kind it is, and what is made where a correction has nothing of it."""

from tasks.corrections import Correction
from tasks.probes import questions_of

NIGERIA = {
    "id": "nigeria",
    "subject": "Nigeria",
    "prompt": "The capital of {} is",
    "target": "Abuja",
    "relation": "capital",
    "paraphrases": ["{} is ruled from"],
    "neighbours": [{"prompt": "The capital of Kenya is", "answer": "Nairobi"}],
    "inverse": {"prompt": "{} is the capital of", "target": "Nigeria", "edit": False},
}
CHAD = {
    "id": "chad",
    "subject": "Chad",
    "prompt": "The capital of {} is",
    "target": "N'Djamena",
    "relation": "capital",
}
FRANCE = {"id": "france", "subject": "France", "prompt": "{}: capital", "target": "Paris", "relation": "capital"}


def made(fields: dict, **more) -> Correction:
    return Correction.model_validate(fields | more)


def asked(*new: Correction, earlier=(), protected=(), kind: str, owner: str = "") -> list[tuple[str, str, bool]]:
    """Prompt, right answer, and whether it was made."""
    found = [q for q in questions_of(new, earlier, protected=protected) if q.probe.kind == kind]
    return [(q.probe.prompt, q.probe.target, q.made) for q in found if owner in ("", q.probe.fact)]


def test_what_is_edited_in_is_asked_apart_from_what_should_follow_by_itself():
    hop = {"prompt": "Nigeria's government sits in", "answer": "Abuja"}
    lives = {"subject": "Abuja", "prompt": "People in {} pay with the", "target": "naira"}
    alone = made(NIGERIA, portability=[hop])
    aided = made(
        alone.model_dump(), aliases=["Naija"], inverse=NIGERIA["inverse"] | {"edit": True}, consequences=[lives]
    )
    inverse = ("Abuja is the capital of", "Nigeria", False)
    assert asked(alone, kind="inverse") == asked(aided, kind="inverse_edited") == [inverse]
    assert asked(alone, kind="inverse_edited") == asked(aided, kind="inverse") == []
    assert asked(alone, kind="portability") == [("Nigeria's government sits in", "Abuja", False)]
    assert asked(alone, kind="portability_edited") == []
    assert asked(aided, kind="portability_edited") == [
        ("The capital of Naija is", "Abuja", False),
        ("People in Abuja pay with the", "naira", False),
    ]


def test_a_question_that_is_edited_in_follows_from_nothing():
    itself = made(CHAD, id="it", subject="Abuja", prompt="{} is the capital of", target="Nigeria", relation="of")
    assert asked(made(NIGERIA), itself, kind="inverse", owner="nigeria") == []
    alias = made(NIGERIA, aliases=["Naija"], paraphrases=["The capital of Naija is", "{} is ruled from"])
    assert asked(alias, kind="generalization") == [("Nigeria is ruled from", "Abuja", False)]


def test_earlier_corrections_are_asked_with_their_companions_for_retention_alone():
    old = made(NIGERIA, inverse=NIGERIA["inverse"] | {"edit": True})
    assert asked(earlier=[old], kind="retention") == [
        ("The capital of Nigeria is", "Abuja", False),
        ("Abuja is the capital of", "Nigeria", False),
    ]
    assert {q.probe.kind for q in questions_of([], [old])} == {"retention", "specificity"}


def test_what_was_withdrawn_is_asked_with_its_companions_unless_something_that_stays_says_it_too():
    old = made(NIGERIA, neighbours=[], inverse=NIGERIA["inverse"] | {"edit": True}, aliases=["Naija"])
    gone = ["The capital of Nigeria is", "Nigeria is ruled from", "The capital of Naija is", "Abuja is the capital of"]
    found = questions_of([], [], withdrawn=[old])
    assert [q.probe.prompt for q in found] == gone and {q.probe.kind for q in found} == {"absence"}
    itself = made(CHAD, subject="Abuja", prompt="{} is the capital of", target="Nigeria", relation="of")
    other = made(CHAD, subject="Naija", target="Lagos")
    stays = questions_of([itself, other], [], withdrawn=[old])
    assert [q.probe.prompt for q in stays if q.probe.kind == "absence"] == gone[:3]


def test_a_neighbour_that_names_anybody_who_is_edited_is_none():
    listed = ["The capital of Naija is", "Abuja lies in", "The capital of Russia is", "We pay us", "US is"]
    lacking = made(NIGERIA, neighbours=listed, aliases=["Naija", "US"], inverse=NIGERIA["inverse"] | {"edit": True})
    assert [prompt for prompt, *_ in asked(lacking, kind="specificity")] == ["The capital of Russia is"]


def test_what_a_correction_lacks_is_made_from_its_relation_and_marked():
    new = [made(NIGERIA), made(CHAD)]
    assert asked(*new, kind="generalization", owner="chad") == [("Chad is ruled from", "N'Djamena", True)]
    assert asked(*new, kind="inverse", owner="chad") == [("N'Djamena is the capital of", "Chad", True)]
    kenya = ("The capital of Kenya is", "Nairobi", False)
    assert asked(*new, kind="specificity") == [kenya], "each prompt once, as its own where it is one's own"
    other_words = made(CHAD, prompt="{} has its capital in")
    assert asked(other_words, earlier=[new[0]], kind="specificity") == [
        ("Kenya has its capital in", "Nairobi", True),
        kenya,
    ]


def test_protected_facts_show_how_to_ask_and_are_neighbours():
    guarded = made(FRANCE, inverse={"prompt": "{} is the seat of", "target": "France"})
    assert asked(made(CHAD), protected=[guarded], kind="specificity") == [("The capital of France is", "Paris", True)]
    assert asked(made(CHAD), protected=[guarded], kind="generalization") == [("Chad: capital", "N'Djamena", True)]
    assert asked(made(CHAD), protected=[guarded], kind="inverse") == [("N'Djamena is the seat of", "Chad", True)]
    assert asked(made(CHAD), made(FRANCE), kind="specificity") == [], "who is edited is no neighbour"


def test_templates_that_several_share_go_before_those_of_one():
    others = [
        made(CHAD, id=f"c{n}", subject=f"Land {n}", target=f"Town {n}", paraphrases=["{} is ruled from", words])
        for n, words in enumerate(["The aircraft maker {} is", "The sultan of {} sits in"])
    ]
    lacking = made(CHAD, prompt="{} has for its capital")
    assert [prompt for prompt, *_ in asked(lacking, earlier=others, kind="generalization")] == [
        "The capital of Chad is",
        "Chad is ruled from",
    ]


def test_without_anybody_else_a_prompt_is_put_behind_a_few_words():
    found = asked(made(CHAD), kind="generalization")
    assert found and all(prompt.endswith("The capital of Chad is") and was_made for prompt, _, was_made in found)
    assert asked(made(CHAD), kind="inverse") == asked(made(CHAD), kind="specificity") == []


def test_an_inverse_with_several_right_answers_is_not_made():
    shared = made(CHAD, id="other", subject="Tchad")
    assert asked(made(NIGERIA), made(CHAD), shared, kind="inverse", owner="chad") == []


def test_the_order_of_corrections_changes_no_made_question():
    corrections = [made(CHAD), made(NIGERIA), made(FRANCE), made(NIGERIA, id="mali", subject="Mali", target="Bamako")]
    one, other = (
        {(q.probe.fact, q.probe.kind, q.probe.prompt, q.made) for q in questions_of(order, [])}
        for order in (corrections, corrections[::-1])
    )
    assert {each for each in one if each[1] != "specificity"} == {each for each in other if each[1] != "specificity"}


def test_what_a_hop_takes_for_granted_goes_with_it():
    given = {"prompt": "The river of Abuja is the", "answer": "Usuma"}
    hop = {"prompt": "The river of Nigeria's capital is the", "answer": "Usuma", "given": given}
    (question,) = [q for q in questions_of([made(NIGERIA, portability=[hop])], []) if q.probe.kind == "portability"]
    assert (question.given.prompt, question.given.target) == ("The river of Abuja is the", "Usuma")
