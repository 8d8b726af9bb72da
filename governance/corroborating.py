"""Corroborating: whether the ledger's events say of each release what its signed manifest says.

Whoever holds the key that signs releases could leave out of a manifest who objected or took part, and a database could
hold other facts as released. So it is asked again here, of the events: who was enrolled, who took part, who decided and
how, and which facts were released.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from editors.contents import content_of, named_content, naming
from editors.digests import digest_of
from editors.errors import UnprovenError, UntrustedError
from governance.changes import (
    Facts,
    check_changes,
    check_editing,
    check_entered_once,
    check_withdrawal,
    submissions_of,
    submitting,
)
from governance.envelopes import claimed, digest_of_envelope, verify
from governance.errors import ForgedError
from governance.events import Row
from governance.evidence import CANDIDATE, EVENTS, FOLDER, RELEASE, certificate_file, corrections_file, signer_file
from governance.history import History, last_opening, receipts_since, who_took_part
from governance.identities import normalised
from governance.receipts import BOUND_TO, check_receipts, quorum_of
from governance.verifying import Link

UNSIGNED = ("editing",)
"""What of a fact is not compared with the event that submitted it: how it is edited."""


def check_decisions(chain: Sequence[Link], history: History, evidence: Path) -> str:
    """Hold what each release's manifest says of its approval against the events: who decided, and who took part."""
    for link in chain:
        file = link.folder / RELEASE
        with naming(file):
            told = _told_of(link, history, evidence)
            for name, value in told.items():
                if link.record[name] != value:
                    raise UnprovenError(
                        f"{file}: its {name} is {json.dumps(link.record[name])}, the ledger's {json.dumps(value)}"
                    )
    return "who decided, who took part and when is what the events say, and nobody who objected in them was left out"


def check_facts(chain: Sequence[Link], history: History, folder: Path) -> str:
    """Hold the facts of each release against those that stood as released when it was approved, and left with it."""
    evidence, links = folder / FOLDER, {link.candidate: link for link in chain}
    count = 0
    with naming(folder / EVENTS):
        for link in chain:
            _check_left(link, history, folder / EVENTS)
        for candidate, told in _released_after(history):
            count = len(told)
            if candidate in links:
                _check_facts_of(links.pop(candidate), told, evidence)
    return f"each release holds what the events released, the newest {count}"


def check_asked(chain: Sequence[Link], history: History, evidence: Path) -> str:
    """Hold what each release brings, takes out and brings back against what people signed who asked for it.

    That a signed file says of a fact what was released was asked when it was promoted; it lies in the export.
    """
    links, acts = {link.candidate: link for link in chain}, history.acts()

    def used_act(sha256: str) -> Mapping[str, Any]:
        if sha256 not in acts:
            raise ForgedError(f"what was signed for it, {sha256[:12]}, is no act that was used")
        return acts[sha256]

    @lru_cache(maxsize=4)
    def facts_of(candidate: str) -> Facts | None:
        return _facts_in(links[candidate], evidence) if candidate in links else None

    for link in chain:
        approval, manifest = _approval_of(link, history), link.manifest
        with naming(link.folder / CANDIDATE):
            facts = {"before": facts_of(manifest["parent"]) or {}, "after": facts_of(link.candidate) or {}}
            check_changes(manifest, **facts)
            check_withdrawal(manifest, **facts, past=history, facts_of=facts_of, now=approval["at"])
            brought = [*manifest["new"], *manifest["returning"]]
            before = approval["seq"]
            for submission in submissions_of(brought, past=history, envelope_of=used_act, before=before):
                check_entered_once(submission, history)
            for key in brought:
                check_editing(key, facts["after"][key], past=history, before=before)
    return "for all that these releases bring, take out and bring back there is the signature of who asked for it"


def submitted_in(manifest: Mapping[str, Any], history: History, *, before: int) -> set[str]:
    """The sha256 of each file from which a release brought facts, or brought them back.

    Args:
        manifest: of its candidate.
        history: the events.
        before: the number of the one that approved it.
    """
    brought = [*manifest["new"], *manifest["returning"]]
    events = [submitting(key, past=history, before=before) for key in brought]
    return {event["data"]["sha256"] for event in events if event and isinstance(event["data"].get("sha256"), str)}


def check_people(chain: Sequence[Link], history: History, evidence: Path) -> str:
    """Hold the certificates of those who let a release through, and of what signed it, against who was enrolled."""
    known = history.certificates()
    if not known:
        raise UnprovenError(f"{evidence.parent / EVENTS}: the root certified nobody in it, so it proves nothing")
    for link in chain:
        approval = _approval_of(link, history)
        certified = history.certified(approval["seq"])
        then = {digest_of_envelope(certificate) for _, certificate in certified.values()}
        if wrong := [digest for digest in link.record["certificates"] if digest not in then]:
            raise UnprovenError(
                f"{certificate_file(evidence, wrong[0])}: nobody was enrolled with it when release {link.position} "
                "was approved, or they had been revoked"
            )
        signer = signer_file(evidence, link.position)
        with naming(signer):
            if digest_of_envelope(json.loads(content_of(signer))) not in then | history.certified_after(
                approval["seq"]
            ):
                raise UnprovenError(
                    f"{signer}: nobody was enrolled with it when release {link.position} was approved, nor since"
                )
    idle = _but(history.without_effect(), "enrol or revoke by nobody who may, and count for nothing")
    return f"{len(known)} certificates are the root's{idle}"


def check_acts(history: History) -> str:
    """Verify what people signed who asked for something, each by the certificate that they had then."""
    used = [event for event in history.of("act") if event["kind"] == "used"]
    unproven = [event["seq"] for event in used if not _is_signed(event, history)]
    return f"{len(used) - len(unproven)} are signed by whom they name{_but(unproven, 'hold none that is')}"


def _told_of(link: Link, history: History, evidence: Path) -> dict[str, Any]:
    """What the events say of how a release was approved, by the names that its manifest has for it.

    Raises:
        UntrustedError: by the events it could not be: too few approve who may, or somebody objected.
    """
    approval, record = _approval_of(link, history), link.record
    at, before = approval["at"], approval["seq"]
    opening = last_opening(history.of("candidate", link.candidate), before=before)
    if opening is None:
        raise UnprovenError(f"{link.folder / RELEASE}: the ledger never opened {link.candidate[:12]}")
    excluded = who_took_part(link.manifest, lambda key: history.of("correction", key), before=before)
    given = [event for event in history.of("receipt") if event["key"].startswith(f"{link.candidate}:")]
    policy = named_content(evidence / "policies" / f"{record['policy']}.toml", record["policy"])
    counted = check_receipts(
        receipts_since(opening, given, before=before),
        **{name: record[name] for name in BOUND_TO},
        opened=opening["at"],
        identities=history.identities(before),
        quorum=quorum_of(policy),
        excluded=excluded,
        now=at,
    )
    return {
        "opened": opening["at"].astimezone(UTC).isoformat(),
        "took_part": sorted(excluded),
        "reviewer": approval["actor"],
        "comment": approval["reason"],
        "receipts": [digest for digest in approval["data"]["receipts"] if digest in counted],
        "approved": at.astimezone(UTC).isoformat(),
    }


def _check_left(link: Link, history: History, file: Path) -> None:
    """Hold what a release's manifest says of the facts that leave against the events that came with its approval."""
    approval = _approval_of(link, history)
    for each in link.manifest["leaving"]:
        came = [row for row in history.of("correction", each["id"]) if row["seq"] > approval["seq"]]
        told = {**came[0]["data"], "becomes": came[0]["kind"], "reason": came[0]["reason"]} if came else {}
        if odd := [name for name, value in each.items() if told.get(name) != value]:
            raise UnprovenError(
                f"{file}: it says {told.get(odd[0], 'nothing')!r} of what became of {each['id']!r} with release "
                f"{link.position} ({odd[0]}), and {link.folder / CANDIDATE} {each[odd[0]]!r}"
            )


def _facts_in(link: Link, evidence: Path) -> Facts:
    """The facts of a release, as they lie in the export."""
    file = corrections_file(evidence, link.record["corrections"])
    content = named_content(file, link.record["corrections"])
    with naming(file):
        return {fact["id"]: fact for fact in map(json.loads, content.splitlines())}


def _check_facts_of(link: Link, told: Mapping[str, Any], evidence: Path) -> None:
    file = corrections_file(evidence, link.record["corrections"])
    facts = _facts_in(link, evidence)
    with naming(file):
        there = {key: _says(fact) for key, fact in facts.items()}
        for key in sorted(there.keys() | told.keys()):
            if there.get(key) != told.get(key):
                raise UnprovenError(
                    f"{file}: release {link.position} says {there.get(key, 'nothing')} of {key!r}, the ledger "
                    f"{told.get(key, 'nothing')}"
                )


def _approval_of(link: Link, history: History) -> Row:
    for row in history.of("candidate", link.candidate):
        if row["kind"] == "approved":
            return row
    raise UnprovenError(f"{link.folder / RELEASE}: the ledger never approved {link.candidate[:12]}")


def _released_after(history: History) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each candidate that was approved, with what stood as released then: what it says, by id.

    What becomes released or is no longer comes with the approval, and bears its time.
    """
    said: dict[str, Any] = {}
    released: set[str] = set()
    approved: Row | None = None
    for row in history.rows:
        approves = (row["entity"], row["kind"]) == ("candidate", "approved")
        if approved and (approves or row["at"] != approved["at"]):
            yield approved["key"], {key: said.get(key) for key in released}
            approved = None
        approved = row if approves else approved
        if row["entity"] == "correction":
            if "correction" in row["data"]:
                said[row["key"]] = _says(row["data"]["correction"])
            (released.add if row["kind"] == "released" else released.discard)(row["key"])
    if approved:
        yield approved["key"], {key: said.get(key) for key in released}


def _says(fact: object) -> dict[str, Any] | None:
    """What a fact says; None of what is none, which no release can hold."""
    if not isinstance(fact, dict):
        return None
    return {name: value for name, value in cast(dict[str, Any], fact).items() if name not in UNSIGNED}


def _is_signed(event: Row, history: History) -> bool:
    """Whether an act is signed by whom it names, who was enrolled when it was used, and is the one of its event."""
    try:
        envelope = event["data"]["envelope"]
        statement = claimed(envelope)
        identity = history.identities(event["seq"])[normalised(str(statement["predicate"]["by"]))]
        verify(envelope, identity.public_key)
        return digest_of(statement) == event["key"]
    except (UntrustedError, KeyError, TypeError, ValueError):
        return False


def _but(events: Sequence[int], what: str) -> str:
    """What is told of events that prove nothing, and harm nothing."""
    return f", but events {', '.join(map(str, events))} {what}" if events else ""
