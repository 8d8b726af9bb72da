"""Audit: the whole history as a folder that a stranger verifies with nothing but the root's fingerprint.

The ledger's events are written as they are, each a line; what is signed of every release, and what it names, comes from
the object store as a consumer gets it. Secrets of one-time codes stay sealed in their certificates, which could not be
verified without. Patches stay where they are: the manifests name them by digest, and a pulled release has its own.

What was written is verified before it gets its name, so nobody hands out what nobody could believe.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from editors.digests import canonical_json, sha256_file
from editors.folders import files_of
from governance.auditing import verify_audit
from governance.corroborating import submitted_in
from governance.envelopes import claimed
from governance.events import Row, line_of
from governance.evidence import (
    AUDIT,
    CANDIDATE,
    EVENTS,
    FOLDER,
    README,
    ROOT,
    act_file,
    certificate_file,
    corrections_file,
    gather_releases,
    record_key,
    report_file,
    signed_folder,
    submitted_file,
    write_file,
)
from governance.history import History
from tasks.describe import counted
from tasks.errors import IdentityError, StoreError
from tasks.ledger import Ledger
from tasks.settings import Settings
from tasks.store import Store

FORMAT = 1
TEXT = Path(__file__).parent / "templates" / "audit.md"
"""What the auditor reads first."""


def export_audit(
    folder: Path,
    *,
    ledger: Ledger,
    store: Store,
    settings: Settings,
    report: Callable[[str], None],
    progress: Callable[[str, int], None],
) -> None:
    """Write the whole history into an empty folder, and verify what was written.

    Args:
        folder: is filled.
        ledger: whose events are written.
        store: holds what releases consist of.
        settings: name the root.
        report: called with a line for each stage.
        progress: told of events and releases as they are written.

    Raises:
        IdentityError: no root is set, or it certified nobody.
        StoreError: a release is not published yet.
        UnprovenError: what is there does not hold together; the message names the file.
    """
    history = _write_events(folder / EVENTS, ledger, root=settings.root_fingerprint, progress=progress)
    report(f"{history.head.sequence:,} events of the ledger, to {history.head.digest}")
    write_file(folder / ROOT, f"{_root_of(history)}\n".encode())
    _write_signed(history, folder / FOLDER)
    people, acts = len(history.certificates()), len(history.acts())
    report(f"{counted(people, 'certificate')} of the root, {counted(acts, 'act')} that people signed")
    releases = _write_releases(history, store, folder / FOLDER, progress=progress)
    report(f"{counted(len(releases), 'release')}, with all that proves them, reports and corrections")
    shutil.copyfile(TEXT, folder / README)
    (folder / AUDIT).write_bytes(canonical_json(_card(folder, history, releases)))
    verify_audit(folder, root=settings.root_fingerprint)
    report("verified, as whoever gets it does")


def _write_events(file: Path, ledger: Ledger, *, root: str, progress: Callable[[str, int], None]) -> History:
    if not root:
        raise IdentityError("no root is set, so nobody could verify the export; set CORRIGENDA_ROOT_FINGERPRINT")
    rows: list[Row] = []
    with file.open("wb") as lines:
        for row in ledger.rows():
            lines.write(line_of(row))
            rows.append(row)
            progress("events", len(rows))
    return History(rows, root=root)


def _root_of(history: History) -> str:
    """The root's public key, as the certificates carry it."""
    for certificate in history.certificates().values():
        return claimed(certificate)["predicate"]["root"]
    raise IdentityError(
        f"the root {history.root[:12]} certified nobody in this ledger; set CORRIGENDA_ROOT_FINGERPRINT to the one "
        "that did: 'corrigenda trust show' prints it"
    )


def _write_signed(history: History, evidence: Path) -> None:
    """Write what people were enrolled with, and what they signed, each into a file of its own."""
    for digest, certificate in history.certificates().items():
        write_file(certificate_file(evidence, digest), canonical_json(certificate))
    for digest, act in history.acts().items():
        write_file(act_file(evidence, digest), canonical_json(act))


def _write_releases(
    history: History, store: Store, evidence: Path, *, progress: Callable[[str, int], None]
) -> Sequence[Mapping[str, Any]]:
    """Bring what proves each release that the events approve, and what it names; returns their manifests."""
    approved = [event["key"] for event in history.of("candidate") if event["kind"] == "approved"]
    if not approved:
        return []
    if store.read(record_key(approved[-1])) is None:
        raise StoreError(
            f"{store.place(record_key(approved[-1]))} is missing: the newest release was approved and is not published "
            "yet; wait for its promotion to end, or repeat it with 'corrigenda reconcile'"
        )
    releases: list[Mapping[str, Any]] = []
    for record in gather_releases(approved[-1], store, evidence):
        for digest in submitted_in(store.manifest(record["candidate"]), history, before=record["ledger"]["sequence"]):
            write_file(submitted_file(evidence, digest), store.get(digest))
        write_file(report_file(evidence, record["report"]), store.get(record["report"]))
        write_file(corrections_file(evidence, record["corrections"]), store.get(record["corrections"]))
        releases.append(record)
        progress("releases", len(releases))
    return releases


def _card(folder: Path, history: History, releases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    card: dict[str, Any] = {
        "format": FORMAT,
        "files": {name: sha256_file(path) for name, path in files_of(folder).items()},
        "ledger": {"sequence": history.head.sequence, "digest": history.head.digest},
        "candidate": None,
        "manifest": None,
        "release": None,
    }
    if releases:
        newest = releases[0]
        manifest = signed_folder(folder / FOLDER, newest["position"]) / CANDIDATE
        card |= {"candidate": newest["candidate"], "manifest": json.loads(manifest.read_bytes()), "release": newest}
    return card
