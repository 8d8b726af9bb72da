import pytest
import torch

from editors.patch import Dense, LowRank
from editors.reducing import cut, relative_error, survival


def test_a_low_rank_delta_keeps_its_own_factors():
    delta = LowRank(left=torch.randn(6, 2), right=torch.randn(2, 5))
    assert cut(delta, rank=2) is delta


def test_a_dense_delta_of_low_rank_is_cut_to_that_rank_without_loss():
    torch.manual_seed(0)
    delta = Dense(delta=torch.randn(40, 3) @ torch.randn(3, 30))
    factors = cut(delta, rank=16)
    assert factors.left.shape == (40, 3)
    assert relative_error(factors, delta) < 1e-6


@pytest.mark.parametrize("kind", ["dense", "factors"])
def test_beyond_the_rank_the_error_is_that_of_the_singular_values_left_out(kind):
    torch.manual_seed(0)
    axes, others = torch.linalg.qr(torch.randn(20, 20).double()).Q, torch.linalg.qr(torch.randn(30, 20).double()).Q
    values = torch.arange(20, 0, -1).double()
    delta = LowRank(left=axes * values, right=others.T)
    delta = Dense(delta=delta.dense()) if kind == "dense" else delta
    factors = cut(delta, rank=8)
    assert factors.left.shape == (20, 8)
    left_out = sum(k**2 for k in range(1, 13)) / sum(k**2 for k in range(1, 21))
    assert relative_error(factors, delta) == pytest.approx(left_out**0.5, rel=1e-9)


def test_a_zero_delta_is_cut_to_rank_1_without_error():
    delta = Dense(delta=torch.zeros(4, 5))
    factors = cut(delta, rank=8)
    assert factors.left.shape == (4, 1)
    assert relative_error(factors, delta) == 0.0


def test_bfloat16_swallows_what_is_under_half_a_step_of_the_weight():
    """From 1 on, bfloat16 goes in steps of 2^-7."""
    delta = Dense(delta=torch.tensor([[2.0**-9, 2.0**-7, 0.0, -(2.0**-6)]]))
    left = survival(torch.tensor([[1.0, 1.0, 1.0, 1.5]]), delta, dtype=torch.bfloat16)
    assert left.entries == pytest.approx(2 / 3)
    assert left.norm == pytest.approx((80 / 81) ** 0.5)
    assert left.error == pytest.approx((1 / 81) ** 0.5)


def test_rounding_up_to_a_whole_step_counts_as_error_though_the_entry_survives():
    left = survival(torch.ones(1, 1), Dense(delta=torch.full((1, 1), 0.75 * 2**-7)), dtype=torch.bfloat16)
    assert (left.entries, left.norm) == (1.0, 1.0)
    assert left.error == pytest.approx(1 / 3)


def test_float32_keeps_what_bfloat16_swallows():
    torch.manual_seed(0)
    weight, delta = torch.randn(50, 50), Dense(delta=1e-4 * torch.randn(50, 50))
    long, short = (survival(weight, delta, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    assert long.entries > 0.99 > 0.2 > short.entries
    assert long.error < 1e-2 < short.error
