import dataclasses

import pytest
import torch

from editors.batch import by_subject, subject_rows
from editors.errors import InvalidConfigError
from editors.layouts import read_weight, sites_of, write_weight
from editors.patch import LowRank, Patch, applied, smaller
from editors.reading import read_subjects
from editors.rome import Rome, edit
from editors.values import optimise_injections


def values_and_keys(tiny, subjects, config):
    """The value of each subject in the model as it is, and the keys of all."""
    contexts, layers = tiny.material.contexts, [config.layer]
    (site,) = sites_of(tiny.model, layers)
    found = optimise_injections(
        tiny.model, tiny.tokenizer, subjects, layers=layers, contexts=contexts, settings=config.values
    )
    rows = subject_rows(tiny.tokenizer, subjects, contexts)
    return found[:, 0].double(), read_subjects(tiny.model, rows, sites=[site], budget=2048)[0][site]


def test_a_rank_one_update_hits_its_value_exactly(tiny, facts):
    given = tiny.given("rome")
    config, fact = given["config"], facts[0]
    wanted, keys = values_and_keys(tiny, by_subject([fact]), config)
    (delta,) = edit(tiny.model, tiny.tokenizer, [fact], **given).deltas.values()
    assert isinstance(delta, LowRank)
    assert delta.left.shape[1] == 1
    torch.testing.assert_close(delta.dense() @ keys[0], wanted[0], rtol=1e-5, atol=1e-5)


def test_a_later_value_is_optimised_on_the_weights_that_the_earlier_edits_left(tiny, facts):
    given = tiny.given("rome")
    config, base = given["config"], tiny.base
    subjects = by_subject(facts)
    patch = edit(tiny.model, tiny.tokenizer, facts, **given)
    ((site, delta),) = patch.deltas.items()
    assert isinstance(delta, LowRank)
    assert list(subjects) == ["Boeing", "France", "Marie Curie"]
    earlier = Patch(base=base, deltas={site: smaller(delta.left[:, :2], delta.right[:2])})
    (last,) = list(subjects)[2:]
    with applied(tiny.model, earlier, base=base):
        wanted, keys = values_and_keys(tiny, {last: subjects[last]}, config)
    torch.testing.assert_close(delta.left[:, 2].double(), wanted[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(delta.right[2].double() @ keys[0], torch.tensor(1.0).double(), rtol=1e-5, atol=0)
    alone, _ = values_and_keys(tiny, {last: subjects[last]}, config)
    assert (alone[0] - wanted[0]).norm() > 0.01 * wanted[0].norm()


def test_a_sites_key_does_not_depend_on_the_sites_own_weight(tiny, facts):
    config = tiny.given("rome")["config"]
    subjects = by_subject(facts)
    (site,) = sites_of(tiny.model, config.layers)
    rows = subject_rows(tiny.tokenizer, subjects, tiny.material.contexts)
    before = read_subjects(tiny.model, rows, sites=[site], budget=2048)[0][site]
    write_weight(tiny.model, site, torch.randn_like(read_weight(tiny.model, site)))
    assert torch.equal(read_subjects(tiny.model, rows, sites=[site], budget=2048)[0][site], before)


def test_progress_is_told_of_every_subject(tiny, facts):
    told = []
    given = tiny.given("rome")
    short = dataclasses.replace(given["config"].values, steps=2)
    given["config"] = dataclasses.replace(given["config"], values=short)
    edit(tiny.model, tiny.tokenizer, facts, progress=lambda *what: told.append(what), **given)
    assert told == [("subjects", 1, 3), ("subjects", 2, 3), ("subjects", 3, 3)]


@pytest.mark.parametrize("wrong", [{"layer": -1}, {"contexts": 0}])
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(InvalidConfigError, match=next(iter(wrong))):
        Rome(**wrong)
