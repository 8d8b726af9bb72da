"""SHA-256 over bytes, files and records: the name that everything goes by.

A digest must not depend on the order in which a dictionary was filled, so records are hashed in one canonical JSON
form. Tensors are hashed in artifacts.py: this module loads in an instant, because the command line needs it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DIGEST = re.compile(r"[0-9a-f]{64}")
"""How a SHA-256 is written."""


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_files(paths: Iterable[Path], *, root: Path) -> str:
    """Return one digest of some files and of where they are under a folder, whatever their order."""
    return digest_of({str(path.relative_to(root)): sha256_file(path) for path in paths})


def canonical_json(value: Any) -> bytes:  # noqa: ANN401 - whatever JSON can hold
    """Return the one JSON text of a value: sorted keys, no spaces, UTF-8.

    Raises:
        ValueError: a number in it is NaN or infinite.
        TypeError: something in it is not JSON.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest_of(value: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
    """Return the SHA-256 of a value's canonical JSON."""
    return sha256_bytes(canonical_json(value))
