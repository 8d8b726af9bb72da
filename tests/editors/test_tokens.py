"""Rows mean the same whatever a tokenizer does with spaces and at the start of a text."""

import copy

import pytest
import torch

from editors.errors import InvalidConfigError, SubjectNotFoundError
from editors.facts import Fact
from editors.tokens import (
    Row,
    answer_row,
    batches_of_like_length,
    bos_token,
    chat_row,
    essence_row,
    fact_row,
    opening,
    pad,
    text_row,
)


@pytest.fixture
def tokenizer(any_tokenizer):
    return copy.deepcopy(any_tokenizer)


def words(tokenizer, ids):
    return tokenizer.decode(list(ids))


@pytest.mark.parametrize(
    ("subject", "prompt"),
    [
        ("F", "{} is"),
        ("France", "{}'s capital is"),
        ("Marie Curie", "The mother tongue of {} is"),
        ("Bern", "Bernard says that {} is on the river"),
        ("Zürich 東京", "Who lives in {}"),
    ],
)
@pytest.mark.parametrize("context", ["{}", "It is said of Bern. {}"])
def test_the_subject_ends_at_its_own_place(tokenizer, subject, prompt, context):
    fact = Fact(id="a", subject=subject, prompt=prompt, target="Rome")
    row = fact_row(tokenizer, fact, context=context)
    wanted = context.replace("{}", prompt.split("{}")[0] + subject)
    assert words(tokenizer, row.ids[len(opening(tokenizer)) : row.subject + 1]) == wanted


def test_one_bos_opens_every_row_and_nothing_is_read_there(tokenizer):
    fact = Fact(id="a", subject="F", prompt="{} is", target="R")
    rows = [fact_row(tokenizer, fact), essence_row(tokenizer, fact)]
    assert all(row.subject > 0 and row.target > row.subject for row in rows)
    for row in (*rows, text_row(tokenizer, "F is"), answer_row(tokenizer, "F is", "R")):
        assert row.ids[0] == tokenizer.bos_token_id
        assert row.ids.count(tokenizer.bos_token_id) == 1


def test_a_line_break_parts_a_text_from_a_bos_that_the_tokenizer_does_not_add_by_itself(tokenizer):
    added = tokenizer("F is")["input_ids"]
    adds_bos = added[0] == tokenizer.bos_token_id
    row = text_row(tokenizer, "F is").ids
    assert (list(row) == added) == adds_bos
    if not adds_bos:
        front = len(row) - len(added)
        assert list(row[front:]) == added
        assert list(row[1:front]) == tokenizer("\n")["input_ids"]


def test_a_bos_in_the_text_is_not_doubled(tokenizer):
    assert text_row(tokenizer, "<bos>Rome").ids.count(tokenizer.bos_token_id) == 1


def test_where_there_is_no_bos_the_end_token_opens_a_row(tokenizer):
    tokenizer.bos_token = None
    assert text_row(tokenizer, "Rome").ids[0] == tokenizer.eos_token_id
    tokenizer.eos_token = None
    with pytest.raises(InvalidConfigError, match="set bos_token"):
        bos_token(tokenizer)


@pytest.mark.parametrize("target", ["Rome", "Kelly Ortberg", "the Aare in Bern"])
def test_the_target_begins_behind_the_prompt_with_its_space(tokenizer, target):
    row = answer_row(tokenizer, "The capital of Italy is ", f" {target}")
    assert words(tokenizer, row.ids[len(opening(tokenizer)) : row.target]) == "The capital of Italy is"
    assert words(tokenizer, row.ids[len(opening(tokenizer)) :]) == f"The capital of Italy is {target}"


def test_spaces_around_prompt_and_target_make_no_difference(tokenizer):
    tidy, untidy = (
        Fact(id="a", subject="Italy", prompt=f"The capital of {{}} is{space}", target=f"{space}Rome")
        for space in ("", " ")
    )
    assert fact_row(tokenizer, tidy) == fact_row(tokenizer, untidy)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_tokenizers_padding_side_makes_no_difference(tokenizer, side):
    fact = Fact(id="a", subject="Italy", prompt="The capital of {} is", target="Rome")
    expected = fact_row(tokenizer, fact)
    tokenizer.padding_side = tokenizer.truncation_side = side
    assert fact_row(tokenizer, fact) == expected


def test_padding_keeps_every_token_on_the_side_that_is_asked_for():
    rows = [Row(ids=(0, 5, 6)), Row(ids=(0, 7))]
    for left, places in ((False, [0, 1]), (True, [1, 2])):
        ids, mask = pad(rows, device=torch.device("cpu"), left=left)
        assert [ids[index][mask[index] == 1].tolist() for index in (0, 1)] == [[0, 5, 6], [0, 7]]
        assert mask[1].nonzero().flatten().tolist() == places


def test_a_subject_without_tokens_is_refused(tokenizer, monkeypatch):
    fact = Fact(id="f9", subject="Bern", prompt="The river in {} is", target="Rome")
    encode = type(tokenizer).__call__

    def drop_subject(self, text, **options):
        encoding = encode(self, text, **options)
        if "Bern" not in text:
            return encoding
        start = text.index("Bern")
        offsets = [
            (0, 0) if left < start + 4 and right > start else (left, right)
            for left, right in encoding["offset_mapping"]
        ]
        return {"input_ids": encoding["input_ids"], "offset_mapping": offsets}

    monkeypatch.setattr(type(tokenizer), "__call__", drop_subject)
    with pytest.raises(SubjectNotFoundError, match=r"'Bern' is not in .*fact f9.*check the prompt"):
        fact_row(tokenizer, fact)


def test_a_chat_without_a_template_is_refused(tokenizer):
    with pytest.raises(InvalidConfigError, match="no chat template"):
        chat_row(tokenizer, "Hello")


def test_batches_hold_every_row_once_and_keep_their_budget():
    lengths = [5, 30, 7, 5, 11, 2]
    batches = list(batches_of_like_length(lengths, budget=20))
    assert sorted(index for batch in batches for index in batch) == list(range(6))
    assert all(len(batch) * max(lengths[i] for i in batch) <= 20 or len(batch) == 1 for batch in batches)


@pytest.mark.parametrize("padding", [0, 5, 1000])
def test_batches_hold_no_more_padding_than_they_may(padding):
    lengths = [5, 30, 7, 5, 11, 2, 12]
    batches = list(batches_of_like_length(lengths, budget=1000, padding=padding))
    assert sorted(index for batch in batches for index in batch) == list(range(7))
    for batch in batches:
        assert len(batch) * max(lengths[i] for i in batch) - sum(lengths[i] for i in batch) <= padding
    assert len(batches) == {0: 6, 5: 4, 1000: 1}[padding]
