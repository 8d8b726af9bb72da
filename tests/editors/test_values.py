import dataclasses

import pytest
import torch

from editors.batch import by_subject
from editors.facts import Fact
from editors.hooks import capture, injected
from editors.layouts import backbone_of, project, sites_of
from editors.tokens import fact_row
from editors.values import losses, optimise_injections


def optimise(tiny, facts, layers=(1,), **changes):
    settings = dataclasses.replace(tiny.config.values, **changes)
    subjects = by_subject(facts)
    found = optimise_injections(
        tiny.model, tiny.tokenizer, subjects, layers=layers, contexts=tiny.material.contexts, settings=settings
    )
    return dict(zip(subjects, found, strict=True))


def test_facts_of_one_subject_share_one_value(tiny, facts):
    more = [*facts, Fact(id="f4", subject="France", prompt="A city in {} is", target="Polish")]
    assert {subject: len(own) for subject, own in by_subject(more).items()} == {
        "Boeing": 1,
        "France": 2,
        "Marie Curie": 1,
    }
    assert set(optimise(tiny, more)) == {"Boeing", "France", "Marie Curie"}


def target_logprob(tiny, row):
    hidden = backbone_of(tiny.model)(input_ids=torch.tensor([row.ids])).last_hidden_state[0]
    logprobs = project(tiny.model, hidden[row.target - 1 : -1]).log_softmax(-1)
    return float(logprobs.gather(1, torch.tensor(row.ids[row.target :])[:, None]).mean())


def test_a_value_makes_the_target_likelier_where_it_is_injected(tiny, facts):
    found = optimise(tiny, facts)
    site = sites_of(tiny.model, [1])[0]
    for fact in facts:
        row = fact_row(tiny.tokenizer, fact, ending=".")
        before = target_logprob(tiny, row)
        with injected(tiny.model, [site], found[fact.subject][None], torch.tensor([row.subject])):
            assert target_logprob(tiny, row) > before + 0.1


def hidden_norms(tiny, fact, contexts=("{}",)):
    """The length of the hidden state at a fact's subject behind layer 1, in each context."""
    norms = []
    for context in contexts:
        row = fact_row(tiny.tokenizer, fact, context=context, ending=".")
        ids = torch.tensor([row.ids])
        seen = capture(tiny.model, lambda ids=ids: backbone_of(tiny.model)(input_ids=ids), layers=[1])
        norms.append(float(seen.hidden[1][0, row.subject].norm()))
    return norms


def test_no_value_is_longer_than_the_clamp_allows(tiny, facts):
    (hidden,) = hidden_norms(tiny, facts[0])
    short = optimise(tiny, facts[:1], clamp=0.1)["France"]
    assert 0 < short.norm() < 0.2 * hidden  # the clamp's length is averaged over contexts


@pytest.mark.parametrize("budget", [1, 4096])
def test_a_value_does_not_depend_on_which_subjects_share_its_batch(tiny, facts, budget):
    together = optimise(tiny, facts, steps=5, budget=budget)
    for fact in facts:
        alone = optimise(tiny, [fact], steps=5)[fact.subject]
        torch.testing.assert_close(together[fact.subject], alone, rtol=1e-3, atol=1e-4)


def test_a_subject_that_is_good_enough_at_once_gets_no_injection(tiny, facts):
    assert optimise(tiny, facts[:1], enough=1e6)["France"].norm() == 0


def test_the_first_step_is_as_long_as_the_settings_say(tiny, facts):
    hidden = hidden_norms(tiny, facts[0], tiny.material.contexts)
    moved = optimise(tiny, facts[:1], steps=1, step_length=0.1)["France"]
    assert float(moved.norm()) / (sum(hidden) / len(hidden)) == pytest.approx(0.1, rel=1e-3)


def test_each_value_leaves_less_loss_than_nothing_injected(tiny, facts):
    subjects = by_subject(facts)
    found = torch.stack(list(optimise(tiny, facts, layers=(0, 1), decay=0.0).values()))

    def left(injections):
        given = {"layers": (0, 1), "contexts": tiny.material.contexts}
        settings = dataclasses.replace(tiny.config.values, decay=0.0)
        return losses(tiny.model, tiny.tokenizer, subjects, injections, settings=settings, **given)

    assert (left(found) < left(torch.zeros_like(found)) - 0.1).all()


def test_a_loss_is_the_surprise_at_the_target_where_nothing_else_is_asked(tiny, facts):
    fact = facts[0]
    settings = dataclasses.replace(tiny.config.values, decay=0.0)
    given = {"layers": (1,), "contexts": ["{}"], "settings": settings}
    (loss,) = losses(tiny.model, tiny.tokenizer, by_subject([fact]), torch.zeros(1, 1, 32), **given)
    assert float(loss) == pytest.approx(-target_logprob(tiny, fact_row(tiny.tokenizer, fact, ending=".")), rel=1e-4)
