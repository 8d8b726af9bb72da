"""A value is optimised once, and is the same data wherever it is read from."""

from __future__ import annotations

import random
import shutil
from uuid import uuid4

import pytest
from pydantic import SecretStr

import tasks.edit
from editors.decoding import Progress
from editors.joint import Joint
from editors.values import ValueSettings
from infra.layout import read_layout
from infra.objectstore import admin_client
from tasks.base import Base, find_base
from tasks.collect import Batch
from tasks.corrections import Correction
from tasks.edit import Edit, make_patch
from tasks.prepare import Ingredients, prepare
from tasks.settings import Settings
from tasks.store import Store

pytestmark = pytest.mark.stack


@pytest.fixture
def config() -> Joint:
    """Settings that no other test has, so that no value of another test serves; each subject is a batch by itself."""
    return Joint(values=ValueSettings(steps=2, decay=random.random() / 1000, budget=1))


@pytest.fixture
def base(tiny_platform) -> Base:
    return find_base(tiny_platform)


@pytest.fixture
def ingredients(tiny_platform, base, config) -> Ingredients:
    store = Store(tiny_platform)
    return prepare(base, config=config, settings=tiny_platform, store=store, progress=lambda *step: None)


@pytest.fixture
def optimised(monkeypatch) -> list[str]:
    """The subjects whose values are optimised from here on."""
    seen: list[str] = []
    original = tasks.edit.values_in_batches

    def watched(model, tokenizer, subjects, **given):
        seen.extend(subjects)
        return original(model, tokenizer, subjects, **given)

    monkeypatch.setattr(tasks.edit, "values_in_batches", watched)
    return seen


def correction(subject: str, target: str) -> Correction:
    return Correction.model_validate({"subject": subject, "prompt": "The capital of {} is", "target": target})


FRANCE, JAPAN = correction("France", "Lyon"), correction("Japan", "Osaka")


@pytest.fixture
def edit(tiny_platform, base, ingredients, config):
    def of(*new: Correction, settings: Settings = tiny_platform, progress: Progress = lambda *step: None) -> Edit:
        batch = Batch(new=new, earlier=(), parent=None)
        return make_patch(
            base,
            batch,
            ingredients,
            config=config,
            settings=settings,
            store=Store(settings),
            progress=progress,
        )

    return of


@pytest.fixture
def elsewhere(stack, tiny_platform) -> Settings:
    """The same home with another, empty bucket."""
    layout, bucket = read_layout(stack.home), f"values-{uuid4().hex[:8]}"
    admin_client(layout).create_bucket(Bucket=bucket)
    keys = layout.keys["admin"]
    return tiny_platform.model_copy(
        update={
            "s3_bucket": bucket,
            "s3_access_key": SecretStr(keys.access_key),
            "s3_secret_key": SecretStr(keys.secret_key),
        }
    )


def test_only_a_subject_without_a_value_is_optimised(edit, optimised):
    first = edit(FRANCE)
    both = edit(FRANCE, JAPAN)
    assert optimised == ["France", "Japan"]
    assert set(first.values) < set(both.values)


def test_the_same_facts_give_the_same_patch_from_values_that_another_machine_kept(edit, optimised, tiny_platform):
    first = edit(FRANCE, JAPAN)
    shutil.rmtree(tiny_platform.home / "cache" / "values")
    again = edit(JAPAN, FRANCE)
    assert again.patch.sha256 == first.patch.sha256
    assert sorted(optimised) == ["France", "Japan"]


def test_another_target_asks_for_another_value(edit, optimised):
    edit(FRANCE)
    edit(correction("France", "Osaka"))
    assert optimised == ["France", "France"]


def test_a_damaged_value_is_fetched_again(edit, optimised, tiny_platform):
    first = edit(FRANCE)
    (file,) = [path for path in (tiny_platform.home / "cache" / "values").iterdir() if first.values[0] in path.name]
    file.write_bytes(file.read_bytes()[:-1])
    assert edit(FRANCE).patch.sha256 == first.patch.sha256
    assert optimised == ["France"]


def test_a_value_that_only_this_machine_has_is_not_taken_for_kept(edit, optimised, elsewhere):
    edit(FRANCE)
    named = edit(FRANCE, settings=elsewhere).values
    assert optimised == ["France", "France"]
    for sha256 in named:
        assert Store(elsewhere).stat(sha256).size > 0


def test_a_kill_loses_only_the_values_at_work(edit, optimised):
    def killed(what: str, done: int, total: int) -> None:
        if (what, done) == ("values", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        edit(FRANCE, JAPAN, progress=killed)
    optimised.clear()
    edit(FRANCE, JAPAN)
    assert len(optimised) == 1
