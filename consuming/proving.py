"""Proving: what is signed of a release is brought, and has to lead to the root, where one is set."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from consuming.errors import AlteredError
from consuming.fetching import fetch
from consuming.objects import Objects
from consuming.settings import ConsumerSettings
from consuming.telling import Progress
from consuming.versions import Version
from editors.errors import UnprovenError
from governance.evidence import FOLDER, gather, record_key

ROOTLESS = "NOT VERIFIED, for no root is set (CORRIGENDA_ROOT_FINGERPRINT)"
"""What is told of a release where nothing says to which root it has to lead."""


def prove(version: Version, objects: Objects, evidence: Path, *, patch: Path, root: str, report: Progress) -> None:
    """Bring what proves a release into a folder, and refuse it unless it leads to the root, where there is one.

    Args:
        version: of which there is nothing to prove if it is no release.
        objects: the object store.
        evidence: the folder; where no root is set and something is missing, there is none.
        patch: the file of the release's patch.
        root: the fingerprint of the root, or nothing.
        report: called with a line that says how it ended.

    Raises:
        AlteredError: it does not lead to the root.
    """
    if version.release is None:
        return
    from governance.verifying import verify_evidence

    card = {"candidate": version.candidate, "manifest": version.manifest, "release": version.release}
    try:
        gather(version.candidate, objects, evidence, patch=patch)
        if root:
            verify_evidence(evidence, card, root=root, name=record_key(version.candidate))
            report(f"it is signed, and was approved, under the root {root[:12]}")
        else:
            report(f"what proves it was {ROOTLESS}")
    except UnprovenError as error:
        if root:
            raise AlteredError(str(error)) from error
        shutil.rmtree(evidence, ignore_errors=True)
        report(f"nothing here proves it: {error}")


def check_proven(
    version: Version, objects: Objects, *, root: str, settings: ConsumerSettings, report: Progress
) -> None:
    """Refuse a release that does not lead to a root; its patch alone comes into the cache.

    Raises:
        AlteredError: the message names what is wrong.
    """
    _, patch = fetch(version, objects, form="patch", settings=settings, report=report)
    with tempfile.TemporaryDirectory() as scratch:
        prove(version, objects, Path(scratch) / FOLDER, patch=patch, root=root, report=report)
