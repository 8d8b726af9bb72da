import pytest
import torch

from editors.fluency import entropy, write

PROMPTS = ["The capital of France is", "Boeing", "The river in Bern"]


def test_the_entropy_of_five_different_words_is_that_of_four_pairs_and_three_triples():
    assert entropy("one two three four five") == pytest.approx(1.7233, abs=1e-4)  # 2 bits and 1.585, weighed 1 to 2


def test_text_that_goes_round_in_circles_has_less_entropy_and_one_word_alone_has_none():
    varied = "The train was late because snow had covered all the tracks between both stations."
    circling = "The train was late. The train was late. The train was late."
    assert entropy(varied) > entropy(circling) > entropy("late late late late late late") == 0
    assert entropy("") == entropy("late") == 0


def test_a_seed_gives_one_text_of_full_length_behind_each_prompt(tiny):
    first, again, other = (write(tiny.model, tiny.tokenizer, PROMPTS, length=12, seed=seed) for seed in (0, 0, 1))
    assert [each.row for each in first] == [each.row for each in again]
    assert [each.row for each in first] != [each.row for each in other]
    for prompt, each in zip(PROMPTS, first, strict=True):
        front, written = each.row.ids[: each.row.target], each.row.ids[each.row.target :]
        assert tiny.tokenizer.decode(front, skip_special_tokens=True).strip() == prompt
        assert tiny.tokenizer.decode(written).strip() == each.text
        assert len(written) == 12 and not set(written) & set(tiny.tokenizer.all_special_ids)


def test_only_the_five_most_probable_tokens_are_drawn(tiny):
    for each in write(tiny.model, tiny.tokenizer, PROMPTS, length=5):
        logits = tiny.model(input_ids=torch.tensor([each.row.ids])).logits[0]
        logits[:, tiny.tokenizer.all_special_ids] = -torch.inf
        for place in range(each.row.target, len(each.row.ids)):
            assert each.row.ids[place] in logits[place - 1].topk(5).indices


def test_nothing_is_written_behind_no_prompt(tiny):
    assert write(tiny.model, tiny.tokenizer, []) == []
