"""Two corrections that can't both hold: in one relation, at one prompt, in an inverse, under two names."""

import time

import pytest

from tasks.conflicts import find_conflicts
from tasks.corrections import Correction
from tasks.resemblance import find_resemblances, loosened

BOEING = {"subject": "Boeing", "prompt": "The CEO of {} is", "target": "Kelly Ortberg", "relation": "chief executive"}
AIRBUS = BOEING | {"subject": "Airbus"}
LEADS_BOEING = {"prompt": "Kelly Ortberg is the CEO of", "target": "Boeing"}
LEADS_AIRBUS = LEADS_BOEING | {"target": "Airbus"}


def made(id: str, fields: dict, **more) -> Correction:
    return Correction.model_validate({"id": id, **fields, **more})


def conflict(new: Correction, *active: Correction, protected=()):
    return find_conflicts([new], active, protected)[0]


def test_inverses_that_disagree_are_at_odds_in_the_batch_and_with_what_is_active_or_protected():
    one, two = made("one", BOEING, inverse=LEADS_BOEING), made("two", AIRBUS, inverse=LEADS_AIRBUS)
    told = "one at 'Kelly Ortberg is the CEO of'"
    assert [found.disagrees for found in find_conflicts([one, two], [])] == [told.replace("one", "two"), told]
    assert conflict(two, one).disagrees_active == told
    assert conflict(two, protected=[one]).disagrees_protected == told
    agreeing = made("two", BOEING | {"subject": "Boeing Commercial Airplanes"}, inverse=LEADS_BOEING)
    assert conflict(agreeing, one).disagrees_active is None


def test_an_inverse_is_at_odds_with_a_correction_that_says_otherwise_by_itself():
    leader = {"subject": "Kelly Ortberg", "prompt": "{} is the CEO of"}
    otherwise, likewise = made("it", leader, target="Airbus"), made("it", leader, target="Boeing")
    with_inverse = made("inverse", BOEING, inverse=LEADS_BOEING)
    assert conflict(with_inverse, otherwise).disagrees_active.startswith("it at")
    assert conflict(otherwise, with_inverse).disagrees_active.startswith("inverse at")
    assert conflict(otherwise, protected=[with_inverse]).disagrees_protected.startswith("inverse at")
    assert conflict(with_inverse, likewise).disagrees_active is None


def test_an_inverse_may_name_its_subject_by_any_of_its_names():
    one = made("one", BOEING, aliases=["The Boeing Company"], inverse=LEADS_BOEING)
    same = LEADS_BOEING | {"target": "the Boeing Company"}
    other = made("two", AIRBUS | {"subject": "Seattle"}, inverse=same)
    assert conflict(other, one).disagrees_active is None
    assert conflict(one, other).disagrees_active is None


def test_one_that_is_at_odds_in_an_inverse_may_supersede_what_it_is_at_odds_with():
    old = made("old", BOEING, inverse=LEADS_BOEING)
    found = conflict(made("new", AIRBUS, inverse=LEADS_AIRBUS, supersedes="old"), old)
    assert (found.disagrees_active, found.wrong_supersedes) == (None, None)
    assert "about 'Boeing'" in conflict(made("new", AIRBUS, supersedes="old"), old).wrong_supersedes


def test_one_prompt_says_one_thing_whatever_its_relation_is_called():
    one, two = made("one", BOEING), made("two", BOEING, relation="head", target="Dave Calhoun")
    assert conflict(two, protected=[one]).disagrees_protected == "one at 'The CEO of Boeing is'"
    assert conflict(two, one).disagrees_active and not conflict(two, one).contradicts_active
    assert not conflict(made("same", BOEING, relation="head"), one).disagrees_active


def test_a_paraphrase_is_at_odds_with_a_prompt_that_says_otherwise():
    guarded = made("guarded", BOEING, paraphrases=["{} is led by its CEO,"])
    other = made("it", BOEING | {"prompt": "{} is led by its CEO,", "relation": "led by", "target": "Dave Calhoun"})
    assert conflict(other, protected=[guarded]).disagrees_protected == "guarded at 'Boeing is led by its CEO,'"


def test_several_targets_need_several_prompts():
    twin = {"subject": "Oz", "prompt": "{} is a twin of", "relation": "twin", "multi_valued": True}
    one, other = made("one", twin, target="A"), made("two", twin | {"prompt": "{} is twinned with"}, target="B")
    paraphrased = made("three", twin | {"prompt": "{} is a sister of"}, target="C", paraphrases=["{} is a twin of"])
    assert [found.disagrees for found in find_conflicts([one, other, paraphrased], [])] == [None, None, None]
    assert conflict(made("two", twin, target="B"), one).disagrees_active == "one at 'Oz is a twin of'"


def test_a_contradiction_is_told_once():
    one, two = made("one", BOEING), made("two", BOEING, target="Dave Calhoun")
    found = conflict(two, one)
    assert (found.contradicts_active, found.disagrees_active) == ("one", None)


def test_a_protected_fact_of_the_same_id_is_no_exception():
    assert conflict(made("x", BOEING), protected=[made("x", BOEING, target="Dave Calhoun")]).contradicts_protected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Boeing Company", "Boeing company"),
        ("Malmö", "Malmo"),
        ("N'Djamena", "N’djamena"),
        ("Rolls-Royce", "Rolls Royce"),
        ("Acme Inc.", "Acme, Inc"),
    ],
)
def test_names_that_differ_in_spelling_alone_are_probably_of_one_subject(one, other):
    new = made("new", BOEING | {"subject": other, "target": "Dave Calhoun"})
    (found,) = find_resemblances([new], [made("old", BOEING | {"subject": one})])
    assert found.probably_same == f"old, which calls it {one!r}"
    assert conflict(new, made("old", BOEING | {"subject": one})).contradicts_active is None


@pytest.mark.parametrize(("one", "other"), [("C", "C++"), ("C#", "C"), ("Georgia", "Georgian"), ("!", "?")])
def test_names_that_differ_in_more_are_of_two(one, other):
    assert loosened(one) != loosened(other)


def test_names_that_somebody_lists_for_one_subject_are_probably_of_one():
    burma = {"prompt": "The capital of {} is", "subject": "Burma", "target": "Rangoon"}
    link = made("link", {"subject": "Myanmar", "prompt": "People in {} pay with", "target": "kyat"}, aliases=["Burma"])
    new = made("new", burma | {"subject": "Myanmar", "target": "Naypyidaw"})
    (found,) = find_resemblances([new], [made("old", burma), link])
    assert found.probably_same == "old, which calls it 'Burma'"
    assert find_resemblances([new], [made("old", burma)])[0].probably_same is None


def test_names_that_are_shared_outright_or_agree_are_not_told_again():
    old = made("old", BOEING, aliases=["the boeing"])
    for new in (
        made("new", BOEING | {"subject": "The Boeing"}, target="Dave Calhoun"),
        made("new", BOEING | {"subject": "Böeing"}),
        made("new", BOEING | {"subject": "Böeing"}, target="Dave Calhoun", supersedes="old"),
        made("new", BOEING | {"subject": "Böeing"}, target="Dave Calhoun", multi_valued=True),
    ):
        assert find_resemblances([new], [old])[0].probably_same is None


def test_a_target_that_an_inverse_gives_to_another_subject_is_told():
    one, two = made("one", BOEING, inverse=LEADS_BOEING), made("two", AIRBUS)
    assert [found.claimed_twice for found in find_resemblances([one, two], [])] == ["two", "one"]
    assert find_resemblances([two], [made("one", BOEING)])[0].claimed_twice is None


def test_a_hundred_thousand_that_may_be_the_same_take_seconds():
    new = [
        made(str(number), BOEING | {"subject": "Bo eing" if number % 2 else "Boeing"}, target=f"Person {number}")
        for number in range(100_000)
    ]
    start = time.monotonic()
    assert all(found.probably_same for found in find_resemblances(new, []))
    assert time.monotonic() - start < 60


def test_a_consequence_is_at_odds_with_what_is_said_otherwise():
    residence = {"subject": "Kelly Ortberg", "prompt": "{} lives in", "target": "Seattle"}
    new = made("new", BOEING, consequences=[residence])
    told = "it at 'Kelly Ortberg lives in'"
    assert conflict(new, made("it", residence, target="Toulouse")).disagrees_active == told
    assert conflict(new, protected=[made("it", residence, target="Toulouse")]).disagrees_protected == told
    assert conflict(new, made("it", residence)).disagrees_active is None
    other = made("it", AIRBUS, target="Guillaume Faury", consequences=[residence | {"target": "Toulouse"}])
    assert conflict(new, other).disagrees_active == told
    assert conflict(new.model_copy(update={"supersedes": "it"}), other).disagrees_active is None


def test_what_stands_in_the_way_is_named_whether_it_holds_or_is_protected():
    active, guarded = made("active", BOEING), made("guarded", BOEING, relation="led by")
    new = made("new", BOEING, target="Dave Calhoun")
    assert conflict(new, active).with_standing == "active"
    assert conflict(new, protected=[guarded]).with_standing == "guarded at 'The CEO of Boeing is'"
    assert conflict(new, active, protected=[guarded]).with_standing == "active, guarded at 'The CEO of Boeing is'"
    assert conflict(new).with_standing == ""
