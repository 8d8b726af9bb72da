"""SHA-256 over bytes, files, records and tensors: the name that everything goes by.

A digest must not depend on the order in which a dictionary was filled, on the machine's byte order or on where a
tensor lives. So records are hashed in one canonical JSON form, and tensors by name, dtype, shape and
little-endian bytes.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_CHUNK = 1 << 20


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return one digest of named tensors: their names, dtypes, shapes and bytes, in the order of the names."""
    return digest_named((name, tensors[name]) for name in sorted(tensors))


def digest_named(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return the digest of tensors that arrive one by one, sorted by name, so that they need not fit in memory."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        header = canonical_json([name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)])
        digest.update(len(header).to_bytes(8, "little") + header)
        _update(digest, tensor)
    return digest.hexdigest()


def _update(digest: Any, tensor: Tensor) -> None:  # noqa: ANN401 - hashlib names no public type
    assert sys.byteorder == "little", "tensors are hashed in little-endian order"
    flat = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
    for start in range(0, flat.numel(), _CHUNK):
        digest.update(flat[start : start + _CHUNK].numpy())
