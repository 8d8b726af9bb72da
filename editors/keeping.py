"""Tensors that a later run finds again, by a key that says what they were made from.

A file is named `<key>.<sha256 of its bytes>.safetensors`, so it appears together with what it is checked against.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from editors.artifacts import dump_tensors, read_tensors
from editors.atomic import write_atomically
from editors.digests import sha256_bytes
from editors.errors import DamagedArtifactError

logger = logging.getLogger(__name__)


def keep(folder: Path, key: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Keep tensors and what is to be known about them, in place of what was kept under the key.

    Raises:
        OSError: the folder cannot be written; what was kept stays.
    """
    data = dump_tensors(tensors, metadata)
    path, earlier = folder / f"{key}.{sha256_bytes(data)}.safetensors", _files(folder, key)
    write_atomically(path, data)
    _remove(other for other in earlier if other != path)  # and not what another process has kept since


def find(folder: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return what is kept under a key, None where there is nothing; a damaged file is nothing, and warned of."""
    for path in _files(folder, key):
        try:
            return read_tensors(path, expected=path.name.split(".")[-2])
        except (DamagedArtifactError, FileNotFoundError) as error:
            logger.warning("%s, and what it held is made again", error)
    return None


def drop(folder: Path, key: str) -> None:
    """Remove what is kept under a key."""
    _remove(_files(folder, key))


def _files(folder: Path, key: str) -> list[Path]:
    return sorted(folder.glob(f"{key}.*.safetensors"))


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
