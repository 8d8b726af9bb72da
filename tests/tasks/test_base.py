"""Which base the settings name, and what is said when there is none."""

from __future__ import annotations

import shutil

import pytest

from tasks.base import find_base, keep_base
from tasks.errors import BaseModelError
from tasks.settings import Settings
from tasks.store import Store


def test_a_local_folder_is_a_base_known_by_its_weights(tiny_folder):
    base = find_base(Settings(model=str(tiny_folder)))
    assert base.folder == tiny_folder
    assert len(base.digest) == 64


def test_an_unknown_folder_is_named(tmp_path):
    with pytest.raises(BaseModelError, match=rf"{tmp_path}/none.*is no folder.*CORRIGENDA_MODEL"):
        find_base(Settings(model=str(tmp_path / "none")))


def test_a_hub_id_without_a_revision_is_refused_with_the_way_out():
    with pytest.raises(BaseModelError, match=r"'some/model'.*needs a revision.*CORRIGENDA_MODEL_REVISION"):
        find_base(Settings(model="some/model", model_revision=""))


def test_a_hub_that_cannot_be_reached_is_an_error_that_names_model_and_revision(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BaseModelError, match=r"some/model at 0123abc can't be had"):
        find_base(Settings(model="some/model", model_revision="0123abc"))


def test_a_folder_with_pickled_weights_alone_is_refused(tiny_folder, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_folder, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BaseModelError, match=r"holds no safetensors file.*save_pretrained"):
        find_base(Settings(model=str(folder)))


@pytest.mark.stack
def test_the_same_weights_with_another_tokenizer_are_refused(tiny_platform, tiny_folder, tmp_path):
    store = Store(tiny_platform)
    keep_base(find_base(tiny_platform), store)
    other = tmp_path / "other"
    shutil.copytree(tiny_folder, other)
    (other / "tokenizer_config.json").write_text("{}")
    with pytest.raises(BaseModelError, match=r"differs from what is kept of it in tokenizer_config\.json"):
        keep_base(find_base(Settings(model=str(other))), store)
