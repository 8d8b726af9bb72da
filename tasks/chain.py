"""The ledger's hash chain: each event carries the digest of the one before it and of itself.

What was altered, taken out, put in or moved breaks a link, and the first broken one is named. A tail that was cut
breaks none; if a release went with it, that shows beside the object store, whose records name the event that approved
each release.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from governance.events import Chain, Head, Row, digest_of_row
from governance.lifecycle import Event
from tasks.errors import BrokenChainError


def links(new: Sequence[Event], *, head: Head, at: datetime) -> list[dict[str, Any]]:
    """Return the rows that chain events on behind a head."""
    rows: list[dict[str, Any]] = []
    previous = head.digest
    for seq, event in enumerate(new, start=head.sequence + 1):
        row: dict[str, Any] = {
            "seq": seq,
            "at": at,
            "entity": event.entity,
            "key": event.key,
            "kind": event.kind,
            "actor": event.actor,
            "reason": event.reason,
            "data": dict(event.data),
            "previous": previous,
        }
        previous = digest_of_row(row)
        rows.append(row | {"digest": previous})
    return rows


def verify(rows: Iterable[Row], *, released: Iterable[Row], records: Iterable[Mapping[str, Any]] = ()) -> Head:
    """Return where a ledger's chain ends, if it is whole.

    Args:
        rows: all events, oldest first.
        released: the rows of the chain of releases, oldest first.
        records: releases as the object store holds them.

    Raises:
        BrokenChainError: it is not; the first broken link is named.
    """
    chain = Chain()
    approvals: dict[int, Row] = {}
    parents: dict[str, str] = {}
    for row in rows:
        if flaw := chain.flaw_of_next(row):
            raise BrokenChainError(flaw)
        if row["entity"] == "candidate" and row["kind"] == "approved":
            approvals[row["seq"]] = row
        if row["entity"] == "candidate" and row["kind"] == "opened":
            parents[row["key"]] = row["data"].get("parent", "")
    releases = _check_releases(released, approvals, parents)
    for record in records:
        _check_record(record, releases, approvals, chain.head)
    return chain.head


def _check_releases(
    released: Iterable[Row], approvals: Mapping[int, Row], parents: Mapping[str, str]
) -> Mapping[int, Row]:
    """Return the releases by position, if the events tell of each of them and of no other."""
    releases: dict[int, Row] = {}
    for position, row in enumerate(released, start=1):
        what = f"release {row['position']} ({row['candidate'][:12]})"
        before = releases.get(position - 1)
        if row["position"] != position:
            raise BrokenChainError(f"release {position} is missing: in its place stands {what}")
        if approvals.get(row["event"], {}).get("key") != row["candidate"]:
            raise BrokenChainError(f"{what} was never approved: event {row['event']} is no approval of it")
        if row["parent"] != parents[row["candidate"]] or (before and row["parent"] != before["candidate"]):
            raise BrokenChainError(f"{what} does not follow on the release before it, but on {row['parent'][:12]}")
        releases[position] = row
    for sequence in sorted(set(approvals) - {row["event"] for row in releases.values()}):
        key = approvals[sequence]["key"]
        raise BrokenChainError(f"the release of candidate {key[:12]} is missing: event {sequence} approved it")
    return releases


def _check_record(
    record: Mapping[str, Any], releases: Mapping[int, Row], approvals: Mapping[int, Row], head: Head
) -> None:
    try:
        position, candidate, parent = record["position"], record["candidate"], record["parent"]
        sequence, digest = record["ledger"]["sequence"], record["ledger"]["digest"]
    except (KeyError, TypeError) as error:
        raise BrokenChainError(f"a release in the object store is no record of one: {error!r} in {record}") from error
    what = f"release {position} ({candidate[:12]}) in the object store"
    if sequence > head.sequence:
        raise BrokenChainError(
            f"the ledger's tail is cut: {what} names event {sequence}, and the ledger ends at {head.sequence}"
        )
    own = releases.get(position, {})
    named = [own.get(name) for name in ("candidate", "parent", "event")]
    if named != [candidate, parent, sequence] or approvals[sequence]["digest"] != digest:
        raise BrokenChainError(f"{what}, approved by event {sequence}, is not what the ledger has in its place")
