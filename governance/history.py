"""What the ledger's events say about a release: when it was opened, who took part, decided, and was enrolled then.

The platform asks when it promotes, of its database; an auditor asks again, of the events alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol

from editors.digests import digest_of
from editors.errors import UntrustedError
from governance.acts import read_act
from governance.envelopes import claimed, digest_of_envelope, fingerprint
from governance.errors import ForgedError
from governance.events import EMPTY, Head, Row, head_of, until
from governance.identities import Identity, identity_of, normalised
from governance.lifecycle import Entity

REVOKE_PERSON = "revoke person"
"""What an administrator signs who revokes somebody."""

Certified = Mapping[str, tuple[Identity, Mapping[str, Any]]]
"""Those who are enrolled by their normalised names, each with the certificate that proves it."""


class Past(Protocol):
    """What was recorded: the ledger, or an export of it."""

    def of(self, entity: Entity, key: str) -> Sequence[Row]:
        """The events of one thing, oldest first."""
        ...

    def identities(self, before: int | None = None) -> Mapping[str, Identity]:
        """Those who are enrolled by their normalised names, now or before the event of a number."""
        ...


class History:
    """The events of an export, and what follows from them under a root."""

    def __init__(self, rows: Sequence[Row], *, root: str) -> None:
        self.rows, self.root = rows, root
        self._by_thing: dict[tuple[str, str], list[Row]] = defaultdict(list)
        self._by_entity: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            self._by_thing[row["entity"], row["key"]].append(row)
            self._by_entity[row["entity"]].append(row)

    @property
    def head(self) -> Head:
        """Where it ends."""
        return head_of(self.rows[-1]) if self.rows else EMPTY

    def of(self, entity: Entity, key: str | None = None) -> list[Row]:
        """The events of one thing, or of all things of a kind, oldest first."""
        return self._by_entity.get(entity, []) if key is None else self._by_thing.get((entity, key), [])

    def certified(self, before: int | None = None) -> Certified:
        """Those who were enrolled at the end or before the event of a number, each with their certificate."""
        steps = self._steps
        count = len(steps) if before is None else bisect_left(steps, before, key=lambda step: step[0])
        return steps[count - 1][1] if count else {}

    def identities(self, before: int | None = None) -> dict[str, Identity]:
        """The same without the certificates."""
        return identities_in(self.certified(before))

    def without_effect(self) -> list[int]:
        """The numbers of events that enrol or revoke somebody, and change nothing."""
        nobody: Certified = {}
        steps = [(0, nobody), *self._steps]
        return [seq for (_, before), (seq, after) in pairwise(steps) if before == after]

    def certified_after(self, event: int) -> set[str]:
        """The digests of the certificates with which somebody was enrolled after the event of a number."""
        return {digest for seq, digest, _ in self._certificates if seq > event}

    def certificates(self) -> dict[str, Mapping[str, Any]]:
        """All certificates of the root with which somebody was ever enrolled, by digest."""
        return {digest: certificate for _, digest, certificate in self._certificates}

    def acts(self) -> dict[str, Mapping[str, Any]]:
        """All acts that were used, by the digest of their envelopes."""
        used = [event["data"] for event in self.of("act") if event["kind"] == "used"]
        return {digest_of(data["envelope"]): data["envelope"] for data in used if "envelope" in data}

    @cached_property
    def _steps(self) -> list[tuple[int, Certified]]:
        """Who is enrolled after each event that enrols or revokes."""
        return list(enrolments(self.root, self.of("identity"), lambda key: self.of("act", key)))

    @cached_property
    def _certificates(self) -> list[tuple[int, str, Mapping[str, Any]]]:
        """The root's certificates, each with the number of the event that enrols by it and with its digest."""
        enrolling = [event for event in self.of("identity") if certified_in(event, self.root)]
        found = [(event["seq"], event["data"]["certificate"]) for event in enrolling]
        return [(seq, digest_of_envelope(certificate), certificate) for seq, certificate in found]


def last_opening(history: Iterable[Row], *, before: int | None = None) -> Row | None:
    """The event that last opened a candidate, of all or before a number, by its history; None where none did."""
    found = None
    for event in until(history, before):
        found = event if event["kind"] == "opened" else found
    return found


def receipts_since(opening: Row, given: Iterable[Row], *, before: int | None = None) -> list[Mapping[str, Any]]:
    """Everything that was given as a receipt for a candidate since it was opened, unverified, oldest first.

    What holds no statement is left out, and so is one that was given before the opening already.

    Args:
        opening: the event that last opened the candidate.
        given: the events of all receipts about it, oldest first.
        before: only what was given before the event of this number.
    """
    found: list[Mapping[str, Any]] = []
    earlier: set[str] = set()
    for event in until(given, before):
        try:
            envelope = event["data"]["envelope"]
            statement = digest_of(claimed(envelope))
        except (ForgedError, KeyError, TypeError, ValueError):
            continue
        if event["seq"] < opening["seq"]:
            earlier.add(statement)
        elif statement not in earlier:
            found.append(envelope)
    return found


def who_took_part(
    manifest: Mapping[str, Any], history_of: Callable[[str], Iterable[Row]], *, before: int | None = None
) -> frozenset[str]:
    """Normalised names of those who submitted, requested or withdrew what a candidate changes.

    Args:
        manifest: of the candidate.
        history_of: the events of a correction, by its id.
        before: only what came before the event of this number.
    """
    leaving = manifest["leaving"]
    keys = [*manifest["new"], *manifest["returning"], *(each["id"] for each in leaving)]
    names = [manifest.get("asked_by", ""), *(each["asked_by"] for each in leaving)]
    for key in keys:
        names += _behind(until(history_of(key), before))
    return frozenset(normalised(name) for name in names if name)


def certified_by(
    root: str, events: Iterable[Row], uses_of: Callable[[str], Iterable[Row]], *, before: int | None = None
) -> Certified:
    """Those who are enrolled, now or before the event of a number; see `enrolments`."""
    found: Certified = {}
    for seq, step in enrolments(root, events, uses_of):
        if before is not None and seq >= before:
            break
        found = step
    return found


def enrolments(
    root: str, events: Iterable[Row], uses_of: Callable[[str], Iterable[Row]]
) -> Iterator[tuple[int, Certified]]:
    """Those who are enrolled after each event of an identity, by the event's number: only whom the root vouches for.

    What enrols somebody by no certificate of the root, or by another one's, changes nothing. Nor does what revokes
    somebody without the act of an administrator about just their key, used since they were enrolled.

    Args:
        root: its fingerprint.
        events: of all identities, oldest first.
        uses_of: the events of an act, by its digest.
    """
    found: Certified = {}
    since: dict[str, int] = {}
    ended: dict[str, datetime] = {}
    entered: set[str] = set()
    for event in events:
        key = event["key"]
        if event["kind"] == "revoked":
            if key in found and is_asked_for(event, found, uses_of, since=since[key]):
                ended[key] = event["at"]
                found = {name: each for name, each in found.items() if name != key}
        elif (identity := certified_in(event, root)) and identity.key == key:
            certificate = event["data"]["certificate"]
            if not is_spent(certificate, identity, ended=ended.get(key), entered=entered):
                found = {**found, key: (identity, certificate)}
                since[key] = event["seq"]
                entered.add(digest_of(claimed(certificate)))
        yield event["seq"], found


def is_asked_for(event: Row, enrolled: Certified, uses_of: Callable[[str], Iterable[Row]], *, since: int) -> bool:
    """Whether an administrator signed for what revokes somebody, and that act was used since an event's number.

    Its age is not asked, so that no clock that is wrong keeps anybody in.
    """
    identities = identities_in(enrolled)
    about = {event["key"]: fingerprint(identities[event["key"]].public_key)}
    for use in uses_of(str(event["data"].get("act"))):
        try:
            act = read_act(use["data"]["envelope"], role="administrator", identities=identities)
        except (UntrustedError, KeyError, TypeError, ValueError):
            continue
        asked = (act.digest, act.asked.verb, act.asked.about) == (use["key"], REVOKE_PERSON, about)
        if asked and since < use["seq"] < event["seq"]:
            return True
    return False


def identities_in(certified: Certified) -> dict[str, Identity]:
    """The certified without their certificates."""
    return {key: identity for key, (identity, _) in certified.items()}


def certified_in(event: Row, root: str) -> Identity | None:
    """Whom the root certified by the certificate that an event enrols somebody with; None where it certified nobody."""
    if event["kind"] != "enrolled":
        return None
    try:
        return identity_of(event["data"]["certificate"], root)
    except (UntrustedError, KeyError, TypeError, AttributeError):
        return None


def is_spent(
    certificate: Mapping[str, Any], identity: Identity, *, ended: datetime | None, entered: Collection[str]
) -> bool:
    """Whether a certificate enrolled its owner before, or is from before they were last revoked."""
    old = ended is not None and datetime.fromisoformat(identity.at) <= ended
    return old or digest_of(claimed(certificate)) in entered


def _behind(history: Iterable[Row]) -> list[str]:
    """Who submitted a correction or changed how it is edited, and on whose behalf."""
    told = [event for event in history if "correction" in event["data"]]
    return [name for event in told for name in (event["actor"], event["data"]["correction"].get("requester") or "")]
