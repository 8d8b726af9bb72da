import pytest
import torch

from editors.effect import effective
from editors.errors import UneditedError
from editors.layouts import read_weight, sites_of
from editors.patch import Dense, Patch


def patch_of(tiny, size):
    (site,) = sites_of(tiny.model, [1])
    weight = read_weight(tiny.model, site)
    return Patch(base=tiny.base, deltas={site: Dense(delta=torch.full_like(weight, size, dtype=torch.float32))})


def test_a_patch_that_changes_a_weight_comes_back_as_it_is(tiny):
    patch = patch_of(tiny, 0.1)
    assert effective(tiny.model, patch, subjects=["France"], wanted=[True]) is patch


def test_a_patch_without_effect_is_refused_where_a_change_was_wanted(tiny):
    with pytest.raises(UneditedError, match=r"changes no weight of .*1\..* in torch.float32"):
        effective(tiny.model, patch_of(tiny, 0.0), subjects=["France", "Bern"], wanted=[False, True])


def test_a_delta_too_small_for_the_models_dtype_is_without_effect(tiny):
    patch = patch_of(tiny, 1e-15)
    with pytest.raises(UneditedError, match="bfloat16"):
        effective(tiny.model.bfloat16(), patch, subjects=["France"], wanted=[True])


def test_a_patch_without_effect_is_fine_where_nobody_wants_one_and_is_reported(tiny, caplog):
    patch = patch_of(tiny, 0.0)
    assert effective(tiny.model, patch, subjects=["France"], wanted=[False]) is patch
    assert "1 of 1 subjects need no edit" in caplog.text
