"""Folders: what is in one, and how one appears whole or not at all, in the place of nothing but its own kind."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(target: Path, *, card: str) -> Generator[Path]:
    """Give an empty folder to fill; it takes the target's place when the context closes without an error.

    Args:
        target: must not exist, be an empty folder, or hold an earlier one of this kind, which is replaced.
        card: the name of the file by which a folder of this kind is known; whoever fills the folder writes it.

    Raises:
        FileExistsError: something else is there.
        OSError: the disk is full, or the parent cannot be written; nothing is left behind.
    """
    if target.exists() and not (target / card).is_file() and (target.is_file() or any(target.iterdir())):
        raise FileExistsError(f"{target} exists and holds no {card}, so it is none of ours; choose another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    built = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield built
        _sync(built)
        built.chmod(0o755)
        _swap(built, target)
    finally:
        shutil.rmtree(built, ignore_errors=True)


def files_of(folder: Path) -> dict[str, Path]:
    """Return all that is in a folder and its subfolders but these themselves, sorted, by its path from there.

    A link to a folder is listed, not followed: what lies behind it is not the folder's own.
    """
    found = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix(): path for path in found}


def _sync(folder: Path) -> None:
    """See that everything is on the disk before it gets its name."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _swap(built: Path, target: Path) -> None:
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        target.rename(old / "old")
        built.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        built.rename(target)
