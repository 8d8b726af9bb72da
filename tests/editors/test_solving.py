import pytest
import torch

from editors.errors import SingularSystemError
from editors.solving import directions, least_squares


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
