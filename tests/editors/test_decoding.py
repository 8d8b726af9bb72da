import torch

from editors.contexts import sample_contexts
from editors.decoding import decode, greedy, sample_rows
from editors.tokens import text_row


def test_greedy_text_is_what_the_model_ranks_first_at_every_step_whatever_its_neighbours(tiny):
    rows = [text_row(tiny.tokenizer, text).ids for text in ("Paris", "The capital of France is")]
    for prompt, written in zip(rows, decode(tiny.model, rows, length=6, choose=greedy), strict=True):
        ids = list(prompt)
        for token in written:
            assert int(tiny.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()) == token
            ids.append(token)


def test_one_seed_samples_one_text(tiny):
    first, again, other = (sample_rows(tiny.model, tiny.tokenizer, rows=3, length=12, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_sampled_text_has_bos_first_and_nothing_special_behind(tiny):
    rows = sample_rows(tiny.model, tiny.tokenizer, rows=4, length=30, seed=0)
    assert rows.shape == (4, 30)
    assert (rows[:, 0] == tiny.tokenizer.bos_token_id).all()
    assert not torch.isin(rows[:, 1:], torch.tensor(tiny.tokenizer.all_special_ids)).any()


def test_contexts_have_one_place_each_and_the_bare_one_comes_first(tiny):
    contexts = sample_contexts(tiny.model, tiny.tokenizer, count=4, seed=3)
    assert contexts[0] == "{}"
    assert len(contexts) == 4
    assert all(context.count("{}") == 1 and context.endswith("{}") for context in contexts)
    assert contexts == sample_contexts(tiny.model, tiny.tokenizer, count=4, seed=3)
