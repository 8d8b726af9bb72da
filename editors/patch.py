"""A patch: what an editor returns, a delta for each site, and the unit that is reviewed, applied and reverted.

It is bound to its base by digest and known by the sha256 of its bytes. A delta is stored as low-rank factors or
dense, whichever is smaller. Undoing restores the saved originals: in floats, W + d - d is not W.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from editors.artifacts import dump_tensors, read_tensors
from editors.atomic import write_atomically
from editors.digests import sha256_bytes
from editors.errors import DamagedArtifactError, EditorError, NonFiniteError, WrongBaseError
from editors.layouts import read_weight, write_weight

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """delta = left @ right, one rank a fact."""

    left: Float[Tensor, "d_out rank"]
    right: Float[Tensor, "rank d_in"]

    def dense(self) -> Float[Tensor, "d_out d_in"]:
        """Return the delta in float64."""
        return self.left.double() @ self.right.double()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A delta written out."""

    delta: Float[Tensor, "d_out d_in"]

    def dense(self) -> Float[Tensor, "d_out d_in"]:
        """Return the delta in float64."""
        return self.delta.double()


Delta = LowRank | Dense


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """What to add to a base's weights. The empty patch is legal.

    Attributes:
        base: the digest of the weights that it was made for.
        deltas: one for each site that is written.
    """

    base: str
    deltas: Mapping[str, Delta] = field(default_factory=dict[str, Delta])

    def __post_init__(self) -> None:
        for name, tensor in self._tensors().items():
            if not bool(torch.isfinite(tensor).all()):
                raise NonFiniteError(f"the patch at {name}")

    @property
    def digest(self) -> str:
        """The sha256 of the patch's bytes."""
        return sha256_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the patch's one form in bytes: safetensors with the base and the format's version."""
        return dump_tensors(self._tensors(), {"base": self.base, "format": _FORMAT, "kind": "patch"})

    def save(self, path: Path) -> str:
        """Write the patch whole or not at all, and return its sha256.

        Raises:
            OSError: the disk is full or the folder cannot be written.
        """
        return write_atomically(path, self.to_bytes())

    @classmethod
    def load(cls, path: Path, *, expected: str) -> Patch:
        """Read a patch from a file with the expected sha256.

        Raises:
            DamagedArtifactError: the bytes are others, or no patch of this format.
        """
        tensors, metadata = read_tensors(path, expected=expected)
        if metadata.get("kind") != "patch" or metadata.get("format") != _FORMAT:
            raise DamagedArtifactError(path, expected=f"a patch of format {_FORMAT}", got=f"{metadata}")
        sites = sorted({name.rsplit(":", 1)[0] for name in tensors})
        try:
            return cls(base=metadata["base"], deltas={site: _delta_of(tensors, site) for site in sites})
        except KeyError as error:
            raise DamagedArtifactError(path, expected="a whole patch", got=f"one without {error}") from error

    def _tensors(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for site, delta in self.deltas.items():
            if isinstance(delta, LowRank):
                tensors |= {f"{site}:left": delta.left, f"{site}:right": delta.right}
            else:
                tensors[f"{site}:delta"] = delta.delta
        return tensors


def smaller(left: Float[Tensor, "d_out rank"], right: Float[Tensor, "rank d_in"]) -> Delta:
    """Return left @ right as float32 factors, or written out where that takes fewer numbers."""
    (d_out, rank), d_in = left.shape, right.shape[1]
    if rank * (d_out + d_in) < d_out * d_in:
        return LowRank(left=left.float(), right=right.float())
    return Dense(delta=(left.double() @ right.double()).float())


def apply_(model: PreTrainedModel, patch: Patch, *, base: str) -> None:
    """Add a patch to a model's weights in place, all sites or none.

    Args:
        model: holds the unchanged base.
        patch: made for that base.
        base: the digest of the model's weights.

    Raises:
        WrongBaseError: the patch was made for other weights.
        UnknownSiteError: the model lacks one of its sites.
        EditorError: a delta has another shape than its site.
        NonFiniteError: a weight is not finite, or would not be.
    """
    for site, weight in _patched(model, patch, base=base).items():
        write_weight(model, site, weight)


@contextmanager
def applied(model: PreTrainedModel, patch: Patch, *, base: str) -> Generator[None]:
    """Hold a patch on a model while the context is open; afterwards every weight is what it was, bit for bit.

    Raises:
        WrongBaseError: the patch was made for other weights.
        UnknownSiteError: the model lacks one of its sites.
        EditorError: a delta has another shape than its site.
        NonFiniteError: a weight is not finite, or would not be.
    """
    patched = _patched(model, patch, base=base)
    with restored(model, list(patched)):
        for site, weight in patched.items():
            write_weight(model, site, weight)
        yield


@contextmanager
def restored(model: PreTrainedModel, sites: list[str]) -> Generator[None]:
    """Give back the original weights of some sites when the context closes, however it closes."""
    originals = {site: read_weight(model, site) for site in sites}
    try:
        yield
    finally:
        for site, weight in originals.items():
            write_weight(model, site, weight)


def added(weight: Float[Tensor, "d_out d_in"], delta: Delta) -> Float[Tensor, "d_out d_in"]:
    """Return weight + delta in the weight's dtype, summed in float64."""
    return (weight.double() + delta.dense().to(weight.device)).to(weight.dtype)


def _patched(model: PreTrainedModel, patch: Patch, *, base: str) -> dict[str, Tensor]:
    if patch.base != base:
        raise WrongBaseError(patch.base, base)
    weights: dict[str, Tensor] = {}
    for site, delta in sorted(patch.deltas.items()):
        weight = read_weight(model, site)
        shape = tuple(delta.dense().shape)
        if shape != tuple(weight.shape):
            raise EditorError(f"{site} is {tuple(weight.shape)} here and {shape} in the patch; it is for another model")
        weights[site] = added(weight, delta)
        if not bool(torch.isfinite(weights[site]).all()):
            raise NonFiniteError(f"the patched {site}")
    return weights


def _delta_of(tensors: Mapping[str, Tensor], site: str) -> Delta:
    if f"{site}:delta" in tensors:
        return Dense(delta=tensors[f"{site}:delta"])
    return LowRank(left=tensors[f"{site}:left"], right=tensors[f"{site}:right"])
