"""Writing a file whole or not at all; apart from tensors, so that whoever writes none needn't wait for torch."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from editors.digests import sha256_bytes


def write_atomically(path: Path, data: bytes) -> str:
    """Write a file whole or not at all, and return its sha256.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    scratch = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    return sha256_bytes(data)
