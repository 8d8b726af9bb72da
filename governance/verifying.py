"""Verifying: whether a pulled folder is the release that it says it is, by its own evidence and the root's fingerprint.

Nothing is asked of a service. Each check returns in a few words what it found, or raises and names the file that is
wrong. They build on each other: the card names the files; signatures under the root cover the manifests; these name one
another back to the base, and everything else by digest. What no manifest names is refused. Weights are compared with
the base's in building.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from editors.contents import DTYPES, FORMS, MEASURED, content_of, is_written, json_of, named_content, naming, object_in
from editors.digests import sha256_bytes, sha256_file
from editors.errors import UnprovenError
from editors.folders import files_of
from governance.errors import RoleError
from governance.evidence import (
    CANDIDATE,
    CARD,
    FOLDER,
    FORMAT,
    NEWEST,
    OF_CANDIDATE,
    RELEASE,
    bundle_file,
    certificate_file,
    named_by,
    signed_folder,
    signer_file,
)
from governance.identities import Identity, identity_of
from governance.receipts import check_receipts, quorum_of
from governance.signing import verify_folder

NAMED = 5

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One release of the chain, as its folder tells it.

    Attributes:
        position: its place in the chain.
        folder: what is signed of it.
        record: its manifest.
        manifest: its candidate's.
        digest: the sha256 of its manifest.
        candidate: the sha256 of its candidate's.
    """

    position: int
    folder: Path
    record: Mapping[str, Any]
    manifest: Mapping[str, Any]
    digest: str
    candidate: str


def verify_release(folder: Path, card: Mapping[str, Any], *, root: str, report: Report = lambda line: None) -> Link:
    """Verify all of a pulled folder but its weights; returns the release that it is.

    Args:
        folder: as `corrigenda pull` wrote it.
        card: of the folder, as it was read.
        root: the fingerprint of the root, had from somebody who can be believed.
        report: called with a line for each check that holds.

    Raises:
        UnprovenError: a check doesn't hold; the message names the file.
    """
    report(f"files: {check_files(folder, card)}")
    release = verify_evidence(folder / FOLDER, card, root=root, report=report)
    if own := FORMS[card["form"]]:
        report(f"form: {check_form(folder, own)}")
    else:
        report(f"base's files: {check_base_files(release, folder)}")
    return release


def verify_evidence(
    evidence: Path, card: Mapping[str, Any], *, root: str, name: str = CARD, report: Report = lambda line: None
) -> Link:
    """Verify what `evidence.gather` brought of a release; returns the release.

    Args:
        evidence: the folder of it.
        card: which release it has to prove: its `candidate`, `manifest` and `release`.
        root: the fingerprint of the root.
        name: of what names the release, for the messages; the card's own file by default.
        report: called with a line for each check that holds.

    Raises:
        UnprovenError: a check doesn't hold; the message names the file.
    """
    chain = verify_chain(evidence, card, root=root, name=name, report=report)
    report(f"evidence: {check_evidence(chain, evidence)}")
    return chain[0]


def verify_chain(
    evidence: Path, card: Mapping[str, Any], *, root: str, name: str = CARD, report: Report = lambda line: None
) -> list[Link]:
    """Verify a release and every one before it: signatures, how each follows on the other, receipts; newest first.

    Args:
        evidence: the folder of them.
        card: which release is the newest: its `candidate`, `manifest` and `release`.
        root: the fingerprint of the root.
        name: of what names the release, for the messages; the card's own file by default.
        report: called with a line for each check that holds.

    Raises:
        UnprovenError: a check doesn't hold; the message names the file.
    """
    chain = read_chain(evidence, card, name=name)
    report(f"signatures: {check_signatures(chain, evidence, root)}")
    report(f"chain: {check_chain(chain, card, name=name)}")
    report(f"receipts: {check_approvals(chain, evidence, root)}")
    return chain


def read_card(folder: Path) -> dict[str, Any]:
    """Read the card of a pulled folder.

    Raises:
        UnprovenError: it has none.
    """
    try:
        content = (folder / CARD).read_bytes()
    except (OSError, ValueError) as error:
        raise UnprovenError(f"{folder / CARD} can't be read: {error}; pull the release again") from error
    read = object_in(content, folder / CARD)
    if not isinstance(read.get("files"), dict):
        raise UnprovenError(f"{folder / CARD} is no card of a release; pull the release again")
    if read.get("form") not in tuple(FORMS) or read.get("dtype") not in DTYPES:
        raise UnprovenError(f"{folder / CARD} names no form and precision that is known; delete it and pull again")
    if read["dtype"] != DTYPES[0] and read["form"] not in MEASURED:
        raise UnprovenError(f"{folder / CARD} names a {read['form']} in {read['dtype']}, and there is none; pull again")
    return read


def check_files(
    folder: Path, card: Mapping[str, Any], *, name: str = CARD, again: str = "pull the release again"
) -> str:
    """Hold every file of a folder against its card.

    Args:
        folder: that has it.
        card: as it was read.
        name: of the card's own file.
        again: the way out.
    """
    there = files_of(folder)
    for path in there.values():
        if path.is_symlink() or not path.is_file():
            raise UnprovenError(f"{path} is a link or no plain file, and such a folder has none; {again}")
    named: Mapping[str, str] = card["files"]
    if extra := there.keys() - {*named, name}:
        raise UnprovenError(f"{folder} holds files that its card doesn't name: {', '.join(sorted(extra)[:NAMED])}")
    for file, digest in named.items():
        found = sha256_file(there[file]) if file in there else "no file"
        if found != digest:
            raise UnprovenError(f"{folder / file}: expected sha256 {digest}, got {found}; delete it, and {again}")
    return f"{len(named)} hash to what the card says, and there are no others"


def read_chain(evidence: Path, card: Mapping[str, Any], *, name: str = CARD) -> list[Link]:
    """Read the manifests of a release and of every one before it, newest first; nothing of them is believed yet."""
    release = card.get("release")
    if not isinstance(release, dict):
        raise UnprovenError(f"{name} is of a candidate that nobody released, so there is nothing to verify")
    if not evidence.is_dir():
        raise UnprovenError(f"{evidence} is missing, so nothing proves the release; pull it again")
    with naming(name):
        positions = range(cast(dict[str, Any], release)["position"], 0, -1)
        if not positions:
            raise UnprovenError(f"{name} names no position in the chain, of which 1 is the first")
    return [_read_link(evidence, position) for position in positions]


def check_signatures(chain: Sequence[Link], evidence: Path, root: str) -> str:
    """Hold each release's folder against its signature, and that against the root."""
    signers: dict[str, str] = {}
    for link in chain:
        with naming(signer_file(evidence, link.position)):
            signer = check_signer(json_of(signer_file(evidence, link.position)), root)
        bundle = json_of(bundle_file(evidence, link.position))
        with naming(f"{link.folder} and its signature {bundle_file(evidence, link.position)}"):
            verify_folder(link.folder, bundle, public=signer.public_key)
        signers[signer.public_key] = signer.name
    return f"{_counted(chain)} signed under the root {root[:12]} by {len(signers)} that it certified"


def check_chain(chain: Sequence[Link], card: Mapping[str, Any], *, name: str = CARD) -> str:
    """Follow the manifests from the card back to the base, each to the one before it by digest."""
    newest = chain[0]
    for what, found in (("candidate", newest.candidate), ("release", newest.record), ("manifest", newest.manifest)):
        if card.get(what) != found:
            raise UnprovenError(f"{newest.folder}: its {what} is not the one that {name} names")
    for link, before in zip(chain, [*chain[1:], None], strict=True):
        with naming(link.folder / RELEASE):
            _check_link(link, before)
    return f"from release {newest.position} back to the base {newest.manifest['base'][:12]}"


def check_approvals(chain: Sequence[Link], evidence: Path, root: str) -> str:
    """Hold the receipts of each release against it, its policy, and the certificates of those who gave them."""
    names: set[str] = set()
    for link in chain:
        with naming(link.folder / RELEASE):
            record = link.record
            given = [named_content(evidence / "receipts" / f"{digest}.json", digest) for digest in record["receipts"]]
            policy = evidence / "policies" / f"{record['policy']}.toml"
            approvals = check_receipts(
                [json.loads(content) for content in given],
                candidate=link.candidate,
                report=record["report"],
                policy=record["policy"],
                parent=record["parent"],
                opened=datetime.fromisoformat(record["opened"]),
                identities=_identities(record, evidence, root),
                quorum=quorum_of(named_content(policy, record["policy"])),
                excluded=frozenset(record["took_part"]),
                now=datetime.fromisoformat(record["approved"]),
            )
            names |= {receipt.reviewer for receipt in approvals.values()}
    return f"{_counted(chain)} approved by as many as its policy asks for: {', '.join(sorted(names))}"


def check_evidence(chain: Sequence[Link], evidence: Path) -> str:
    """Hold what the newest release's manifest names against it, and refuse what none names."""
    newest = chain[0]
    for what, name in NEWEST.items():
        named_content(evidence / name, newest.record[what])
        if newest.record["objects"][what]["sha256"] != newest.record[what]:
            raise UnprovenError(f"{newest.folder / RELEASE}: it names two different objects as its {what}")
    expected = {evidence / name for name in NEWEST.values()} | files_of_chain(chain, evidence)
    if extra := sorted(str(path) for path in {*files_of(evidence).values()} - expected):
        raise UnprovenError(f"{extra[0]} belongs to no release of the chain")
    return f"{', '.join(NEWEST)} are what the manifest names"


def check_form(folder: Path, own: Sequence[str]) -> str:
    """Refuse a folder that has other files than its form, beside card and evidence."""
    there = {name for name in files_of(folder) if name.partition("/")[0] not in (FOLDER, CARD)}
    if odd := sorted(there ^ {*own}):
        what = "is missing" if odd[0] in own else "belongs to no folder of this form"
        raise UnprovenError(f"{folder / odd[0]} {what}; pull the release again")
    return f"{' and '.join(own)}, and nothing else"


def check_base_files(release: Link, folder: Path) -> str:
    """Hold what a folder has of its base against the candidate's manifest, and refuse what is neither's."""
    with naming(release.folder / CANDIDATE):
        files = {file["name"]: file["sha256"] for file in release.manifest["base_files"]}
    wanted = {name: digest for name, digest in files.items() if not is_written(name)}
    there = {name: path for name, path in files_of(folder).items() if name.partition("/")[0] not in (FOLDER, CARD)}
    for name in sorted({*wanted, *there}):
        if name not in wanted and is_written(name):
            continue
        found = sha256_file(there[name]) if name in there else "no file"
        if found != wanted.get(name):
            raise UnprovenError(
                f"{folder / name}: its base has sha256 {wanted.get(name, '(no such file)')}, got {found}"
            )
    return f"{len(wanted)} are as the manifest names them"


def check_signer(certificate: Mapping[str, Any], root: str) -> Identity:
    """Return what the root certified to sign releases with.

    Raises:
        ForgedError, RoleError: it certified no such thing.
    """
    identity = identity_of(certificate, root)
    if identity.kind != "signer":
        raise RoleError(f"the certificate is of the {identity.kind} {identity.name!r}, who signs no releases")
    return identity


def files_of_chain(chain: Sequence[Link], evidence: Path) -> set[Path]:
    """What belongs to the releases of a chain: what is signed, the signatures, and what their manifests name."""
    found: set[Path] = set()
    for link in chain:
        found |= {link.folder / RELEASE, link.folder / CANDIDATE}
        found |= {bundle_file(evidence, link.position), signer_file(evidence, link.position)}
        found |= named_by(evidence, link.record).keys()
    return found


def _check_link(link: Link, before: Link | None) -> None:
    """Refuse a release that contradicts itself, or doesn't follow on the one before it."""
    file, record, manifest = link.folder / RELEASE, link.record, link.manifest
    wanted = {name: manifest[name] for name in (*OF_CANDIDATE, "parent")}
    wanted |= {"format": FORMAT, "position": link.position, "candidate": link.candidate}
    wanted |= {"parent_manifest": before.digest if before else None}
    for name, value in wanted.items():
        if record[name] != value:
            raise UnprovenError(f"{file}: its {name} is {_short(record[name])}, expected {_short(value)}")
    follows = before.candidate if before else manifest["base"]
    if record["parent"] != follows:
        raise UnprovenError(f"{file}: it follows on {_short(record['parent'])}, expected {_short(follows)}")


def _read_link(evidence: Path, position: int) -> Link:
    folder = signed_folder(evidence, position)
    return Link(
        position=position,
        folder=folder,
        record=json_of(folder / RELEASE),
        manifest=json_of(folder / CANDIDATE),
        digest=sha256_bytes(content_of(folder / RELEASE)),
        candidate=sha256_bytes(content_of(folder / CANDIDATE)),
    )


def _identities(record: Mapping[str, Any], evidence: Path, root: str) -> dict[str, Identity]:
    """Those whose certificates a release's manifest names, by their normalised names."""
    found: dict[str, Identity] = {}
    for digest in record["certificates"]:
        file = certificate_file(evidence, digest)
        with naming(file):
            identity = identity_of(json.loads(named_content(file, digest)), root)
            found[identity.key] = identity
    return found


def _short(value: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 64 else f"{text[:64]}…"


def _counted(chain: Sequence[Link]) -> str:
    return "1 release is" if len(chain) == 1 else f"{len(chain)} releases are each"
