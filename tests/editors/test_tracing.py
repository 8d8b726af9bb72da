import dataclasses
from functools import partial

import pytest
import torch

from editors import restoring
from editors.artifacts import digest_tensors
from editors.errors import InvalidConfigError, SubjectNotFoundError
from editors.hooks import rewritten
from editors.layouts import depth_of
from editors.restoring import KINDS, windows
from editors.tails import rerun
from editors.tokens import opening
from editors.tracing import Question, Tracing, all_from, embedding_spread, trace

CURIE = Question(prompt="The mother tongue of Marie Curie is", subject="Marie Curie")
FRANCE = Question(prompt="The capital of France is", subject="France")


def traced(tiny, *questions, choose=all_from, **settings):
    return trace(tiny.model, tiny.tokenizer, questions, settings=Tracing(samples=4, **settings), choose=choose)


def logits_of(tiny, found, noise=None):
    """The logits of the whole model behind a traced prompt, with noise on its subject's embeddings."""
    ids = tiny.tokenizer(found.question.prompt)["input_ids"]
    assert [tiny.tokenizer.decode([token]) for token in ids] == list(found.tokens[-len(ids) :])
    ids = torch.tensor([[*opening(tiny.tokenizer), *ids]])
    if noise is None:
        return tiny.model(input_ids=ids).logits[:, -1]
    added = torch.zeros(len(noise), ids.shape[1], noise.shape[-1])
    added[:, found.subject.start : found.subject.stop] = noise
    with rewritten([(tiny.model.get_input_embeddings(), lambda embedded: embedded + added)], rows=len(noise)):
        return tiny.model(input_ids=ids.expand(len(noise), -1)).logits[:, -1]


def noise_of(tiny, found, *, seed=0):
    """The four draws of noise that a trace was made with."""
    width = tiny.model.get_input_embeddings().embedding_dim
    return found.noise * torch.randn(4, len(found.subject), width, generator=torch.Generator().manual_seed(seed))


def test_the_answer_is_what_the_model_says(family):
    (found,) = traced(family, CURIE)
    probability, token = logits_of(family, found).softmax(-1).max(-1)
    assert found.answer == family.tokenizer.decode(token)
    assert found.clean == pytest.approx(float(probability), rel=1e-5)


def test_a_given_answer_is_followed_by_its_first_token(tiny):
    (found,) = traced(tiny, dataclasses.replace(CURIE, answer="Polish"))
    first = tiny.tokenizer(" Polish")["input_ids"][0]
    assert found.answer == tiny.tokenizer.decode([first])
    assert found.clean == pytest.approx(float(logits_of(tiny, found).softmax(-1)[0, first]), rel=1e-5)


def test_the_last_state_of_the_last_layer_gives_back_the_clean_probability(family):
    for found in traced(family, CURIE, FRANCE):
        assert found.corrupted + float(found.effects["hidden"][-1, -1]) == pytest.approx(found.clean, rel=1e-5)


def test_the_state_of_the_only_corrupted_token_gives_back_the_clean_probability_at_each_layer(family):
    (found,) = traced(family, Question(prompt=FRANCE.prompt, subject="is"))
    assert found.subject == range(len(found.tokens) - 1, len(found.tokens))
    assert abs(found.clean - found.corrupted) > 1e-4
    torch.testing.assert_close(
        found.corrupted + found.effects["hidden"][:, -1], torch.full((3,), found.clean), rtol=1e-5, atol=1e-7
    )


def test_the_other_states_of_the_last_layer_change_nothing(family):
    (found,) = traced(family, CURIE)
    torch.testing.assert_close(found.effects["hidden"][-1, :-1], torch.zeros(len(found.tokens) - 1), atol=1e-7, rtol=0)


def test_nothing_before_the_subject_has_an_effect(tiny):
    (found,) = traced(tiny, CURIE)
    assert found.subject.start > 1
    assert all(not effects[:, : found.subject.start].any() for effects in found.effects.values())


def test_the_corrupted_run_is_the_whole_model_with_noise_of_three_spreads_on_the_subject(family):
    (found,) = traced(family, CURIE, seed=7)
    row = [*opening(family.tokenizer), *family.tokenizer(CURIE.prompt)["input_ids"]]
    ids = row[found.subject.start : found.subject.stop]
    spread = float(family.model.get_input_embeddings()(torch.tensor(ids)).std())
    assert found.noise == pytest.approx(3 * spread, rel=1e-5)
    logits = logits_of(family, found, noise_of(family, found, seed=7))
    answer = int(logits_of(family, found).argmax())
    assert found.corrupted == pytest.approx(float(logits.softmax(-1)[:, answer].mean()), rel=1e-4)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_restored_run_is_the_whole_model_with_the_clean_state_put_back(family, kind):
    (found,) = traced(family, CURIE, window=0.7)
    assert found.window == 2
    modules = [KINDS[kind](family.model, layer) for layer in range(depth_of(family.model))]
    layer, token = 1, found.subject.stop
    layers = [1] if kind == "hidden" else [0, 1]
    clean: dict[int, torch.Tensor] = {}

    def keep(at: int, written: torch.Tensor) -> torch.Tensor:
        clean[at] = written[0, token]
        return written

    def put_back(at: int, written: torch.Tensor) -> torch.Tensor:
        return torch.cat([written[:, :token], clean[at].expand(4, 1, -1), written[:, token + 1 :]], dim=1)

    with rewritten([(modules[at], partial(keep, at)) for at in layers], rows=1):
        answer = int(logits_of(family, found).argmax())
    with rewritten([(modules[at], partial(put_back, at)) for at in layers], rows=4):
        restored = float(logits_of(family, found, noise_of(family, found)).softmax(-1)[:, answer].mean())
    assert float(found.effects[kind][layer, token]) == pytest.approx(restored - found.corrupted, abs=1e-6)


def test_layers_and_tokens_can_be_left_out_without_a_change_to_the_others(tiny):
    (whole,) = traced(tiny, CURIE)
    (found,) = traced(tiny, CURIE, every=2, choose=lambda subject, length: [subject.start, length - 1])
    start, chosen = found.subject.start, [found.subject.start, -1]
    assert found.layers == range(0, 3, 2)
    for kind, effects in found.effects.items():
        torch.testing.assert_close(effects[:, chosen], whole.effects[kind][::2, chosen], atol=1e-6, rtol=1e-4)
        assert not effects[:, :start].any()
        assert int(effects.isnan().sum()) == 2 * (len(found.tokens) - start - 2)


def test_the_budget_changes_nothing_but_the_batches(tiny):
    (one,), (other,) = traced(tiny, CURIE, budget=1), traced(tiny, CURIE, budget=10_000)
    assert one.corrupted == pytest.approx(other.corrupted, rel=1e-5)
    for kind in KINDS:
        torch.testing.assert_close(one.effects[kind], other.effects[kind], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("budget", [1, 60, 10_000])
def test_no_batch_is_larger_than_the_budget_unless_one_row_is(tiny, budget, monkeypatch):
    sizes = []
    monkeypatch.setattr(restoring, "rerun", lambda model, tails: sizes.append(tails.ids.shape) or rerun(model, tails))
    (found,) = traced(tiny, CURIE, budget=budget)
    assert all(rows * tokens <= budget or rows == 1 for rows, tokens in sizes)
    assert sum(rows for rows, _ in sizes) == 4 * 9 * (len(found.tokens) - found.subject.start)


def test_the_same_seed_gives_the_same_trace_and_another_one_another(tiny):
    (one,), (same,), (other,) = traced(tiny, CURIE), traced(tiny, CURIE), traced(tiny, CURIE, seed=1)
    assert all(torch.equal(one.effects[kind], same.effects[kind]) for kind in KINDS)
    assert one.corrupted == same.corrupted != other.corrupted


def test_the_model_is_as_it_was_after_a_trace(tiny):
    before = digest_tensors(tiny.model.state_dict())
    traced(tiny, FRANCE)
    assert digest_tensors(tiny.model.state_dict()) == before
    assert no_hooks(tiny.model)


def no_hooks(model) -> bool:
    return not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("fails_at", [1, 2, 5])
def test_no_hook_stays_after_an_exception(tiny, fails_at, monkeypatch):
    last, calls = KINDS["mlp"](tiny.model, 2), []
    forward = last.forward

    def fail(*given):
        calls.append(given)
        if len(calls) == fails_at:
            raise RuntimeError("the machine is full")
        return forward(*given)

    monkeypatch.setattr(last, "forward", fail)
    with pytest.raises(RuntimeError, match="full"):
        traced(tiny, CURIE)
    assert len(calls) == fails_at
    assert no_hooks(tiny.model)


def test_a_subject_that_the_prompt_does_not_name_is_refused_with_both(tiny):
    with pytest.raises(SubjectNotFoundError, match=r"'Berne' is not in 'The capital of France is'.*check the prompt"):
        traced(tiny, Question(prompt=FRANCE.prompt, subject="Berne"))


def test_a_subject_that_opens_the_prompt_begins_behind_what_opens_every_row(tiny):
    (found,) = traced(tiny, Question(prompt="Boeing is led by", subject="Boeing"))
    assert found.subject.start == len(opening(tiny.tokenizer)) > 1
    assert "".join(found.tokens[place] for place in found.subject) == "Boeing"


def test_several_questions_share_one_noise(tiny):
    both = traced(tiny, CURIE, FRANCE)
    assert both[0].noise == both[1].noise != traced(tiny, CURIE)[0].noise


def test_the_spread_is_over_all_numbers_of_the_embeddings(tiny):
    embedding = tiny.model.get_input_embeddings()
    embedding.weight[5:7] = torch.tensor([[1.0], [-1.0]])
    assert embedding_spread(tiny.model, [5, 6]) == pytest.approx((64 / 63) ** 0.5)


def test_windows_are_cut_where_the_model_ends():
    assert windows(4, width=1) == [range(1), range(1, 2), range(2, 3), range(3, 4)]
    assert windows(5, width=3) == [range(2), range(3), range(1, 4), range(2, 5), range(3, 5)]


def test_settings_outside_their_range_are_named():
    with pytest.raises(InvalidConfigError, match="samples is 0"):
        Tracing(samples=0)
