"""A rerun of the tails is the model itself, at less cost."""

import pytest
import torch

from editors.hooks import injected
from editors.layouts import backbone_of, layers_of, sites_of
from editors.tails import rerun, tails_of
from editors.tokens import Row, fact_row, pad


def rows_of(family, facts) -> list[Row]:
    return [fact_row(family.tokenizer, fact, context=text) for fact in facts for text in family.material.contexts]


def full_at_tails(family, rows):
    ids, mask = pad(rows, device=family.model.device)
    hidden = backbone_of(family.model)(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    return [hidden[place, row.subject : len(row.ids)] for place, row in enumerate(rows)]


def test_a_rerun_gives_the_hidden_states_of_the_whole_model(family, facts):
    rows = rows_of(family, facts)
    for first in (0, 1):
        found = rerun(family.model, tails_of(family.model, rows, first=first))
        for place, expected in enumerate(full_at_tails(family, rows)):
            torch.testing.assert_close(found[place, : len(expected)], expected, rtol=1e-4, atol=1e-4)


def test_an_injection_and_its_gradient_are_those_of_the_whole_model(family, facts):
    rows = rows_of(family, facts)
    sites = sites_of(family.model, [0, 1])
    tails = tails_of(family.model, rows, first=0)
    vectors = torch.randn(len(rows), 2, 32, requires_grad=True)
    with injected(family.model, sites, vectors, torch.tensor([row.subject for row in rows])):
        whole = torch.cat([states.flatten() for states in full_at_tails(family, rows)])
    (expected,) = torch.autograd.grad(whole.square().sum(), vectors)
    with injected(family.model, sites, vectors, torch.zeros(len(rows), dtype=torch.long)):
        hidden = rerun(family.model, tails)
    mine = torch.cat([hidden[place, : len(row.ids) - row.subject].flatten() for place, row in enumerate(rows)])
    (found,) = torch.autograd.grad(mine.square().sum(), vectors)
    torch.testing.assert_close(mine, whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_chosen_tails_rerun_as_they_do_among_all(family, facts):
    tails = tails_of(family.model, rows_of(family, facts), first=1)
    chosen = torch.tensor([1, 4])
    torch.testing.assert_close(rerun(family.model, tails.select(chosen)), rerun(family.model, tails)[chosen])


def test_every_layer_is_in_its_place_after_a_rerun_that_fails(family, facts):
    before = list(layers_of(family.model))
    tails = tails_of(family.model, rows_of(family, facts), first=1)

    def fail(*_: object) -> None:
        raise RuntimeError

    hook = before[2].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError):
        rerun(family.model, tails)
    hook.remove()
    assert list(layers_of(family.model)) == before
    assert not any(layer._forward_pre_hooks for layer in before)
