import dataclasses

import pytest
import torch

from editors.alphaedit import AlphaEdit, confined, edit, null_space
from editors.errors import InvalidConfigError, NonFiniteError


def moment_with(eigenvalues):
    torch.manual_seed(0)
    turn = torch.linalg.qr(torch.randn(len(eigenvalues), len(eigenvalues)).double()).Q
    return turn @ torch.diag(torch.tensor(eigenvalues).double()) @ turn.T


def test_the_null_space_holds_its_share_of_the_trace_and_one_direction_more_would_not():
    moment = moment_with([1.0, 2.0, 3.0, 14.0])
    assert [null_space(moment, share=share).shape[1] for share in (0.06, 0.2, 0.5)] == [1, 2, 3]
    basis = null_space(moment, share=0.2)
    torch.testing.assert_close((basis.T @ moment @ basis).trace() / moment.trace(), torch.tensor(0.15).double())


def test_the_null_space_does_not_depend_on_the_scale_of_the_keys():
    moment = moment_with([1.0, 2.0, 3.0, 14.0])
    assert null_space(1e-4 * moment, share=0.2).shape == null_space(1e4 * moment, share=0.2).shape == (4, 2)


def test_a_share_too_small_for_any_direction_is_refused():
    with pytest.raises(InvalidConfigError, match=r"null_share is 0.01.*holds 5\.00e-02"):
        null_space(moment_with([1.0, 2.0, 3.0, 14.0]), share=0.01)


def test_nan_in_the_moments_is_refused():
    with pytest.raises(NonFiniteError, match="C"):
        null_space(torch.full((3, 3), float("nan")), share=0.5)


def test_nothing_moves_in_the_directions_that_hold_the_rest_of_the_trace(tiny, facts):
    given = tiny.given("alphaedit")
    deltas = edit(tiny.model, tiny.tokenizer, facts, **given).deltas
    assert len(deltas) == 2
    for site, delta in deltas.items():
        null = null_space(tiny.material.moments[site], share=given["config"].null_share)
        size = null.shape[1]
        assert 0 < size < len(null)
        rest = torch.linalg.eigh(tiny.material.moments[site]).eigenvectors[:, size:]
        assert (delta.dense() @ rest).norm() < 1e-6 * delta.dense().norm()


@pytest.mark.parametrize("edits", [3, 20])
def test_the_solve_is_the_papers_in_either_of_its_sizes(edits):
    torch.manual_seed(0)
    keys, residuals = torch.randn(edits, 16).double(), torch.randn(edits, 10).double()
    basis = null_space(moment_with([float(size + 1) for size in range(16)]), share=0.3)
    assert 3 < basis.shape[1] < 16
    delta = confined(keys, residuals, basis=basis, l2=0.5).dense()
    projector = basis @ basis.T
    torch.testing.assert_close(
        delta @ (keys.T @ keys @ projector + 0.5 * torch.eye(16)), residuals.T @ keys @ projector
    )


def test_a_light_l2_writes_each_residual_at_its_key():
    torch.manual_seed(0)
    keys, residuals = torch.randn(3, 16).double(), torch.randn(3, 10).double()
    basis = null_space(moment_with([float(size + 1) for size in range(16)]), share=0.3)
    written = keys @ confined(keys, residuals, basis=basis, l2=1e-10).dense().T
    torch.testing.assert_close(written, residuals, rtol=0, atol=1e-6)


def test_a_heavier_l2_edits_less(tiny, facts):
    given = tiny.given("alphaedit")
    quick = dataclasses.replace(
        given["config"], values=dataclasses.replace(given["config"].values, steps=3), layers=(0,)
    )
    sizes = [
        sum(
            float(delta.dense().norm())
            for delta in edit(
                tiny.model, tiny.tokenizer, facts, **(given | {"config": dataclasses.replace(quick, l2=l2)})
            ).deltas.values()
        )
        for l2 in (0.01, 10.0)
    ]
    assert sizes[0] > sizes[1]


@pytest.mark.parametrize(
    "wrong",
    [{"layers": ()}, {"layers": (2, 1)}, {"null_share": 0.0}, {"null_share": 1.1}, {"l2": 0.0}, {"contexts": 0}],
)
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(InvalidConfigError, match=next(iter(wrong))):
        AlphaEdit(**wrong)
