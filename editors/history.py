"""What the ledger's events say about a release: when it was opened, who took part, decided, and was enrolled then.

The platform asks when it promotes, of its database; an auditor asks again, of the events alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from editors.digests import digest_of
from editors.envelopes import claimed, digest_of_envelope
from editors.errors import ForgedError, UntrustedError
from editors.events import EMPTY, Head, Row, head_of
from editors.identities import Identity, identity_of, normalised

Certified = dict[str, tuple[Identity, Mapping[str, Any]]]
"""Those who are enrolled by their normalised names, each with the certificate that proves it."""


class History:
    """The events of an export, and what follows from them under a root."""

    def __init__(self, rows: Sequence[Row], *, root: str) -> None:
        self.rows, self.root = rows, root
        self._by_thing: dict[tuple[str, str], list[Row]] = defaultdict(list)
        self._by_entity: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            self._by_thing[row["entity"], row["key"]].append(row)
            self._by_entity[row["entity"]].append(row)
        self._certified: dict[int, Certified] = {}

    @property
    def head(self) -> Head:
        """Where it ends."""
        return head_of(self.rows[-1]) if self.rows else EMPTY

    def of(self, entity: str, key: str | None = None) -> list[Row]:
        """The events of one thing, or of all things of a kind, oldest first."""
        return self._by_entity.get(entity, []) if key is None else self._by_thing.get((entity, key), [])

    def certified(self, before: Row) -> Certified:
        """Those who were enrolled before an event, each with their certificate."""
        events = self.of("identity")
        count = bisect_left([event["seq"] for event in events], before["seq"])
        if count not in self._certified:
            self._certified[count] = certified_by(self.root, events[:count])
        return self._certified[count]

    def certified_after(self, event: Row) -> set[str]:
        """The digests of the certificates with which somebody was enrolled after an event."""
        later = [each for each in self.of("identity") if each["seq"] > event["seq"] and certified_in(each, self.root)]
        return {digest_of_envelope(each["data"]["certificate"]) for each in later}

    def certificates(self) -> dict[str, Mapping[str, Any]]:
        """All certificates of the root with which somebody was ever enrolled, by digest."""
        found = [event["data"]["certificate"] for event in self.of("identity") if certified_in(event, self.root)]
        return {digest_of(each): each for each in found}

    def acts(self) -> dict[str, Mapping[str, Any]]:
        """All acts that were used, by the digest of their envelopes."""
        used = [event["data"] for event in self.of("act") if event["kind"] == "used"]
        return {digest_of(data["envelope"]): data["envelope"] for data in used if "envelope" in data}


def last_opening(history: Iterable[Row], *, at: datetime | None = None) -> datetime | None:
    """When a candidate was last opened, now or at a time, by its history; None where it never was."""
    return max((e["at"] for e in history if e["kind"] == "opened" and (at is None or e["at"] <= at)), default=None)


def receipts_since(opened: datetime, given: Iterable[Row], *, at: datetime | None = None) -> list[Mapping[str, Any]]:
    """Everything that was given as a receipt for a candidate since it was opened, unverified, oldest first.

    What holds no statement is left out, and so is one that was given before the opening already.

    Args:
        opened: when the candidate was last opened.
        given: the events of all receipts about it, oldest first.
        at: only what was given by then.
    """
    found: list[Mapping[str, Any]] = []
    before: set[str] = set()
    for event in given:
        if at is not None and event["at"] > at:
            continue
        try:
            envelope = event["data"]["envelope"]
            statement = digest_of(claimed(envelope))
        except (ForgedError, KeyError, TypeError, ValueError):
            continue
        if event["at"] < opened:
            before.add(statement)
        elif statement not in before:
            found.append(envelope)
    return found


def who_took_part(
    manifest: Mapping[str, Any], history_of: Callable[[str], Iterable[Row]], *, at: datetime | None = None
) -> frozenset[str]:
    """Normalised names of those who submitted, requested or withdrew what a candidate changes.

    Args:
        manifest: of the candidate.
        history_of: the events of a correction, by its id.
        at: only by then.
    """
    leaving = manifest["leaving"]
    keys = [*manifest["new"], *manifest["returning"], *(each["id"] for each in leaving)]
    names = [manifest.get("asked_by", ""), *(each["asked_by"] for each in leaving)]
    for key in keys:
        names += _behind(event for event in history_of(key) if at is None or event["at"] <= at)
    return frozenset(normalised(name) for name in names if name)


def certified_by(root: str, events: Iterable[Row], *, at: datetime | None = None) -> Certified:
    """Those who are enrolled, now or at a time: only whom the root vouches for.

    What enrols somebody by no certificate of the root, or by another one's, changes nothing.

    Args:
        root: its fingerprint.
        events: of all identities, oldest first.
        at: the time.
    """
    found: Certified = {}
    ended: dict[str, datetime] = {}
    for event in events:
        if at is not None and event["at"] > at:
            continue
        key = event["key"]
        if event["kind"] == "revoked":
            ended[key] = event["at"]
            found.pop(key, None)
        elif (identity := certified_in(event, root)) and identity.key == key and not is_old(identity, ended.get(key)):
            found[key] = identity, event["data"]["certificate"]
    return found


def certified_in(event: Row, root: str) -> Identity | None:
    """Whom the root certified by the certificate that an event enrols somebody with; None where it certified nobody."""
    if event["kind"] != "enrolled":
        return None
    try:
        return identity_of(event["data"]["certificate"], root)
    except (UntrustedError, KeyError):
        return None


def is_old(identity: Identity, ended: datetime | None) -> bool:
    """Whether a certificate is from before its owner was last revoked."""
    return ended is not None and datetime.fromisoformat(identity.at) <= ended


def _behind(history: Iterable[Row]) -> list[str]:
    """Who submitted a correction or changed how it is edited, and on whose behalf."""
    told = [event for event in history if "correction" in event["data"]]
    return [name for event in told for name in (event["actor"], event["data"]["correction"].get("requester") or "")]
