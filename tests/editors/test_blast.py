"""Where a patch changes ordinary text, on patches whose place is known."""

from __future__ import annotations

import pytest
import torch

from editors.artifacts import digest_tensors
from editors.blast import SHOWN_TOKENS, added, continued, radii
from editors.decoding import sample_rows
from editors.hooks import capture
from editors.layouts import backbone_of, read_weight, sites_of
from editors.patch import Dense, LowRank, Patch, applied


@pytest.fixture
def text(tiny):
    return sample_rows(tiny.model, tiny.tokenizer, rows=40, length=16, seed=7)


def planted(tiny, text, *, row: int, token: int) -> Patch:
    """A patch that writes at one token of a text, and hardly anywhere else."""
    (site,) = sites_of(tiny.model, [1])
    seen = capture(tiny.model, lambda: backbone_of(tiny.model)(input_ids=text, use_cache=False), sites=[site])
    keys = seen.keys[site]
    ordinary = keys[:, 1:].flatten(0, 1).double()
    moment = ordinary.T @ ordinary / len(ordinary) + 1e-4 * torch.eye(ordinary.shape[1])
    key = keys[row, token].double()
    right = torch.linalg.solve(moment, key)
    left = 20 * torch.randn(read_weight(tiny.model, site).shape[0], generator=torch.Generator().manual_seed(0)).double()
    return Patch(base="b", deltas={site: LowRank(left=left[:, None], right=(right / (right @ key))[None])})


def test_a_patch_that_scales_a_weight_adds_that_share_on_average_and_nothing_at_the_first_token(tiny, text):
    (site,) = sites_of(tiny.model, [1])
    patch = Patch(base="b", deltas={site: Dense(delta=0.05 * read_weight(tiny.model, site))})
    (found,) = added(tiny.model, [patch], text)
    assert not found.sizes[:, 0].any()
    assert float(found.sizes[:, 1:].mean()) == pytest.approx(0.05, rel=1e-4)


def test_the_gain_is_that_of_the_site_that_is_scaled_most(tiny, text):
    louder, quieter = sites_of(tiny.model, [0, 1])
    deltas = {
        site: Dense(delta=share * read_weight(tiny.model, site)) for site, share in ((louder, 0.02), (quieter, -0.05))
    }
    (found,) = added(tiny.model, [Patch(base="b", deltas=deltas)], text)
    assert found.gain == pytest.approx(-0.05, rel=1e-4)


def test_what_is_written_at_one_place_has_hardly_any_gain(tiny, text):
    (found,) = added(tiny.model, [planted(tiny, text, row=33, token=9)], text)
    assert float(found.sizes.max()) > 10 * abs(found.gain)


def test_harm_at_one_place_is_found_there_and_measured_by_what_follows(tiny, text):
    patch = planted(tiny, text, row=33, token=9)
    (found,) = radii(tiny.model, [patch], text, worst=5)
    context = tuple(text[33, :10].tolist())
    assert len(found.contexts) == len(found.kl) == 5 and len(found.sizes) == text[:, 1:].numel()
    assert found.sizes.argmax() == 33 * 15 + 8
    assert context in found.contexts
    assert found.kl.tolist() == sorted(found.kl.tolist(), reverse=True)

    def following() -> torch.Tensor:
        return tiny.model(input_ids=torch.tensor([context])).logits[0, -1].log_softmax(-1)

    before = following()
    with applied(tiny.model, patch, base="b"):
        after = following()
    moved = float((before.exp() * (before - after)).sum())
    assert float(found.kl[found.contexts.index(context)]) == pytest.approx(moved, rel=1e-3)


def test_the_empty_patch_reaches_nothing(tiny, text):
    (found,) = radii(tiny.model, [Patch(base="b")], text, worst=5)
    assert not found.sizes.any() and not found.kl.any() and not found.gain and len(found.contexts) == 5


def test_patches_that_are_looked_at_together_reach_what_each_reaches_alone(tiny, text):
    early, late = planted(tiny, text, row=3, token=4), planted(tiny, text, row=33, token=9)
    together = radii(tiny.model, [early, Patch(base="b"), late], text, worst=5)
    alone = [radii(tiny.model, [patch], text, worst=5)[0] for patch in (early, Patch(base="b"), late)]
    for one, same in zip(together, alone, strict=True):
        assert torch.equal(one.sizes, same.sizes) and one.gain == same.gain
        assert one.contexts == same.contexts
        torch.testing.assert_close(one.kl, same.kl, rtol=1e-4, atol=1e-6)
    assert together[0].contexts != together[2].contexts


def test_the_model_stays_as_it_is(tiny, text):
    before = digest_tensors(tiny.model.state_dict())
    radii(tiny.model, [planted(tiny, text, row=3, token=4)], text, worst=5)
    assert digest_tensors(tiny.model.state_dict()) == before


def test_a_context_is_continued_by_what_the_model_ranks_first(tiny, text):
    contexts = [tuple(text[0, :5].tolist()), tuple(text[1, :9].tolist())]
    for context, written in zip(contexts, continued(tiny.model, tiny.tokenizer, contexts), strict=True):
        ids = list(context)
        for _ in range(SHOWN_TOKENS):
            ids.append(int(tiny.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert written == tiny.tokenizer.decode(ids[len(context) :], skip_special_tokens=True)
    assert continued(tiny.model, tiny.tokenizer, []) == []
