import dataclasses
import json

import pytest
import torch

import editors.preparing
from editors.digests import sha256_file
from editors.errors import TextFileError
from editors.layouts import backbone_of, read_weight, sites_of
from editors.memit import Memit
from editors.moments import ROW_LENGTH
from editors.preparing import Recipe, ordinary_rows, prepare, prepare_in
from editors.rome import Rome

PIECE = 64  # rows


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(f"The capital of country {n} is city {n * n}." for n in range(2_000)))
    return path


@pytest.fixture
def recipe(tiny):
    return Recipe.of(tiny.config, base=tiny.base)


@pytest.fixture(params=["sampled", "corpus"])
def long_recipe(request, recipe, corpus):
    """A recipe whose text has several pieces."""
    text = {"corpus": corpus} if request.param == "corpus" else {}
    return dataclasses.replace(recipe, tokens_per_dimension=200, **text)


@pytest.fixture
def load(tiny):
    """How `prepare_in` gets the base; it counts how often it had to."""

    def loaded():
        loaded.times += 1
        return tiny.model, tiny.tokenizer

    loaded.times = 0
    return loaded


def same(one, other):
    assert list(map(list, one.held)) == list(map(list, other.held))
    assert list(one.material.contexts) == list(other.material.contexts)
    assert one.material.text == other.material.text
    assert one.material.base == other.material.base
    assert one.material.moments.keys() == other.material.moments.keys()
    assert all(torch.equal(moment, other.material.moments[site]) for site, moment in one.material.moments.items())


def test_a_recipe_names_the_layers_that_a_method_writes():
    assert Recipe.of(Rome(layer=7), base="b").layers == (7,)
    some = Recipe.of(Memit(layers=(2, 3), contexts=4), base="b")
    assert (some.layers, some.contexts) == ((2, 3), 4)


def test_a_recipe_goes_by_what_is_in_its_texts_and_not_by_where_they_lie(recipe, tmp_path):
    one, copy, other = (tmp_path / name for name in ("one", "copy", "other"))
    for path, text in ((one, "Bern."), (copy, "Bern."), (other, "Basel.")):
        path.write_text(text)
    of = {path: dataclasses.replace(recipe, corpus=path) for path in (one, copy, other)}
    assert of[one].to_record()["corpus"] == sha256_file(one)
    assert of[one].digest() == of[copy].digest()
    held = dataclasses.replace(recipe, held=one)
    assert len({recipe.digest(), of[one].digest(), of[other].digest(), held.digest()}) == 4


def test_what_is_prepared_serves_the_methods_of_its_config(tiny, recipe):
    prepared = prepare(tiny.model, tiny.tokenizer, recipe)
    assert set(prepared.material.moments) == set(sites_of(tiny.model, tiny.config.layers))
    assert len(prepared.material.contexts) == tiny.config.contexts
    assert not {tuple(row) for row in prepared.held} & {tuple(row) for row in prepared.material.text}


def test_there_are_ten_tokens_of_text_for_each_dimension_that_a_site_reads(tiny, recipe):
    text = prepare(tiny.model, tiny.tokenizer, recipe).material.text
    d_in = read_weight(tiny.model, sites_of(tiny.model, [0])[0]).shape[1]
    assert 10 * d_in <= sum(len(row) - 1 for row in text) < 10 * d_in + ROW_LENGTH


def test_text_and_held_rows_come_from_files_where_there_are_some(tiny, recipe, corpus, tmp_path):
    held = tmp_path / "held.txt"
    held.write_text("The river in Bern is the Aare.\n\nRome.\n")
    prepared = prepare(tiny.model, tiny.tokenizer, dataclasses.replace(recipe, corpus=corpus, held=held))
    assert any("The capital of country 1" in tiny.tokenizer.decode(row) for row in prepared.material.text)
    texts = [tiny.tokenizer.decode(row, skip_special_tokens=True) for row in prepared.held]
    assert texts == ["The river in Bern is the Aare.", "Rome."]


@pytest.mark.parametrize("source", ["sampled", "corpus"])
def test_ordinary_text_is_none_that_moments_or_perplexity_are_from(tiny, recipe, corpus, source):
    if source == "corpus":
        recipe = dataclasses.replace(recipe, corpus=corpus)
    prepared = prepare(tiny.model, tiny.tokenizer, recipe)
    rows = ordinary_rows(tiny.model, tiny.tokenizer, recipe, rows=20)
    used = {tuple(row) for row in (*prepared.material.text, *prepared.held)}
    assert len(rows) == 20 and {len(row) for row in rows} == {ROW_LENGTH}
    assert not {tuple(row) for row in rows} & used
    assert rows == ordinary_rows(tiny.model, tiny.tokenizer, recipe, rows=20)


def test_a_corpus_that_is_too_short_for_ordinary_text_is_refused(tiny, recipe, corpus):
    with pytest.raises(TextFileError, match="give a longer text"):
        ordinary_rows(tiny.model, tiny.tokenizer, dataclasses.replace(recipe, corpus=corpus), rows=10_000)


def test_what_is_kept_is_found_again_without_the_model_and_another_recipe_is_made(recipe, load, tmp_path):
    first, again = (prepare_in(tmp_path, recipe, load) for _ in range(2))
    assert load.times == 1
    same(first, again)
    prepare_in(tmp_path, dataclasses.replace(recipe, seed=1), load)
    assert load.times == 2


def test_a_damaged_file_is_made_again(recipe, load, tmp_path, caplog):
    first = prepare_in(tmp_path, recipe, load)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    again = prepare_in(tmp_path, recipe, load)
    same(first, again)
    assert load.times == 2
    assert "made again" in caplog.text


class KilledError(Exception):
    pass


def kill_after(rows):
    def progress(what, done, total):
        if (what, done) == ("second moments", rows):
            raise KilledError

    return progress


def test_after_a_kill_the_rest_is_done_and_the_result_is_the_same_to_the_bit(
    tiny, long_recipe, load, tmp_path, monkeypatch
):
    whole = prepare_in(tmp_path / "whole", long_recipe, load)
    assert len(whole.material.text) > 2 * PIECE
    with pytest.raises(KilledError):
        prepare_in(tmp_path / "killed", long_recipe, load, progress=kill_after(PIECE))

    read, sampled = [], []
    original = editors.preparing.sample_rows

    def watched(*given, **settings):
        sampled.append(settings["rows"])
        return original(*given, **settings)

    def note(module, args, kwargs):
        if kwargs["input_ids"].shape[1] == ROW_LENGTH:
            read.extend(kwargs["input_ids"].tolist())

    monkeypatch.setattr(editors.preparing, "sample_rows", watched)
    hook = backbone_of(tiny.model).register_forward_pre_hook(note, with_kwargs=True)
    resumed = prepare_in(tmp_path / "killed", long_recipe, load)
    hook.remove()

    same(whole, resumed)
    assert read == whole.material.text[PIECE:]
    *of_text, of_held = sampled
    assert of_held == len(whole.held)
    assert sum(of_text) == (0 if long_recipe.corpus else len(whole.material.text) - PIECE)


def test_nothing_half_made_stays_once_all_is_made(recipe, load, tmp_path):
    prepare_in(tmp_path, recipe, load)
    (file,) = tmp_path.iterdir()
    assert file.name.startswith(f"{recipe.digest()}.")


def test_a_damaged_half_is_begun_anew(long_recipe, load, tmp_path, caplog):
    whole = prepare_in(tmp_path / "whole", long_recipe, load)
    with pytest.raises(KilledError):
        prepare_in(tmp_path / "killed", long_recipe, load, progress=kill_after(PIECE))
    (half,) = (tmp_path / "killed").iterdir()
    content = bytearray(half.read_bytes())
    content[-1] ^= 1
    half.write_bytes(content)
    same(whole, prepare_in(tmp_path / "killed", long_recipe, load))
    assert "is damaged" in caplog.text


def test_a_corpus_that_is_too_short_is_refused_before_anything_is_kept(recipe, load, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("Bern.")
    with pytest.raises(TextFileError, match=r"short\.txt .*tokens"):
        prepare_in(tmp_path / "kept", dataclasses.replace(recipe, corpus=short), load)
    assert not (tmp_path / "kept").exists()


def test_the_record_of_a_recipe_is_json(recipe):
    assert json.loads(json.dumps(recipe.to_record())) == recipe.to_record()
