"""One record at the boundary: what it takes, what it refuses and in which words, and that nothing is lost."""

import json
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from editors.facts import Fact
from tasks.companions import facts_of
from tasks.corrections import Correction
from tasks.problems import problems_of
from tasks.texts import FORBIDDEN, MAX_PROMPT, MAX_TARGET, normalised, relation_of

BOEING = {"subject": "Boeing", "prompt": "The CEO of {} is", "target": "Kelly Ortberg"}


def made(**fields) -> Correction:
    return Correction.model_validate({**BOEING, **fields})


def problems(**fields) -> tuple[str, ...]:
    with pytest.raises(ValidationError) as caught:
        made(**fields)
    return problems_of(caught.value)


WORD = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Cf", "Zl", "Zp"), exclude_characters="{}"), min_size=1, max_size=30
).filter(lambda text: text.strip(" .,:;?!…\u00a0") and text.strip())
TEMPLATE = st.tuples(WORD, WORD).map("{}".join)
DATE = st.datetimes(
    min_value=datetime(1900, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.none() | st.timezones()
).map(datetime.isoformat)
RECORDS = st.fixed_dictionaries(
    {"subject": WORD, "prompt": TEMPLATE, "target": WORD},
    optional={
        "prior": WORD,
        "relation": WORD,
        "multi_valued": st.booleans(),
        "aliases": st.lists(WORD, max_size=2),
        "paraphrases": st.lists(TEMPLATE, max_size=2),
        "neighbours": st.lists(WORD | st.fixed_dictionaries({"prompt": WORD, "answer": WORD}), max_size=2),
        "inverse": st.fixed_dictionaries({"prompt": TEMPLATE, "target": WORD}, optional={"edit": st.just(True)})
        | st.fixed_dictionaries({"prompt": WORD, "target": WORD, "edit": st.just(False)}),
        "consequences": st.lists(
            st.fixed_dictionaries({"subject": WORD, "prompt": TEMPLATE, "target": WORD}), max_size=2
        ),
        "portability": st.lists(
            st.fixed_dictionaries(
                {"prompt": WORD, "answer": WORD},
                optional={"given": st.fixed_dictionaries({"prompt": WORD, "answer": WORD})},
            ),
            max_size=2,
        ),
        "evidence": st.lists(st.sampled_from(["https://example.org/?q=ü", "memo of May.pdf"]), max_size=2),
        "reason": st.text(max_size=40),
        "requester": WORD,
        "effective": DATE,
    },
)


# Threads of earlier tests' clients may draw random numbers meanwhile, which hypothesis takes for the strategy's.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning")
@given(RECORDS)
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_accepted_survives_the_ledger_unchanged(record):
    try:
        correction = Correction.model_validate(record)
    except ValidationError as error:
        assert all(
            text.startswith(("reason ", "answers ")) or "holds the control or invisible" in text
            for text in problems_of(error)
        )
        return
    stored = json.loads(json.dumps(correction.model_dump(mode="json")))
    assert Correction.model_validate(stored) == correction
    assert Correction.model_validate_json(json.dumps(stored)) == correction


@given(st.text(max_size=60))
def test_no_accepted_text_holds_an_invisible_character(text):
    try:
        target = made(target=text).target
    except ValidationError as error:
        assert len(problems_of(error)) == 1
        return
    assert target == " ".join(target.split()) != ""
    assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in target)
    assert FORBIDDEN.search(target) is None


def test_same_content_has_same_id_and_other_content_another():
    assert made().id == made(aliases=[]).id == f"c-{made().content_digest()[:12]}"
    assert made(target="Dave Calhoun").id != made().id


def test_a_named_id_is_kept_and_is_no_part_of_the_content():
    assert made(id="boeing").id == "boeing"
    assert made(id="boeing").content_digest() == made(id="other").content_digest()


def test_fact_is_the_editors_view():
    wanted = Fact(id="x", subject="Boeing", prompt="The CEO of {} is", target="Kelly Ortberg", prior="Dave")
    assert made(id="x", prior="Dave").fact() == wanted


def test_what_follows_becomes_facts_of_their_own():
    correction = made(
        id="x",
        prior="Dave",
        aliases=["The Boeing Company"],
        inverse={"prompt": "{} is the CEO of", "target": "Boeing"},
        consequences=[{"subject": "Ortberg", "prompt": "{} lives in", "target": "Seattle", "prior": "Iowa"}],
    )
    ceo = {"prompt": "The CEO of {} is", "target": "Kelly Ortberg", "prior": "Dave"}
    assert correction.facts() == (
        Fact(id="x", subject="Boeing", **ceo),
        Fact(id="x+alias1", subject="The Boeing Company", **ceo),
        Fact(id="x+inverse", subject="Kelly Ortberg", prompt="{} is the CEO of", target="Boeing"),
        Fact(id="x+1", subject="Ortberg", prompt="{} lives in", target="Seattle", prior="Iowa"),
    )


def test_what_shall_only_be_asked_is_no_fact():
    inverse = {"prompt": "Ortberg leads", "target": "Boeing", "edit": False}
    correction = made(inverse=inverse, portability=[{"prompt": "Boeing is led from", "answer": "Seattle"}])
    assert correction.facts() == (correction.fact(),)


def test_an_inverse_is_kept_filled_and_its_place_is_the_targets():
    (_, fact) = made(inverse={"prompt": "The firm of {} is", "target": "Boeing"}).facts()
    assert made(inverse={"prompt": "The firm of Kelly Ortberg is", "target": "Boeing"}).facts()[1] == fact
    assert made(inverse={"prompt": "{} leads", "target": "Boeing"}).inverse.prompt == "Kelly Ortberg leads"


def test_one_question_is_one_fact():
    correction = made(
        aliases=["Boeing"],
        consequences=[{"subject": "Boeing", "prompt": "The CEO of {} is", "target": "kelly ortberg"}],
    )
    assert len(correction.facts()) == 1
    other = made(inverse={"prompt": "{} leads", "target": "Boeing"})
    third = made(subject="Boeing Co", inverse={"prompt": "{} leads", "target": "boeing"})
    assert len(facts_of([other, third])) == 3
    assert facts_of([other, third]) == facts_of([third, other])


def test_fields_that_came_later_leave_the_digest_of_a_correction_without_them():
    plain = made(inverse={"prompt": "{} leads", "target": "Boeing"})
    assert not {"consequences", "portability"} & set(plain.model_dump(mode="json"))
    assert plain.model_dump(mode="json")["inverse"] == {"prompt": "Kelly Ortberg leads", "target": "Boeing"}
    assert made().id == made(consequences=[], portability=[]).id == "c-ea0d607880e2"
    with_more = made(portability=[{"prompt": "a", "answer": "b"}])
    assert with_more.id == f"c-{with_more.content_digest()[:12]}" != made().id


def test_text_is_composed_trimmed_and_single_spaced():
    correction = made(subject="  Bjo\u0308rn\u00a0 Borg ", target=" a  b ")
    assert (correction.subject, correction.target) == ("Björn Borg", "a b")


@pytest.mark.parametrize(
    "character", ["\x00", "\t", "\x7f", "\u200b", "\u200f", "\u202e", "\u2066", "\ufeff", "\U000e0041"]
)
def test_control_and_invisible_characters_are_refused_by_code(character):
    (problem,) = problems(target=f"Kelly{character}Ortberg")
    assert problem == f"target holds the control or invisible character U+{ord(character):04X}; remove it"


def test_relation_is_the_prompt_without_case_spaces_and_end_punctuation():
    assert made().relation == "the ceo of {} is" == relation_of("THE  CEO of {} is:")
    assert made(relation="Chief  Executive.").relation == "chief executive"


def test_names_compare_by_compatibility_form_and_case():
    assert normalised("ＢＯＥＩＮＧ  Straße") == normalised("boeing STRASSE")


def test_paraphrases_are_kept_filled():
    texts = made(
        aliases=["Boeing Company"], paraphrases=["Who runs {}? It is", "The boeing company is led by"]
    ).paraphrases
    assert texts == ("Who runs Boeing? It is", "The boeing company is led by")


def test_a_paraphrase_that_names_nobody_is_refused():
    assert "names neither 'Boeing' nor an alias" in problems(paraphrases=["Its CEO is"])[0]


def test_neighbours_and_evidence_may_be_bare_texts():
    correction = made(neighbours=["The CEO of Tesla is"], evidence=["https://example.org", "memo.pdf"])
    assert (correction.neighbours[0].prompt, correction.neighbours[0].answer) == ("The CEO of Tesla is", None)
    assert [item.kind for item in correction.evidence] == ["address", "file"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2025-09-01", datetime(2025, 9, 1, tzinfo=UTC)),
        ("2025-09-01T12:00:00", datetime(2025, 9, 1, 12, tzinfo=UTC)),
        ("2025-09-01T01:00:00+02:00", datetime(2025, 8, 31, 23, tzinfo=UTC)),
        (datetime(2025, 9, 1, 12, 0, 0, 999), datetime(2025, 9, 1, 12, tzinfo=UTC)),
    ],
)
def test_dates_become_utc_and_without_a_zone_are_utc(written, meant):
    assert made(effective=written).effective == meant


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"target": "  "}, "target is empty"),
        ({"target": "x" * (MAX_TARGET + 1)}, "target has 201 characters; at most 200 are allowed"),
        ({"target": 13}, "target must be text, got a number; put it in quotes"),
        ({"target": None}, "target must be text, got null"),
        ({"multi_valued": "yes"}, "multi_valued must be true or false, got text"),
        ({"aliases": "Boeing Company"}, "aliases must be a list, got text"),
        ({"tagret": "x"}, "tagret is an unknown field; did you mean 'target'?"),
        ({"neighbours": [{"promt": "x"}]}, "neighbours[1].promt is an unknown field; did you mean 'prompt'?"),
        ({"prompt": "The CEO of {} and {} is"}, "prompt has 2 places {} for the subject; leave exactly one"),
        ({"prompt": "The CEO is"}, "prompt has no {} where the subject belongs; write exactly one"),
        ({"prompt": "The CEO of BOEING is"}, "prompt is filled in already: write {} where 'Boeing' stands"),
        ({"prompt": "The {0} of {} is"}, "prompt has a brace beside its {}; remove it"),
        ({"prompt": "{} is " * 1 + "x" * MAX_PROMPT}, "prompt has 506 characters; at most 500 are allowed"),
        ({"subject": "{}"}, "subject holds {}, which marks its place in a prompt; write the subject itself"),
        ({"aliases": ["{}"]}, "aliases[1] holds {}, which marks its place in a prompt"),
        (
            {"inverse": {"prompt": "leads", "target": "x"}},
            "inverse does not name 'Kelly Ortberg' in its prompt; put {}",
        ),
        ({"inverse": {"prompt": "{} and {}", "target": "x"}}, "inverse has a prompt with more than one {}; leave one"),
        (
            {"consequences": [{"subject": "a", "prompt": "b is", "target": "c"}]},
            "consequences[1].prompt has no {} where the subject belongs; write exactly one",
        ),
        (
            {"consequences": [{"subject": "a", "prompt": "{} is", "target": "c", "prior": "C"}]},
            "consequences[1] has a target that says the same as its prior, 'C'",
        ),
        (
            {"consequences": [{"subject": "boeing", "prompt": "the CEO of {} is:", "target": "Dave"}]},
            "answers 'the CEO of boeing is:' with 'Kelly Ortberg' and, as consequence 1, with 'Dave'; keep one",
        ),
        ({"consequences": [{"subjct": "a"}]}, "consequences[1].subjct is an unknown field; did you mean 'subject'?"),
        ({"portability": [{"prompt": "a"}]}, "portability[1].answer is missing"),
        ({"effective": 1}, "effective must be a date, got int; write it as 2025-09-01"),
        ({"effective": "2025-06-01", "expires": "2025-06-01"}, "expires on 2025-06-01, not after it takes effect"),
        ({"effective": "0001-01-01T00:00:00+14:00"}, "effective is out of range"),
        ({"evidence": ["javascript:alert(1)"]}, "evidence[1] is 'javascript:alert(1)', neither http nor https"),
        ({"evidence": ["https://"]}, "evidence[1] is 'https://', which is not a complete web address"),
        ({"evidence": ["https://me:secret@example.org"]}, "evidence[1] holds a user name or password; remove it"),
        ({"evidence": ["https://[bad"]}, "evidence[1] "),
        ({"id": "../up"}, "id is '../up', which does not match"),
        ({"supersedes": ""}, "supersedes is '', which does not match"),
        ({"aliases": ["x"] * 51}, "aliases has more than 50 entries"),
    ],
)
def test_each_mistake_is_named_in_plain_words(fields, says):
    texts = problems(**fields)
    assert any(text.startswith(says) for text in texts), texts


def test_every_mistake_of_a_record_is_told_at_once():
    with pytest.raises(ValidationError) as caught:
        Correction.model_validate({"subject": "", "extra": 1})
    texts = problems_of(caught.value)
    assert [text.split()[0] for text in texts] == ["subject", "prompt", "target", "extra"]


def test_a_correction_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        made().target = "Dave"
