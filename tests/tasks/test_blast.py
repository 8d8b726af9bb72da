"""What a report says of ordinary text."""

from __future__ import annotations

import pytest
import torch

from editors.blast import WORST
from editors.decoding import sample_rows
from editors.layouts import read_weight, sites_of
from editors.models import load_model
from editors.patch import Dense, Patch
from tasks.blast import SHOWN, blast_radius
from tasks.report import METRICS

UNEDITED = Patch(base="b")


@pytest.fixture
def tiny(tiny_folder):
    return load_model(tiny_folder, device="cpu")


@pytest.fixture
def text(tiny) -> list[list[int]]:
    return sample_rows(*tiny, rows=12, length=24, seed=5).tolist()


@pytest.fixture
def patch(tiny) -> Patch:
    torch.manual_seed(0)
    weights = {site: read_weight(tiny[0], site) for site in sites_of(tiny[0], (4, 5))}
    return Patch(base="b", deltas={site: Dense(delta=3 * torch.randn_like(weight)) for site, weight in weights.items()})


def test_each_number_comes_with_what_it_was_measured_on(tiny, text, patch):
    metrics, _ = blast_radius(*tiny, patch=patch, parent=UNEDITED, text=text)
    assert list(metrics) == [name for name in METRICS if name.startswith("blast.")]
    assert {name: metric.count for name, metric in metrics.items()} == {
        "blast.size_p99": 12 * 23,
        "blast.kl_p95": WORST,
        "blast.kl_max": WORST,
        "blast.gain": 12 * 23,
    }
    assert all(metric.before == metric.parent == 0 < metric.after for metric in metrics.values())
    assert metrics["blast.kl_p95"].after <= metrics["blast.kl_max"].after


def test_production_has_its_own_radius_and_is_read_at_the_same_contexts(tiny, text, patch):
    metrics, worst = blast_radius(*tiny, patch=patch, parent=patch, text=text)
    assert all(metric.parent == metric.after for metric in metrics.values())
    assert all(passage.parent.text == passage.after.text for passage in worst)
    metrics, worst = blast_radius(*tiny, patch=UNEDITED, parent=patch, text=text)
    assert all(metric.after == 0 < metric.parent for metric in metrics.values())
    assert any(passage.parent.text != passage.after.text for passage in worst)


def test_the_worst_contexts_are_kept_with_what_all_say_those_that_moved_most_first(tiny, text, patch):
    metrics, worst = blast_radius(*tiny, patch=patch, parent=None, text=text)
    moved = [passage.after.kl for passage in worst]
    assert len(worst) == SHOWN and moved == sorted(moved, reverse=True)
    assert moved[0] == metrics["blast.kl_max"].after
    assert any(passage.before.text != passage.after.text for passage in worst)
    assert {passage.parent for passage in worst} == {None} == {metric.parent for metric in metrics.values()}
