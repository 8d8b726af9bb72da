"""Auditing: whether an exported folder is the whole history that it says it is, by the root's fingerprint alone.

Nothing is asked of a service. Each check returns in a few words what it found, or raises and names the file that is
wrong. They build on each other: the releases are signed under the root, and name the event that approved each of them;
the events name one another back to the first. So all that was recorded until the newest release is what its signer saw.
What was recorded since hangs on nothing that is signed.

What each release says of itself is held against the events in corroborating.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from editors.contents import content_of, json_of, named_content, naming
from editors.errors import UnprovenError
from editors.folders import files_of
from governance.corroborating import (
    check_acts,
    check_asked,
    check_decisions,
    check_facts,
    check_people,
    submitted_in,
)
from governance.envelopes import fingerprint
from governance.events import Chain, read_lines
from governance.evidence import (
    AUDIT,
    CANDIDATE,
    EVENTS,
    FOLDER,
    README,
    RELEASE,
    ROOT,
    act_file,
    certificate_file,
    corrections_file,
    report_file,
    submitted_file,
)
from governance.history import History
from governance.verifying import Link, Report, check_files, files_of_chain, verify_chain

AGAIN = "have it exported again"


def is_export(folder: Path) -> bool:
    """Whether a folder is an export, and no release that was pulled."""
    return (folder / AUDIT).is_file()


def verify_audit(folder: Path, *, root: str, report: Report = lambda line: None) -> dict[str, Any]:
    """Verify an exported folder; returns its card.

    Args:
        folder: as `corrigenda audit export` wrote it.
        root: the fingerprint of the root, had from somebody who can be believed.
        report: called with a line for each check that holds.

    Raises:
        UnprovenError: a check doesn't hold; the message names the file.
    """
    card, evidence = read_audit_card(folder), folder / FOLDER
    report(f"files: {check_files(folder, card, name=AUDIT, again=AGAIN)}")
    report(f"root: {check_root(folder, root)}")
    chain = verify_chain(evidence, card, root=root, name=AUDIT, report=report) if card.get("release") else []
    history = History(list(read_lines(folder / EVENTS)), root=root)
    report(f"ledger: {check_events(history, folder, card)}")
    report(f"releases: {check_releases(chain, history, folder)}")
    report(f"decisions: {check_decisions(chain, history, evidence)}")
    report(f"facts: {check_facts(chain, history, folder)}")
    report(f"asked: {check_asked(chain, history, evidence)}")
    report(f"people: {check_people(chain, history, evidence)}")
    report(f"acts: {check_acts(history)}")
    report(f"contents: {check_contents(chain, history, folder)}")
    return card


def read_audit_card(folder: Path) -> dict[str, Any]:
    """Read the card of an exported folder.

    Raises:
        UnprovenError: it has none.
    """
    card = json_of(folder / AUDIT)
    if not isinstance(card.get("files"), dict):
        raise UnprovenError(f"{folder / AUDIT} is no card of an export; {AGAIN}")
    return card


def check_root(folder: Path, root: str) -> str:
    """Hold the root's public key against its fingerprint."""
    with naming(folder / ROOT):
        found = fingerprint(content_of(folder / ROOT).decode("ascii").strip())
        if found != root:
            raise UnprovenError(f"{folder / ROOT}: it is the root {found[:12]}, expected {root[:12]}")
    return f"the fingerprint of {ROOT} is the one that was given"


def check_events(history: History, folder: Path, card: Mapping[str, Any]) -> str:
    """Follow the ledger's events from the first one to the end that the card names."""
    file, followed = folder / EVENTS, Chain()
    with naming(file):
        for row in history.rows:
            if flaw := followed.flaw_of_next(row):
                raise UnprovenError(f"{file}: {flaw}")
    head = followed.head
    if card.get("ledger") != {"sequence": head.sequence, "digest": head.digest}:
        raise UnprovenError(f"{file}: it ends at event {head.sequence}, {head.digest[:12]}, which {AUDIT} doesn't name")
    return f"{head.sequence:,} events, each naming the one before it; the last is {head.digest}"


def check_releases(chain: Sequence[Link], history: History, folder: Path) -> str:
    """Hold the releases against the events that approved them: each of these has its release, and no other has one."""
    file = folder / EVENTS
    approvals = {row["seq"]: row for row in history.of("candidate") if row["kind"] == "approved"}
    for link in chain:
        with naming(link.folder / RELEASE):
            sequence, digest = link.record["ledger"]["sequence"], link.record["ledger"]["digest"]
            if sequence > history.head.sequence:
                raise UnprovenError(
                    f"{file}: its tail is cut: {link.folder / RELEASE} names event {sequence}, and it ends at "
                    f"{history.head.sequence}"
                )
            row = approvals.pop(sequence, None)
            if row is None or (row["key"], row["digest"]) != (link.candidate, digest):
                raise UnprovenError(
                    f"{file}: event {sequence} is not the one that {link.folder / RELEASE} names, {digest[:12]}, by "
                    f"which {link.candidate[:12]} was approved"
                )
    for sequence, row in approvals.items():
        raise UnprovenError(f"{file}: event {sequence} approved {row['key'][:12]}, of which no release is here")
    if not chain:
        return "none was approved"
    behind = history.head.sequence - chain[0].record["ledger"]["sequence"]
    return f"the events approve these {len(chain)} and no others; {behind} events since hang on nothing that is signed"


def check_contents(chain: Sequence[Link], history: History, folder: Path) -> str:
    """Hold every other file against what names it, and refuse what nothing names."""
    evidence = folder / FOLDER
    named: dict[Path, str] = {}
    for link in chain:
        with naming(link.folder / CANDIDATE):
            submitted = submitted_in(link.manifest, history, before=link.record["ledger"]["sequence"])
            named |= {submitted_file(evidence, digest): digest for digest in submitted}
        named[report_file(evidence, link.record["report"])] = link.record["report"]
        named[corrections_file(evidence, link.record["corrections"])] = link.record["corrections"]
    named |= {certificate_file(evidence, digest): digest for digest in history.certificates()}
    named |= {act_file(evidence, digest): digest for digest in history.acts()}
    for file, digest in named.items():
        named_content(file, digest)
    expected = {folder / name for name in (AUDIT, EVENTS, ROOT, README)}
    expected |= named.keys() | files_of_chain(chain, evidence)
    there = {*files_of(folder).values()}
    if odd := sorted(there ^ expected):
        raise UnprovenError(f"{odd[0]} {'belongs to no release and no event' if odd[0] in there else 'is missing'}")
    return f"{len(there)} files, each named by a release or an event but {README}, which nothing proves"
