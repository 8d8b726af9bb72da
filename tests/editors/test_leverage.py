"""What is said of a solve without some of its subjects, checked against the solve that never had them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editors.leverage import SolvedSite
from editors.solving import FactorisedMoment

WEIGHT = 0.3
seeds = st.integers(0, 2**32 - 1)


def problem(seed: int, edits: int = 6):
    """Keys, residuals and second moments of ordinary keys, at random."""
    torch.manual_seed(seed)
    ordinary = torch.randn(60, 12).double()
    return torch.randn(edits, 12).double(), torch.randn(edits, 5).double(), ordinary.T @ ordinary / 60


def solved(keys, residuals, moment) -> SolvedSite:
    return SolvedSite.of(FactorisedMoment.of(moment), keys, residuals, weight=WEIGHT)


@settings(max_examples=30)
@given(seed=seeds, edits=st.integers(1, 15), data=st.data())
def test_leaving_subjects_out_is_the_solve_that_never_had_them(seed, edits, data):
    keys, residuals, moment = problem(seed, edits)
    out = data.draw(st.sets(st.integers(0, edits - 1)))
    kept = [place for place in range(edits) if place not in out]
    reduced = solved(keys, residuals, moment).delta(without=sorted(out)).dense()
    anew = FactorisedMoment.of(moment).least_squares(keys[kept], residuals[kept], weight=WEIGHT).dense()
    torch.testing.assert_close(reduced, anew, rtol=1e-6, atol=1e-8)


@settings(max_examples=30)
@given(seed=seeds)
def test_a_disturbance_is_what_ordinary_keys_are_spared_without_the_subject(seed):
    keys, residuals, moment = problem(seed)
    site = solved(keys, residuals, moment)

    def change(delta):
        return torch.trace(delta @ moment @ delta.T)

    spared = [1 - change(site.delta(without=[place]).dense()) / change(site.delta().dense()) for place in range(6)]
    torch.testing.assert_close(site.disturbance(), torch.stack(spared), rtol=1e-4, atol=1e-5)


def test_leverage_is_how_far_what_is_written_follows_the_subjects_own_residual():
    keys, residuals, moment = problem(0)
    nudged = residuals.clone()
    nudged[2] += torch.ones(5)
    written = [solved(keys, asked, moment).delta().dense() @ keys[2] for asked in (residuals, nudged)]
    torch.testing.assert_close(written[1] - written[0], solved(keys, residuals, moment).leverage()[2].expand(5))


def test_a_key_that_another_one_shares_has_less_leverage():
    keys, residuals, moment = problem(0)
    shared = torch.cat([keys, keys[:1]])
    alone = solved(keys, residuals, moment).leverage()
    beside = solved(shared, torch.cat([residuals, residuals[:1]]), moment).leverage()
    assert beside[0] == pytest.approx(0.5, abs=0.05) and alone[0] > 0.9
    torch.testing.assert_close(beside[1:6], alone[1:], rtol=0.01, atol=0.01)


def test_a_solve_that_wants_nothing_disturbs_nothing():
    keys, residuals, moment = problem(0)
    assert solved(keys, torch.zeros_like(residuals), moment).disturbance().tolist() == [0.0] * 6
