"""Contents: which files a version's folder holds, and reading files that somebody may have altered.

Whatever is wrong with one, the message names it.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from editors.digests import sha256_bytes
from editors.errors import EditorError, UnprovenError

FORMS: dict[str, tuple[str, ...]] = {
    "model": (),
    "checkpoint": (),
    "adapter": ("adapter_config.json", "adapter_model.safetensors"),
    "patch": ("README.md", "patch.safetensors"),
}
"""What a release can be had as: with its base's files, or as the named ones alone."""
DTYPES = ("float32", "bfloat16")
MEASURED = ("adapter", "checkpoint")
"""Forms that may lose something, and can be had in another precision than the first."""
WRITTEN = ("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json")
"""Files of a pulled folder that are written anew; every other one is the base's own, byte for byte."""


def is_written(name: str) -> bool:
    """Whether a file of a pulled folder, by its path there, is written anew, and not copied from the base."""
    return "/" not in name and any(Path(name).match(pattern) for pattern in WRITTEN)


@contextmanager
def naming(what: Path | str) -> Generator[None]:
    """Say of what is read that it is no such thing, where it is not.

    Raises:
        UnprovenError: the message names it.
    """
    try:
        yield
    except UnprovenError:
        raise
    except (EditorError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise UnprovenError(f"{what}: {why}") from error


def object_in(content: bytes, what: Path | str) -> dict[str, Any]:
    """The JSON object that some bytes are.

    Args:
        content: the bytes.
        what: where they are from, for the message.

    Raises:
        UnprovenError: they are none, or say something twice.
    """
    with naming(what):
        try:
            found = json.loads(content, object_pairs_hook=_each_once)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UnprovenError(f"{what} is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise UnprovenError(f"{what} holds no JSON object")
        return cast(dict[str, Any], found)


def json_of(file: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        UnprovenError: it holds none, or says something twice.
    """
    return object_in(content_of(file), file)


def named_content(file: Path, digest: str) -> bytes:
    """The content of a file that a manifest names by digest.

    Raises:
        UnprovenError: it is missing, or another one.
    """
    content = content_of(file)
    if (found := sha256_bytes(content)) != digest:
        raise UnprovenError(f"{file}: the manifest names sha256 {digest}, got {found}")
    return content


def content_of(file: Path) -> bytes:
    """The content of a file.

    Raises:
        UnprovenError: it can't be read.
    """
    try:
        return file.read_bytes()
    except (OSError, ValueError) as error:
        raise UnprovenError(f"{file} is missing, or can't be read: {error}") from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it says something twice")
    return found
