"""Downloads: a file that is being fetched grows beside its name, and gets it once it is whole.

What came of a download that was cut or killed stays in a hidden `.part`, which the next one goes on with. Who else
wants the same file, in whichever process, waits for it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from consuming.errors import AlteredError
from editors.digests import sha256_file


@contextmanager
def part_of(path: Path, digest: str) -> Iterator[BinaryIO]:
    """The beginning of a file that is being fetched, to go on with; who else wants the file waits for it.

    It is removed where what it holds is of no use, and kept where the download was only cut.
    """
    part = path.with_name(f".{path.name}.{digest[:16]}.part")
    file = _locked(part)
    try:
        yield file
    except (AlteredError, OSError) as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        with suppress(OSError):  # what it still holds doesn't fit on the disk either
            if not size_of(file):
                part.unlink(missing_ok=True)
        with suppress(OSError):
            file.close()


def size_of(file: BinaryIO) -> int:
    """How many bytes a file has that is being written."""
    file.flush()
    return os.fstat(file.fileno()).st_size


def is_whole(path: Path, digest: str) -> bool:
    """Whether a file is there and hashes to what it should."""
    return path.is_file() and sha256_file(path) == digest


def check_file(path: Path, digest: str, *, name: str = "") -> None:
    """Refuse a file that is missing, or hashes to something else.

    Args:
        path: of the file.
        digest: the sha256 that it should have.
        name: of the file, for the message; its path by default.

    Raises:
        AlteredError: the message says what was found.
    """
    found = sha256_file(path) if path.is_file() else "no file"
    if found != digest:
        raise AlteredError(f"{name or path}: expected sha256 {digest}, got {found}; delete it and pull again")


def _locked(part: Path) -> BinaryIO:
    """Open a file to append to, and wait until nobody else has it."""
    while True:
        file = part.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        if part.exists() and os.path.samestat(os.fstat(file.fileno()), part.stat()):
            return file
        file.close()  # while we waited, it got its final name
