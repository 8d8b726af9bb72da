"""Tensors by digest and in a file: the same content is the same bytes, and other bytes are refused.

A tensor is hashed by name, dtype, shape and little-endian bytes, wherever it lives and however files are split.
safetensors orders tensors by itself, but metadata in no fixed order; so there is one entry of it, in canonical JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from editors.digests import canonical_json, sha256_bytes
from editors.errors import DamagedArtifactError

_ENTRY = "corrigenda"
_CHUNK = 1 << 20


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


def dump_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Return the canonical safetensors bytes of named tensors and what is to be known about them."""
    ready = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    return save(ready, metadata={_ENTRY: canonical_json(dict(metadata)).decode()})


def read_tensors(path: Path, *, expected: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the metadata of a file whose sha256 is the expected one.

    Raises:
        DamagedArtifactError: the bytes are others, or no safetensors file of ours.
    """
    data = path.read_bytes()
    got = sha256_bytes(data)
    if got != expected:
        raise DamagedArtifactError(path, expected=f"sha256 {expected}", got=f"sha256 {got}")
    try:
        return load(data), _metadata(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise DamagedArtifactError(path, expected="safetensors with our metadata", got=f"{error!r}") from error


def _metadata(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    return cast(dict[str, Any], json.loads(header["__metadata__"][_ENTRY]))


def _update(digest: Any, tensor: Tensor) -> None:  # noqa: ANN401 - hashlib names no public type
    assert sys.byteorder == "little", "tensors are hashed in little-endian order"
    flat = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
    for start in range(0, flat.numel(), _CHUNK):
        digest.update(flat[start : start + _CHUNK].numpy())
