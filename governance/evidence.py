"""Evidence: what proves a release, where it lies in the object store, and how a copy of it lies in a pulled folder.

    evidence/releases/2/            what is signed of release 2: its manifest and its candidate's
    evidence/releases/2.sig         the signature, a Sigstore bundle
    evidence/releases/2.signer.json the root's certificate for what it was made with
    evidence/releases/1...          and so on back to the first release
    evidence/receipts/              the decisions that let each of them through, by digest
    evidence/certificates/          the root's certificates of those who decided, by digest
    evidence/policies/              by digest: how many had to approve
    evidence/{patch.safetensors, report.json, corrections.jsonl}    of the newest one

Every release names the manifest of the one before it, so none can be left out. In an audit's export lie, instead of the
newest one's files, the report and the corrections of every release, and the acts of the whole ledger, by digest.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from editors.contents import naming, object_in
from editors.digests import canonical_json
from editors.errors import UnprovenError

FORMAT = 2
"""Of a release's manifest."""
OF_CANDIDATE = ("base", "patch", "values", "moments", "contexts", "report", "policy", "corrections", "code", "pins")
"""What a release's manifest repeats of its candidate's."""
CARD = "corrigenda.json"
"""By which a pulled folder is known."""
AUDIT = "corrigenda-audit.json"
"""By which an audit's export is known."""
EVENTS, ROOT, README = "events.jsonl", "root.pub", "README.md"
"""What an audit's export holds beside its card and its evidence."""
FOLDER = "evidence"
RELEASE, CANDIDATE = "release.json", "candidate.json"
NEWEST = {"patch": "patch.safetensors", "report": "report.json", "corrections": "corrections.jsonl"}
"""Files of the newest release alone, by what its manifest calls them."""


class Source(Protocol):
    """The object store, for reading: by name, and by digest, which is checked."""

    def read(self, key: str) -> bytes | None:
        """The bytes under a key, or None."""
        ...

    def checked(self, key: str, digest: str) -> bytes:
        """The bytes under a key, which hash to a digest."""
        ...

    def get(self, digest: str) -> bytes:
        """The blob of a digest."""
        ...


def record_key(candidate: str) -> str:
    """Where a release's manifest is in the object store."""
    return f"releases/{candidate}.json"


def manifest_key(candidate: str) -> str:
    """Where a candidate's manifest is in the object store."""
    return f"candidates/{candidate}.json"


def signature_key(candidate: str) -> str:
    """Where a release's signature is in the object store, with the certificate of what it was made with."""
    return f"releases/{candidate}.sig"


def signed_folder(evidence: Path, position: int) -> Path:
    """What is signed of a release."""
    return evidence / "releases" / str(position)


def bundle_file(evidence: Path, position: int) -> Path:
    """The signature of a release."""
    return evidence / "releases" / f"{position}.sig"


def signer_file(evidence: Path, position: int) -> Path:
    """The certificate of what a release was signed with."""
    return evidence / "releases" / f"{position}.signer.json"


def certificate_file(evidence: Path, digest: str) -> Path:
    """The root's certificate of somebody."""
    return evidence / "certificates" / f"{digest}.json"


def report_file(evidence: Path, digest: str) -> Path:
    """The report of a release."""
    return evidence / "reports" / f"{digest}.json"


def corrections_file(evidence: Path, digest: str) -> Path:
    """The facts of a release."""
    return evidence / "corrections" / f"{digest}.jsonl"


def act_file(evidence: Path, digest: str) -> Path:
    """What somebody signed who asked for something."""
    return evidence / "acts" / f"{digest}.json"


def submitted_file(evidence: Path, digest: str) -> Path:
    """A file that somebody signed for, from which facts of a release came."""
    return evidence / "submissions" / digest


def named_by(evidence: Path, record: Mapping[str, Any]) -> dict[Path, str]:
    """The files that a release's manifest names by digest, each with it: policy, receipts, certificates."""
    policy = str(record["policy"])
    return {
        evidence / "policies" / f"{policy}.toml": policy,
        **{evidence / "receipts" / f"{digest}.json": digest for digest in map(str, record["receipts"])},
        **{certificate_file(evidence, digest): digest for digest in map(str, record["certificates"])},
    }


def gather(candidate: str, source: Source, evidence: Path, *, patch: Path) -> None:
    """Bring what proves a release, and every release before it, into a folder; nothing of it is believed yet.

    Args:
        candidate: digest of what was released.
        source: the object store.
        evidence: the folder.
        patch: the file of the release's patch, which is here already.

    Raises:
        UnprovenError: a release lacks its manifest or its signature.
    """
    with naming(record_key(candidate)):
        newest = object_in(_record(candidate, source), record_key(candidate))
        evidence.mkdir()
        shutil.copyfile(patch, evidence / NEWEST["patch"])
        for what in ("report", "corrections"):
            write_file(evidence / NEWEST[what], source.get(newest[what]))
    for _ in gather_releases(candidate, source, evidence):
        pass


def gather_releases(candidate: str, source: Source, evidence: Path) -> Iterator[Mapping[str, Any]]:
    """Bring what is signed of a release and of every one before it, with receipts, certificates and policies.

    Yields:
        The manifest of each, newest first, once it is here.

    Raises:
        UnprovenError: a release lacks its manifest or its signature.
    """
    with naming(record_key(candidate)):
        positions = range(object_in(_record(candidate, source), record_key(candidate))["position"], 0, -1)
    for position in positions:
        with naming(record_key(candidate)):
            record = _gather_one(candidate, position, source, evidence)
            candidate = record["parent"]
        yield record


def write_file(file: Path, content: bytes) -> None:
    """Write a file, and the folders that it lies in."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def _gather_one(candidate: str, position: int, source: Source, evidence: Path) -> dict[str, Any]:
    """Bring what proves one release; returns its manifest."""
    content, signature = _record(candidate, source), source.read(signature_key(candidate))
    record = object_in(content, record_key(candidate))
    if (record["position"], record["candidate"]) != (position, candidate):
        raise UnprovenError(f"{record_key(candidate)} is of another release than {position}, {candidate[:12]}")
    if signature is None:
        raise UnprovenError(
            f"release {position} ({candidate[:12]}) is not signed. If its promotion was cut off, 'corrigenda "
            "reconcile' signs it; if it was made before releases were signed, its platform has to be made anew"
        )
    kept = object_in(signature, signature_key(candidate))
    write_file(signed_folder(evidence, position) / RELEASE, content)
    write_file(signed_folder(evidence, position) / CANDIDATE, source.checked(manifest_key(candidate), candidate))
    write_file(bundle_file(evidence, position), canonical_json(kept["bundle"]))
    write_file(signer_file(evidence, position), canonical_json(kept["certificate"]))
    for file, digest in named_by(evidence, record).items():
        got = source.get(digest)  # it hashes to its name, which is therefore no path to somewhere else
        write_file(file, got)
    return record


def _record(candidate: str, source: Source) -> bytes:
    content = source.read(record_key(candidate))
    if content is None:
        raise UnprovenError(f"{record_key(candidate)} is missing in the object store, so the chain of releases is cut")
    return content
