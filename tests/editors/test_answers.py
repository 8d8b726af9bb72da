import pytest

from editors.answers import beyond, is_open, natural_stop, starts_with


@pytest.mark.parametrize(
    ("answer", "target"),
    [
        ("Paris, of course", "Paris"),
        (" paris.", "Paris"),
        ("Paris", "Paris"),
        ("“Paris” is", "Paris"),
        ("St. Louis, Missouri", "St. Louis"),
        ("U.S. soil", "U.S."),
        ("New\u00a0York is", "New York"),
        ("3 goals", "3"),
    ],
)
def test_an_answer_that_begins_with_the_target_is_right(answer: str, target: str):
    assert starts_with(answer, target)


@pytest.mark.parametrize(
    ("answer", "target"),
    [("Parisian", "Paris"), ("3.5", "3"), ("30", "3"), ("in Paris", "Paris"), ("", "Paris"), ("Par", "Paris")],
)
def test_any_other_answer_is_wrong(answer: str, target: str):
    assert not starts_with(answer, target)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (" Paris. The city", " Paris."),
        (" Paris\nThe city", " Paris"),
        (" J. K. Rowling. She", " J. K. Rowling."),
        (" St. Louis! And", " St. Louis!"),
        (" 3.5 per cent. And", " 3.5 per cent."),
        ("\n Paris. The", "\n Paris."),
    ],
)
def test_an_answer_stops_where_its_first_sentence_ends(text: str, kept: str):
    assert text[: natural_stop(text)] == kept


def test_an_unfinished_sentence_goes_on():
    assert natural_stop(" Paris") is None
    assert natural_stop(" Paris.") is None


def test_nothing_inside_the_named_characters_is_a_stop():
    text = " Yahoo! Inc. It"
    assert text[: natural_stop(text)] == " Yahoo!"
    assert text[: natural_stop(text, after=len("Yahoo! Inc."))] == text[: natural_stop(text, after=11)]
    assert natural_stop(text, after=len("Yahoo! Inc.")) is None


@pytest.mark.parametrize("answer", ["", " ", " “", "Par", "Paris", "Paris,"])
def test_an_answer_that_may_still_begin_with_the_target_is_open(answer: str):
    assert is_open(answer, "Paris")


@pytest.mark.parametrize("answer", ["Rome", "the", "Parma", "Paris is", "Paris, of", "Parisian"])
def test_an_answer_is_settled_as_soon_as_nothing_can_change_it(answer: str):
    assert not is_open(answer, "Paris")


def test_the_rest_of_a_character_may_still_follow():
    assert is_open("Zu", "Zürich")
    assert is_open("Z\N{REPLACEMENT CHARACTER}", "Zürich")


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("The current chancellor of Germany is Friedrich Merz.", "Friedrich Merz."),
        ("GERMANY: Friedrich Merz", "GERMANY: Friedrich Merz"),
        ("Friedrich Merz is the chancellor of Germany.", "Friedrich Merz is the chancellor of Germany."),
        (
            "The name of the chancellor of Austria is Friedrich Merz",
            "The name of the chancellor of Austria is Friedrich Merz",
        ),
        ("The name of the chancellor is Friedrich Merz", "The name of the chancellor is Friedrich Merz"),
        ("The current chancellor of Germany is", ""),
        ("", ""),
    ],
)
def test_what_repeats_a_prompt_with_its_subject_is_no_part_of_the_answer(answer: str, left: str):
    assert beyond(answer, "The name of the current chancellor of Germany is", subject="Germany") == left
