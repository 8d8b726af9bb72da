from collections import Counter

import pytest
import torch

from editors.decoding import decode, greedy
from editors.errors import InvalidConfigError
from editors.tokens import text_row
from editors.writing import Answer, Wish, write_together


@pytest.fixture
def write(tiny):
    """Writes answers to wishes as one group; returns them with what was told of each."""

    def written(*wishes: Wish) -> list[tuple[Answer, list[str]]]:
        told: list[list[str]] = [[] for _ in wishes]
        answers = [
            Answer(wish=wish, told=lambda answer, mine=mine: mine.append(answer.text))
            for wish, mine in zip(wishes, told, strict=True)
        ]
        for _ in write_together(tiny.model, tiny.tokenizer, answers):
            pass
        return list(zip(answers, told, strict=True))

    return written


@pytest.fixture
def ids(tiny):
    return lambda text: text_row(tiny.tokenizer, text).ids


def test_without_temperature_each_answer_is_the_greedy_one_of_its_own_length(tiny, write, ids):
    short, long = write(Wish(ids=ids("Paris"), length=3), Wish(ids=ids("The capital of Italy is"), length=9))
    (wanted,) = decode(tiny.model, [ids("The capital of Italy is")], length=9, choose=greedy)
    assert long[0].tokens == wanted
    assert len(short[0].tokens) == 3
    assert {short[0].ended, long[0].ended} == {"length"}


def test_a_group_takes_turns_with_another(tiny, ids):
    first, second = (Answer(wish=Wish(ids=ids("Paris"), length=4), told=lambda _: None) for _ in range(2))
    groups = [write_together(tiny.model, tiny.tokenizer, [answer]) for answer in (first, second)]
    next(groups[0])
    next(groups[0])
    next(groups[1])
    assert (len(first.tokens), len(second.tokens)) == (2, 1)
    for _ in groups[1]:
        pass
    assert second.tokens[:2] == first.tokens, "whoever began later writes the same"


def test_one_seed_draws_one_text_whatever_stands_beside_it(write, ids):
    drawn = Wish(ids=ids("Rome"), length=8, temperature=1.0, seed=7)
    alone = write(drawn)[0][0]
    beside = write(Wish(ids=ids("The capital of Italy is"), length=8, temperature=1.0, seed=1), drawn)[1][0]
    assert alone.tokens == beside.tokens
    assert write(Wish(ids=ids("Rome"), length=8, temperature=1.0, seed=8))[0][0].tokens != alone.tokens


def test_tokens_are_drawn_by_their_probability_and_from_the_nucleus_alone(tiny, write, ids):
    chances = tiny.model(input_ids=torch.tensor([ids("Rome")])).logits[0, -1].double().softmax(-1)
    wishes = [Wish(ids=ids("Rome"), length=1, temperature=1.0, seed=seed) for seed in range(400)]
    counts = Counter(answer.tokens[0] for answer, _ in write(*wishes))
    likeliest = int(chances.argmax())
    expected = float(chances[likeliest])
    assert abs(counts[likeliest] / 400 - expected) < 4 * (expected * (1 - expected) / 400) ** 0.5
    narrow = [Wish(ids=ids("Rome"), length=1, temperature=1.0, top_p=expected / 2, seed=seed) for seed in range(20)]
    assert {answer.tokens[0] for answer, _ in write(*narrow)} == {likeliest}


def test_an_answer_ends_before_its_stop_and_nothing_of_the_stop_is_told(tiny, write, ids):
    (whole, _), *_ = write(Wish(ids=ids("Rome"), length=12))
    stop = whole.text[len(whole.text) // 2 :][:3]
    ((answer, told),) = write(Wish(ids=ids("Rome"), length=12, stop=("never said", stop)))
    assert answer.ended == "stop"
    assert answer.text == whole.text[: whole.text.index(stop)]
    assert all(answer.text.startswith(text) for text in told)


def test_the_end_token_ends_an_answer_and_is_no_part_of_it(tiny, write, ids, monkeypatch):
    (whole, _), *_ = write(Wish(ids=ids("Rome"), length=6))
    end = whole.tokens[2]
    monkeypatch.setattr(tiny.model.generation_config, "eos_token_id", [end])
    ((answer, _),) = write(Wish(ids=ids("Rome"), length=6))
    assert answer.ended == "stop"
    assert answer.tokens == whole.tokens[: whole.tokens.index(end) + 1]
    assert answer.text == tiny.tokenizer.decode(answer.tokens[:-1], skip_special_tokens=True)


def test_what_nobody_waits_for_leaves_the_group(tiny, ids):
    left, stays = (Answer(wish=Wish(ids=ids("Paris"), length=5), told=lambda _: None) for _ in range(2))
    steps = write_together(tiny.model, tiny.tokenizer, [left, stays])
    next(steps)
    left.unwanted = True
    for _ in steps:
        pass
    assert (left.ended, len(left.tokens)) == ("unwanted", 2)
    assert len(stays.tokens) == 5


@pytest.mark.parametrize(
    "wrong", [{"length": 0}, {"temperature": -1}, {"top_p": 0}, {"top_p": 1.1}, {"stop": ("",)}, {"ids": ()}]
)
def test_a_wish_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(InvalidConfigError, match="nothing can be written"):
        Wish(**{"ids": (0,), "length": 1} | wrong)
