"""Proving: what is signed of a release is brought, and has to lead to the root, where one is set."""

from __future__ import annotations

import shutil
from pathlib import Path

from consuming.errors import AlteredError
from consuming.objects import Objects
from consuming.settings import ConsumerSettings
from consuming.telling import Progress
from consuming.versions import Version
from editors.errors import UnprovenError
from editors.evidence import gather, record_key


def prove(version: Version, evidence: Path, *, patch: Path, settings: ConsumerSettings, report: Progress) -> None:
    """Bring what proves a release into a folder, and refuse it unless it leads to the root, where one is set."""
    if version.release is None:
        return
    from editors.verifying import verify_evidence

    card = {"candidate": version.candidate, "manifest": version.manifest, "release": version.release}
    try:
        gather(version.candidate, Objects(settings), evidence, patch=patch)
        if settings.root_fingerprint:
            verify_evidence(evidence, card, root=settings.root_fingerprint, name=record_key(version.candidate))
            report(f"it is signed, and was approved, under the root {settings.root_fingerprint[:12]}")
    except UnprovenError as error:
        if settings.root_fingerprint:
            raise AlteredError(str(error)) from error
        shutil.rmtree(evidence, ignore_errors=True)
        report(f"nothing here proves it: {error}")
