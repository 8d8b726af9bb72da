import math

import pytest
import torch

from editors.errors import SingularSystemError
from editors.solving import FactorisedMoment, directions, least_squares


def test_a_rank_one_solve_with_a_light_second_moment_hits_its_value():
    torch.manual_seed(0)
    key, residual = torch.randn(1, 24), torch.randn(1, 10)
    delta = least_squares(key, residual, second_moment=1e-9 * torch.eye(24)).dense()
    torch.testing.assert_close((delta @ key[0].double()), residual[0].double(), rtol=0, atol=1e-7)


def test_the_solution_satisfies_the_normal_equation():
    torch.manual_seed(0)
    keys, residuals, factor = torch.randn(5, 24).double(), torch.randn(5, 10).double(), torch.randn(40, 24).double()
    moment = factor.T @ factor
    delta = least_squares(keys, residuals, second_moment=moment).dense()
    torch.testing.assert_close(delta @ (moment + keys.T @ keys), residuals.T @ keys)


def test_a_heavier_second_moment_moves_ordinary_keys_less():
    torch.manual_seed(0)
    keys, residuals, ordinary = torch.randn(3, 16), torch.randn(3, 8), torch.randn(50, 16)
    moment = ordinary.T @ ordinary / 50
    moved = [
        (least_squares(keys, residuals, second_moment=weight * moment).dense() @ ordinary.double().T).norm()
        for weight in (0.1, 1.0, 10.0)
    ]
    assert moved[0] > moved[1] > moved[2]


def test_a_singular_system_says_how_many_tokens_would_do():
    with pytest.raises(SingularSystemError, match="ten for each dimension: 80"):
        least_squares(torch.ones(1, 8), torch.ones(1, 4), second_moment=torch.zeros(8, 8))


def test_each_direction_is_one_at_its_key_and_seen_least_by_ordinary_keys():
    torch.manual_seed(0)
    keys, ordinary = torch.randn(3, 16).double(), torch.randn(50, 16).double()
    moment = ordinary.T @ ordinary / 50
    found = directions(keys, second_moment=moment)
    torch.testing.assert_close((found * keys).sum(1), torch.ones(3).double())
    seen = (ordinary @ found.T).pow(2).sum(0)
    for _ in range(20):
        other = found + 0.1 * torch.randn(3, 16).double()
        other = other / (other * keys).sum(1, keepdim=True)
        assert ((ordinary @ other.T).pow(2).sum(0) > seen).all()


def test_moments_of_too_few_tokens_give_no_direction():
    with pytest.raises(SingularSystemError, match="ten for each dimension: 80"):
        directions(torch.ones(1, 8), second_moment=torch.zeros(8, 8))


def spread_moment(d_in: int, *, condition: float) -> torch.Tensor:
    """A dense C whose eigenvalues fall evenly, on a logarithmic scale, from 1 to 1 / condition."""
    axes = torch.linalg.qr(torch.randn(d_in, d_in).double()).Q
    return axes @ torch.logspace(0, -math.log10(condition), d_in).double().diag() @ axes.T


@pytest.mark.parametrize("condition", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("facts", [1, 20, 63, 64, 100])
def test_the_factorised_solve_gives_the_direct_answer(facts: int, condition: float):
    torch.manual_seed(0)
    moment, weight = spread_moment(64, condition=condition), 3.0
    keys, residuals = torch.randn(facts, 64).double() @ moment, torch.randn(facts, 10).double()
    direct = least_squares(keys, residuals, second_moment=weight * moment).dense()
    factorised = FactorisedMoment.of(moment, ridge=0.0).least_squares(keys, residuals, weight=weight).dense()
    error = float((factorised - direct).norm() / direct.norm())
    print(f"{facts} facts, condition of C {condition:.0e}: relative error {error:.1e}")
    assert error < 1e-8


def test_one_factor_serves_every_weight():
    torch.manual_seed(0)
    moment, keys, residuals = spread_moment(24, condition=1e3), torch.randn(5, 24), torch.randn(5, 10)
    factorised = FactorisedMoment.of(moment, ridge=0.0)
    for weight in (1e-3, 1.0, 1e4):
        delta = factorised.least_squares(keys, residuals, weight=weight).dense()
        system = weight * moment + (keys.T @ keys).double()
        torch.testing.assert_close(delta @ system, (residuals.T @ keys).double(), rtol=1e-5, atol=1e-5)


def test_the_default_ridge_changes_a_sound_moments_answer_by_less_than_a_thousandth():
    torch.manual_seed(0)
    moment = spread_moment(64, condition=2800)  # the worst of layers 4-8 of SmolLM2-135M
    keys, residuals = torch.randn(5, 64), torch.randn(5, 10)
    exact = FactorisedMoment.of(moment, ridge=0.0).least_squares(keys, residuals, weight=1.0).dense()
    ridged = FactorisedMoment.of(moment).least_squares(keys, residuals, weight=1.0).dense()
    assert 0 < (ridged - exact).norm() < 1e-3 * exact.norm()


def test_a_moment_of_fewer_tokens_than_dimensions_is_solved_thanks_to_its_ridge():
    torch.manual_seed(0)
    read = torch.randn(10, 32).double()
    moment = read.T @ read / 10
    with pytest.raises(SingularSystemError, match="ten for each dimension: 320"):
        FactorisedMoment.of(moment, ridge=0.0)
    keys, residuals = torch.randn(3, 32), torch.randn(3, 8)
    delta = FactorisedMoment.of(moment).least_squares(keys, residuals, weight=1.0).dense()
    torch.testing.assert_close(delta @ keys.T.double(), residuals.T.double(), rtol=1e-3, atol=1e-3)


def test_a_moment_is_not_changed_by_being_factorised():
    moment = torch.eye(4, dtype=torch.float64)
    FactorisedMoment.of(moment)
    assert torch.equal(moment, torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize("moment", [torch.zeros(8, 8), -torch.eye(8), torch.full((8, 8), float("nan"))])
def test_a_moment_that_no_ridge_saves_says_how_many_tokens_would_do(moment: torch.Tensor):
    with pytest.raises(SingularSystemError, match="ten for each dimension: 80"):
        FactorisedMoment.of(moment)


def test_coinciding_keys_with_no_weight_left_are_named():
    with pytest.raises(SingularSystemError, match=r"weight 1e-30.*keys coincide"):
        FactorisedMoment.of(torch.eye(8), ridge=0.0).least_squares(torch.eye(8)[[0, 0]], torch.ones(2, 4), weight=1e-30)


@pytest.mark.parametrize("fit", [0.5, 0.9, 0.98])
def test_the_weight_for_a_fit_writes_just_that_share_of_the_residuals(fit: float):
    torch.manual_seed(0)
    moment = FactorisedMoment.of(spread_moment(24, condition=1e3))
    keys, residuals = torch.randn(5, 24).double(), torch.randn(5, 10).double()
    weight = moment.weight_for(keys, residuals, fit=fit)
    written = keys @ moment.least_squares(keys, residuals, weight=weight).dense().T
    assert float((written * residuals).sum() / residuals.square().sum()) == pytest.approx(fit, abs=1e-6)


def test_the_weight_is_sound_where_keys_coincide_and_not_all_can_be_written():
    torch.manual_seed(0)
    moment = FactorisedMoment.of(spread_moment(24, condition=1e3))
    keys, residuals = torch.randn(5, 24).double(), torch.randn(5, 10).double()
    alone = moment.weight_for(keys, residuals, fit=0.98)
    twice = moment.weight_for(torch.cat([keys, keys]), torch.cat([residuals, residuals]), fit=0.98)
    assert twice == pytest.approx(2 * alone, rel=1e-3)
    torn = moment.weight_for(torch.cat([keys, keys[:1]]), torch.cat([residuals, -0.5 * residuals[:1]]), fit=0.98)
    assert torn > 0.1 * alone
