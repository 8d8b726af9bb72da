import pytest

from editors.errors import InvalidConfigError, SubjectNotFoundError
from editors.facts import Fact
from editors.tokens import answer_row, batches_of_like_length, chat_row, essence_row, fact_row, text_row


def words(tokenizer, ids):
    return tokenizer.decode(list(ids))


@pytest.mark.parametrize(
    ("subject", "prompt"),
    [
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
    assert words(tokenizer, row.ids[1 : row.subject + 1]) == wanted


def test_nothing_is_read_at_position_0(tokenizer):
    fact = Fact(id="a", subject="F", prompt="{} is", target="R")
    assert tokenizer("F").input_ids == [tokenizer("F").input_ids[0]]  # one token, and no BOS from the tokenizer
    assert fact_row(tokenizer, fact).subject == 1
    assert essence_row(tokenizer, fact).subject == 1
    assert text_row(tokenizer, "F is").ids[0] == tokenizer.bos_token_id


def test_a_bos_in_the_text_is_not_doubled(tokenizer):
    assert text_row(tokenizer, "<bos>Rome").ids == text_row(tokenizer, "Rome").ids


def test_the_target_begins_behind_the_prompt_with_its_space(tokenizer):
    row = answer_row(tokenizer, "The capital of Italy is ", " Rome")
    assert words(tokenizer, row.ids[row.target :]) == " Rome"
    assert words(tokenizer, row.ids[1 : row.target]) == "The capital of Italy is"


def test_a_subject_without_tokens_is_refused(tokenizer, monkeypatch):
    fact = Fact(id="f9", subject="Bern", prompt="The river in {} is", target="Rome")
    encode = type(tokenizer).__call__

    def drop_subject(self, text, **options):
        encoding = encode(self, text, **options)
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
