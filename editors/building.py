"""Building: a version's folder from its base and its patch, and whether a folder is what they give.

A version differs from its base at the sites of its patch, by exactly the patch, and nowhere else. So whoever has the
base needs to believe nobody about weights: they build them again, and compare every tensor.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel

from editors.contents import is_written, json_of, naming
from editors.digests import canonical_json, sha256_file
from editors.errors import UnprovenError
from editors.folders import files_of
from editors.models import load_model, weights_digest
from editors.patch import Patch, apply_

FREE = {"transformers_version"}
"""What a configuration may say otherwise: by which version of transformers it was written."""


def build(manifest: Mapping[str, Any], *, base: Path, patch: Path, folder: Path) -> None:
    """Write a version's model and tokenizer into an empty folder.

    Args:
        manifest: of the candidate.
        base: folder of its base.
        patch: file of its patch.
        folder: where it is written.

    Raises:
        DamagedArtifactError, WrongBaseError: it is not the candidate's patch, or not for this base.
    """
    _build_model(manifest, base=base, patch=patch, folder=folder)
    copy_base_files(manifest, base=base, folder=folder)


def copy_base_files(manifest: Mapping[str, Any], *, base: Path, folder: Path) -> None:
    """Copy what a version has of its base as it is: the tokenizer and the templates."""
    for name in (file["name"] for file in manifest["base_files"]):
        if not is_written(name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(base / name, folder / name)


def write_patched(
    model: PreTrainedModel, patch: Patch, *, base: str, folder: Path, dtype: torch.dtype = torch.float32
) -> None:
    """Add a patch to a model in place, and write its weights and its configuration.

    Args:
        model: holds the unchanged base in float32.
        patch: made for that base; added before the weights are rounded.
        base: the digest of the model's weights.
        folder: where they are written.
        dtype: of what is written.

    Raises:
        WrongBaseError, EditorError: the patch doesn't fit the model.
    """
    apply_(model, patch, base=base)
    cast(Any, model).to(dtype).save_pretrained(folder)


def check_base(manifest: Mapping[str, Any], base: Path) -> None:
    """Refuse a folder that is not the base of a candidate.

    Raises:
        UnprovenError: a file of it is missing or differs.
    """
    for file in manifest["base_files"]:
        path = base / file["name"]
        found = sha256_file(path) if path.is_file() else "no file"
        if found != file["sha256"]:
            raise UnprovenError(f"{path}: the manifest names sha256 {file['sha256']}, got {found}; it is another base")
    with naming(base):
        if (found := weights_digest(base)) != manifest["base"]:
            raise UnprovenError(f"{base}: its weights have the digest {found}, expected {manifest['base']}")


def check_weights(
    manifest: Mapping[str, Any], *, base: Path, patch: Path, folder: Path, dtype: torch.dtype = torch.float32
) -> str:
    """Build a version again, and hold what a folder has of weights and configuration against that.

    Raises:
        UnprovenError: they differ; the message names the file and the tensor.
    """
    with tempfile.TemporaryDirectory() as scratch, naming(folder):
        sites = _build_model(manifest, base=base, patch=patch, folder=Path(scratch), dtype=dtype)
        ours = files_of(Path(scratch))
        theirs = {name: path for name, path in files_of(folder).items() if is_written(name)}
        for name in sorted({*ours, *theirs}):
            if name not in ours or name not in theirs:
                whose = "the folder has no" if name in ours else "base and patch give no"
                raise UnprovenError(f"{folder / name}: {whose} such file")
            if name.endswith(".safetensors"):
                _check_tensors(ours[name], theirs[name])
            elif _settings(ours[name]) != _settings(theirs[name]):
                raise UnprovenError(f"{theirs[name]} says something else than what the base and the patch give")
    rounded = "" if dtype == torch.float32 else f", and rounded to {str(dtype).removeprefix('torch.')}"
    return f"they differ from the base's at {sites} sites, by exactly the patch{rounded}"


def equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same bit for bit, so that 0 and -0 are two."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


def _build_model(
    manifest: Mapping[str, Any], *, base: Path, patch: Path, folder: Path, dtype: torch.dtype = torch.float32
) -> int:
    """Write a version's weights and configuration; returns at how many sites it differs from its base."""
    read = Patch.load(patch, expected=manifest["patch"])
    write_patched(load_model(base, device="cpu")[0], read, base=manifest["base"], folder=folder, dtype=dtype)
    return len(read.deltas)


def _check_tensors(ours: Path, theirs: Path) -> None:
    """Compare two files tensor by tensor, bit by bit."""
    try:
        with safe_open(ours, framework="pt") as expected, safe_open(theirs, framework="pt") as found:
            names, others = cast(list[str], expected.keys()), cast(list[str], found.keys())
            if odd := sorted({*names} ^ {*others}):
                raise UnprovenError(f"{theirs}: base and patch give other tensors than it has, such as {odd[0]}")
            for name in names:
                if not equal(expected.get_tensor(name), found.get_tensor(name)):
                    raise UnprovenError(f"{theirs}: the tensor {name} is not what the base and the patch give")
    except SafetensorError as error:
        raise UnprovenError(f"{theirs} is no safetensors file: {error}") from error


def _settings(file: Path) -> bytes:
    """What is compared of a configuration, as the one text that it has: 1, 1.0 and true are three settings."""
    return canonical_json({name: value for name, value in json_of(file).items() if name not in FREE})
