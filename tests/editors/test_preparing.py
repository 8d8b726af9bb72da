import dataclasses
import json

import pytest
import torch

from editors.layouts import sites_of
from editors.memit import Memit
from editors.preparing import Recipe, kept_in, prepare
from editors.rome import Rome


@pytest.fixture
def recipe(tiny):
    return Recipe.of(tiny.config, base=tiny.base, tokens=200)


def same(one, other):
    assert one.held == other.held
    assert list(one.material.contexts) == list(other.material.contexts)
    assert one.material.text == other.material.text
    assert one.material.base == other.material.base
    torch.testing.assert_close(dict(one.material.moments), dict(other.material.moments), rtol=0, atol=0)


def test_a_recipe_names_the_layers_that_a_method_writes():
    assert Recipe.of(Rome(layer=7), base="b").layers == (7,)
    some = Recipe.of(Memit(layers=(2, 3), contexts=4), base="b")
    assert (some.layers, some.contexts) == ((2, 3), 4)


def test_what_is_prepared_serves_the_methods_of_its_config(tiny, recipe):
    prepared = prepare(tiny.model, tiny.tokenizer, recipe)
    assert set(prepared.material.moments) == set(sites_of(tiny.model, tiny.config.layers))
    assert len(prepared.material.contexts) == tiny.config.contexts
    assert sum(len(row) - 1 for row in prepared.material.text) >= 200
    assert not {tuple(row) for row in prepared.held} & {tuple(row) for row in prepared.material.text}


def test_what_is_kept_is_found_again_and_another_recipe_is_made(tiny, recipe, tmp_path):
    made = []

    def make(wanted):
        made.append(wanted)
        return prepare(tiny.model, tiny.tokenizer, wanted)

    first, again = (kept_in(tmp_path, recipe, make) for _ in range(2))
    assert made == [recipe]
    same(first, again)
    other = dataclasses.replace(recipe, seed=1)
    kept_in(tmp_path, other, make)
    assert made == [recipe, other]


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_damaged_file_is_made_again(tiny, recipe, tmp_path, suffix, caplog):
    first = kept_in(tmp_path, recipe, lambda wanted: prepare(tiny.model, tiny.tokenizer, wanted))
    (file,) = tmp_path.glob(f"*{suffix}")
    file.write_bytes(file.read_bytes()[:-3])
    again = kept_in(tmp_path, recipe, lambda wanted: prepare(tiny.model, tiny.tokenizer, wanted))
    same(first, again)
    assert "is made again" in caplog.text
    record = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert record["recipe"]["base"] == tiny.base
