"""Fetching: what a version is built from comes into the cache, once, and is hashed each time it is used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consuming.downloads import check_file
from consuming.errors import AlteredError
from consuming.objects import Objects
from consuming.settings import ConsumerSettings
from consuming.telling import Progress
from consuming.versions import Version

if TYPE_CHECKING:
    from editors.forms import Form

PLAIN_PATH = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*")


def fetch(
    version: Version, objects: Objects, *, form: Form, settings: ConsumerSettings, report: Progress
) -> tuple[Path | None, Path]:
    """Bring the folder of a version's base, where its form needs one, and the file of its patch into the cache."""
    cache = settings.home / "cache"
    report(f"candidate {version.candidate[:12]}, {version.told()}")
    base = None if form == "patch" else _fetch_base(version.manifest, objects, cache=cache, report=report)
    return base, _fetch_patch(version.manifest["patch"], objects, cache=cache)


def _fetch_base(manifest: dict[str, Any], objects: Objects, *, cache: Path, report: Progress) -> Path:
    """Bring the base into the cache, once, and check every byte of it each time it is used."""
    folder = cache / "bases" / manifest["base"]
    for file in manifest["base_files"]:
        if not PLAIN_PATH.fullmatch(file["name"]):
            raise AlteredError(f"the manifest names a base file {file['name']!r}, which is no plain path")
        path = folder / file["name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            report(f"fetching {file['name']} ({file['size'] / 1e6:,.1f} MB)")
            objects.fetch(file["sha256"], path)
        check_file(path, file["sha256"])
    return folder


def _fetch_patch(digest: str, objects: Objects, *, cache: Path) -> Path:
    path = cache / "patches" / f"{digest}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        objects.fetch(digest, path)
    check_file(path, digest)
    return path
