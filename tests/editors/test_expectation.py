import pytest
import torch

from editors import expectation
from editors.expectation import divergence, expect
from editors.tokens import Row, answer_row, text_row


def rows_of(tiny):
    prompts = ("The capital of France is", "Boeing", "The river in Bern is")
    answers = ("Rome", "the Aare in Bern", "Kelly Ortberg, who is a person")
    rows = [answer_row(tiny.tokenizer, prompt, answer) for prompt in prompts for answer in answers]
    return [*rows, text_row(tiny.tokenizer, "Boeing"), Row(ids=rows[0].ids, target=1)]


def one_by_one(tiny, row):
    logits = tiny.model(input_ids=torch.tensor([row.ids])).logits[0]
    asked = logits[row.target - 1 : max(row.target, len(row.ids) - 1)]
    wanted = torch.tensor(row.ids[row.target :], dtype=torch.long)
    return asked.argmax(-1).tolist(), asked.log_softmax(-1)[: len(wanted)].gather(1, wanted[:, None])[:, 0]


@pytest.mark.parametrize(("tokens", "logits"), [(2048, 1 << 24), (1, 1)])
def test_targets_behind_a_shared_prompt_are_weighed_as_each_row_alone(tiny, monkeypatch, tokens, logits):
    monkeypatch.setattr(expectation, "_TOKENS", tokens)
    monkeypatch.setattr(expectation, "_LOGITS", logits)
    rows = rows_of(tiny)
    for row, found in zip(rows, expect(tiny.model, rows), strict=True):
        predicted, logprobs = one_by_one(tiny, row)
        assert list(found.predicted) == predicted
        torch.testing.assert_close(torch.tensor(found.logprobs), logprobs, rtol=1e-4, atol=1e-4)


def test_a_prompt_is_read_once_for_all_its_targets(tiny):
    rows, read = rows_of(tiny), []
    embeddings = tiny.model.get_input_embeddings()
    hook = embeddings.register_forward_hook(lambda _, inputs, __: read.append(inputs[0].numel()))
    expect(tiny.model, rows[:3])
    hook.remove()
    prompt, further = rows[0].target, max(len(row.ids) - row.target - 1 for row in rows[:3])
    assert sum(read) <= prompt + 2 * further


def test_progress_is_told_of_every_row(tiny):
    told = []
    rows = rows_of(tiny)
    expect(tiny.model, rows, progress=lambda *what: told.append(what))
    assert told[-1] == ("scoring", len(rows), len(rows))


@pytest.mark.parametrize("logits", [1 << 24, 1])
def test_divergence_of_states_is_that_of_what_they_predict(tiny, monkeypatch, logits):
    monkeypatch.setattr(expectation, "_LOGITS", logits)
    torch.manual_seed(0)
    before, after = torch.randn(2, 5, 32)
    head = tiny.model.get_output_embeddings()
    expected = torch.nn.functional.kl_div(
        head(after).log_softmax(-1), head(before).log_softmax(-1), log_target=True, reduction="none"
    ).sum(-1)
    torch.testing.assert_close(divergence(tiny.model, before, after), expected, rtol=1e-4, atol=1e-5)
    assert divergence(tiny.model, before, before).max() < 1e-6
