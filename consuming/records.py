"""Records: whether a release's manifest and a candidate's hold what consumers read there, each of the right kind.

The promoter alone may write the one, and the other hashes to its name; neither has to be what these programs write.
What consumers don't read is not looked at here: signatures and receipts are held against the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consuming.errors import AlteredError

SHOWN = 64  # characters of what is wrong

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Read(BaseModel):
    model_config = ConfigDict(strict=True)


class _Release(_Read):
    candidate: Digest
    position: int = Field(ge=1)
    approved: str


class _File(_Read):
    name: str
    size: int = Field(ge=0)
    sha256: Digest


class _Fact(_Read):
    id: str


class _Leaving(_Read):
    id: str
    becomes: str
    reason: str


class _Manifest(_Read):
    base: Digest
    base_files: list[_File]
    parent: Digest
    patch: Digest
    corrections: Digest
    report: Digest
    facts: list[_Fact]
    leaving: list[_Leaving]


def check_release(record: Mapping[str, Any], *, place: str) -> None:
    """Refuse what is no release's manifest.

    Args:
        record: as it was read.
        place: where it is, for the message.

    Raises:
        AlteredError: something in it is missing or of another kind; the message names it.
    """
    _check(_Release, record, place=place)


def check_manifest(manifest: Mapping[str, Any], *, place: str) -> None:
    """Refuse what is no candidate's manifest.

    Args:
        manifest: as it was read.
        place: where it is, for the message.

    Raises:
        AlteredError: something in it is missing or of another kind; the message names it.
    """
    _check(_Manifest, manifest, place=place)


def _check(kind: type[_Read], record: Mapping[str, Any], *, place: str) -> None:
    try:
        kind.model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise AlteredError(f"{place} lacks its {what}") from error
        found = repr(first["input"])
        found = found if len(found) <= SHOWN else f"{found[:SHOWN]}…"
        raise AlteredError(f"{place}: its {what} is {found}: {first['msg']}") from error
