"""Folders: what is in one, and how one appears whole or not at all, in the place of nothing but its own kind."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of renameat2(2)


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
    target = target.resolve()  # a link stays one: what it leads to is replaced
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
    """Give a folder the target's name; an earlier one gets the folder's name, under which it is removed.

    Whoever was faster with the same target had the same to write: either is as good.
    """
    try:
        built.rename(target)  # where there is nothing, or an empty folder
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if not _exchanged(built, target):
            _exchange_in_steps(built, target)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step, so that a crash or a reader never finds one missing, if possible.

    Linux can, on most file systems; Python has no function for it.
    """
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    return renameat2 is not None and renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0


def _exchange_in_steps(built: Path, target: Path) -> None:
    away = built.with_name(f"{built.name}-old")
    target.rename(away)
    try:
        built.rename(target)
    except OSError:
        away.rename(target)
        raise
    away.rename(built)
