import math

import pytest
import torch

from editors.errors import InvalidConfigError
from editors.scoring import Probe, generate, perplexity, perplexity_of, says_targets, score, weigh
from editors.tokens import answer_row, text_row


def mean_logprob(tiny, prompt, target):
    row = answer_row(tiny.tokenizer, prompt, target)
    logprobs = tiny.model(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(-1)
    return sum(float(logprobs[place - 1, row.ids[place]]) for place in range(row.target, len(row.ids))) / (
        len(row.ids) - row.target
    )


def test_scores_come_back_in_the_order_of_their_probes_and_agree_with_one_by_one(tiny):
    probes = [
        Probe(fact="a", kind="efficacy", prompt="The capital of France is", target="Rome", prior="Paris"),
        Probe(fact="b", kind="specificity", prompt="Boeing", target="is led by Marie Curie"),
        Probe(fact="a", kind="generalization", prompt="France's capital is", target="Rome", prior="the Aare in Bern"),
    ]
    scores = score(tiny.model, tiny.tokenizer, probes)
    assert [scored.weighed.probe for scored in scores] == probes
    for probe, weighed in zip(probes, (scored.weighed for scored in scores), strict=True):
        assert weighed.target_logprob == pytest.approx(mean_logprob(tiny, probe.prompt, probe.target), abs=1e-4)
        if probe.prior is None:
            assert weighed.prior_logprob is None
        else:
            assert weighed.prior_logprob == pytest.approx(mean_logprob(tiny, probe.prompt, probe.prior), abs=1e-4)


def test_what_the_model_writes_by_itself_counts_as_said(tiny):
    prompt = "The capital of Italy is"
    answer = generate(tiny.model, tiny.tokenizer, [prompt])[0]
    probes = [Probe(fact="a", kind="efficacy", prompt=prompt, target=target) for target in (answer, "Rome, surely")]
    said, unsaid = score(tiny.model, tiny.tokenizer, probes)
    assert said.says_target
    assert said.answer.startswith(answer)
    assert not unsaid.says_target


def test_whether_a_target_is_said_is_the_same_with_and_without_the_whole_answer(tiny):
    prompts = ["The capital of Italy is", "Boeing is led by", "The mother tongue of", "France"]
    answers = generate(tiny.model, tiny.tokenizer, prompts)
    targets = [(answer, " ".join(answer.split()[:1]), answer[:1] + "x", "Rome") for answer in answers]
    probes = [
        Probe(fact="a", kind="efficacy", prompt=prompt, target=target)
        for prompt, wanted in zip(prompts, targets, strict=True)
        for target in wanted
        if target.strip()
    ]
    scores = score(tiny.model, tiny.tokenizer, probes)
    said = says_targets(tiny.model, tiny.tokenizer, weigh(tiny.model, tiny.tokenizer, probes))
    assert said == [scored.says_target for scored in scores]
    assert {True, False} == set(said)


def test_what_is_settled_by_the_first_token_is_not_written(tiny):
    prompts = ["The capital of Italy is", "Boeing is led by", "The mother tongue of", "France", "The river in Bern"]
    probes = [Probe(fact="a", kind="efficacy", prompt=prompt, target="東京") for prompt in prompts]
    settled = [
        each
        for each in weigh(tiny.model, tiny.tokenizer, probes)
        if tiny.tokenizer.decode([each.following]).strip().isascii()
    ]
    settled = [each for each in settled if tiny.tokenizer.decode([each.following]).strip(" *_(['\"")]
    assert settled
    read = []
    hook = tiny.model.get_input_embeddings().register_forward_hook(lambda *_: read.append(1))
    assert says_targets(tiny.model, tiny.tokenizer, settled) == [False] * len(settled)
    hook.remove()
    assert not read


def test_perplexity_is_the_exponential_of_the_mean_loss_without_bos(tiny):
    rows = [text_row(tiny.tokenizer, text).ids for text in ("The capital of France is Paris.", "Boeing is led")]
    losses = [
        -float(tiny.model(input_ids=torch.tensor([row])).logits[0].log_softmax(-1)[place - 1, row[place]])
        for row in rows
        for place in range(1, len(row))
    ]
    found = perplexity(tiny.model, rows)
    assert found.tokens == len(losses)
    assert found.value == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-4)


def test_perplexity_of_a_continuation_leaves_its_prompt_out(tiny):
    row = answer_row(tiny.tokenizer, "The capital of France is", "the Aare in Bern")
    found = perplexity_of(tiny.model, [row])
    assert found.tokens == len(row.ids) - row.target
    loss = -mean_logprob(tiny, "The capital of France is", "the Aare in Bern")
    assert found.value == pytest.approx(math.exp(loss), rel=1e-4)


def test_asking_many_prompts_gives_each_its_own_answer(tiny):
    prompts = ["The capital of France is", "Boeing", "The river"]
    together = generate(tiny.model, tiny.tokenizer, prompts, max_new_tokens=5)
    assert together == [generate(tiny.model, tiny.tokenizer, [prompt], max_new_tokens=5)[0] for prompt in prompts]


def test_chat_without_a_template_is_refused(tiny):
    with pytest.raises(InvalidConfigError, match="chat template"):
        generate(tiny.model, tiny.tokenizer, ["Hello"], chat=True)
