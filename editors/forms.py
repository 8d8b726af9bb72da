"""Forms: what a release can be had as, each written from base and patch, and held against them again.

    model        a folder that transformers loads, in float32: the base's weights with the patch added
    checkpoint   the same in a chosen precision, with what rounding cost
    adapter      the patch as a LoRA adapter, for who loads the base beside it
    patch        the patch as it was made, for who adds it to the base themselves

Whoever has the base believes nobody about any of them: they are built again, and compared.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch

from editors.building import build, check_base, check_weights, copy_base_files
from editors.contents import FORMS
from editors.digests import sha256_file
from editors.errors import UnprovenError
from editors.export import AdapterLoss, CheckpointLoss, check_adapter, to_checkpoint, to_lora
from editors.patch import Patch

Form = Literal["model", "adapter", "checkpoint", "patch"]

README, PATCH = FORMS["patch"]
CARD_OF_PATCH = """# A patch for a language model

For the base whose weights have the digest `{base}`: candidate `{candidate}`.

`patch.safetensors` (sha256 `{patch}`) holds for each site, which is a weight of the base by its name, either
`SITE:left` and `SITE:right`, whose product is added to that weight, or `SITE:delta`, which is added as it is; a GPT-2
stores its weights transposed, and so its transpose is added there. The sum is taken in float64 and rounded once:

    from editors.models import load_model, weights_digest
    from editors.patch import Patch, apply_

    model, tokenizer = load_model(base)  # the folder of the base
    patch = Patch.load(folder / "patch.safetensors", expected="{patch}")
    apply_(model, patch, base=weights_digest(base))  # refuses another base

`corrigenda verify` checks this folder by what is in `evidence/`, where anything is.
"""


def write_form(
    form: Form,
    manifest: Mapping[str, Any],
    *,
    candidate: str,
    patch: Path,
    base: Path | None,
    folder: Path,
    dtype: str,
    prompts: Sequence[str] = (),
) -> AdapterLoss | CheckpointLoss | None:
    """Write a version into an empty folder, or one with its evidence; returns what was lost, where it was measured.

    Args:
        form: of it.
        manifest: of the candidate.
        candidate: its digest.
        patch: file of its patch.
        base: folder of its base; a patch needs none.
        folder: where it is written.
        dtype: of an adapter or a checkpoint.
        prompts: where their logits are compared with the release's.

    Raises:
        DamagedArtifactError, WrongBaseError: it is not the candidate's patch, or not for this base.
    """
    if form == "patch":
        shutil.copyfile(patch, folder / PATCH)
        (folder / README).write_text(_readme(manifest, candidate), encoding="utf-8")
        return None
    assert base is not None, "all forms but a patch are built on the base"
    if form == "model":
        build(manifest, base=base, patch=patch, folder=folder)
        return None
    read, precision = Patch.load(patch, expected=manifest["patch"]), getattr(torch, dtype)
    if form == "adapter":
        return to_lora(base, read, folder, base_name=str(base.resolve()), dtype=precision, prompts=prompts)
    copy_base_files(manifest, base=base, folder=folder)
    return to_checkpoint(base, read, folder, dtype=precision, prompts=prompts)


def check_built(form: Form, manifest: Mapping[str, Any], *, patch: Path, base: Path, folder: Path, dtype: str) -> str:
    """Build what a folder has on its base again, and hold it against that; returns what holds.

    Raises:
        UnprovenError: it is another base, or something differs; the message names the file.
    """
    check_base(manifest, base)
    precision = getattr(torch, dtype)
    if form == "adapter":
        return check_adapter(base, Patch.load(patch, expected=manifest["patch"]), folder, dtype=precision)
    return check_weights(manifest, base=base, patch=patch, folder=folder, dtype=precision)


def check_patch(manifest: Mapping[str, Any], *, candidate: str, folder: Path) -> str:
    """Hold a patch's folder against the manifest, for which no base is needed; returns what holds.

    Raises:
        UnprovenError: a file differs; the message names it.
    """
    if (found := sha256_file(folder / PATCH)) != manifest["patch"]:
        raise UnprovenError(f"{folder / PATCH}: the manifest names sha256 {manifest['patch']}, got {found}")
    if (folder / README).read_bytes() != _readme(manifest, candidate).encode():
        raise UnprovenError(f"{folder / README} says something else than what belongs there; pull the release again")
    return f"it is the one that the manifest names, for the base {manifest['base'][:12]}"


def lines_of(lost: AdapterLoss | CheckpointLoss | None) -> Iterator[str]:
    """What was lost, in a line for each site and one for the logits."""
    if lost is None:
        return
    if isinstance(lost, AdapterLoss):
        yield f"a LoRA adapter of rank {lost.rank}"
        for site, error in lost.errors.items():
            yield f"{site}: relative error of the delta {error:.1e}"
    else:
        for site, left in lost.survival.items():
            yield f"{site}: {left.entries:.1%} of the entries left, relative error {left.error:.1e}"
    difference = lost.logit_difference
    yield "no facts, so no logits compared" if difference is None else f"greatest logit difference {difference:.1e}"


def record_of(lost: AdapterLoss | CheckpointLoss | None) -> dict[str, Any]:
    """What was lost, for the card."""
    return asdict(lost) if lost else {}


def _readme(manifest: Mapping[str, Any], candidate: str) -> str:
    return CARD_OF_PATCH.format(base=manifest["base"], candidate=candidate, patch=manifest["patch"])
