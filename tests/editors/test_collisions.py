import pytest
import torch

from editors.collisions import closest, collisions, warn_of_collisions

KEYS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [2.0, 0.2, 0.0], [0.0, 5.0, 0.1]])
NAMES = ["Niger", "Chad", "Nigeria", "Chadwick"]


def test_pairs_above_the_bound_are_returned_the_closest_first():
    found = collisions(KEYS, NAMES)
    assert [(pair.one, pair.other) for pair in found] == [("Chad", "Chadwick"), ("Niger", "Nigeria")]
    assert found[0].cosine > found[1].cosine > 0.99


def test_a_higher_bound_returns_fewer_pairs():
    assert [pair.one for pair in collisions(KEYS, NAMES, above=0.999)] == ["Chad"]


def test_a_subject_alone_collides_with_nobody():
    assert collisions(KEYS[:1], NAMES[:1]) == []


def test_a_site_whose_subjects_lie_apart_is_not_mentioned(caplog):
    warn_of_collisions("site", KEYS[:2], NAMES[:2])
    assert caplog.text == ""


def test_a_warning_names_the_site_and_the_closest_pairs(caplog):
    warn_of_collisions("model.layers.4", torch.ones(12, 3), [f"subject {index}" for index in range(12)])
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "model.layers.4: 66 pairs" in record.message
    assert record.message.count("1.000") == 5


def test_the_closest_key_is_named_with_its_cosine_and_nobody_is_closest_to_a_key_alone():
    keys = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 2.0]])
    cosines, places = closest(keys)
    assert cosines.tolist() == pytest.approx([0.6, 0.8, 0.8]) and places == [1, 2, 1]
    assert closest(keys[:1])[0].tolist() == [0.0]
