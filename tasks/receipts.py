"""Receipts in the ledger: given by reviewers, and read again when a candidate is to be promoted.

What a receipt is held against comes from the candidate's manifest, which is named by its digest, and from the policy
that the manifest names. Nothing is taken from the run in which somebody decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from governance.events import Row
from governance.history import last_opening, receipts_since, who_took_part
from governance.identities import normalised
from governance.lifecycle import Event
from governance.receipts import (
    BOUND_TO,
    Decision,
    Method,
    Receipt,
    check_receipt,
    check_receipts,
    make,
    receipt_of,
)
from tasks.changes import check_candidate
from tasks.errors import UnknownKeyError
from tasks.ledger import Ledger
from tasks.own_keys import sign_as
from tasks.people import identities, known_as, service_key
from tasks.policy import policy_of
from tasks.settings import Settings
from tasks.store import Store


def give_receipt(
    candidate: str,
    *,
    reviewer: str,
    method: Method,
    decision: Decision,
    comment: str = "",
    struck: Sequence[str] = (),
    ledger: Ledger,
    settings: Settings,
) -> Event:
    """Sign a reviewer's decision about a candidate, as the review service or with the reviewer's own key.

    Whoever calls this for `totp` has checked the reviewer's one-time code.

    Returns:
        The event that records it, not yet appended.

    Raises:
        IdentityError: the reviewer is not enrolled, or the key that signs is not here.
        UntrustedError: it would not count, or what it approves could not be released; the error says why.
    """
    known = known_as(reviewer, "reviewer", ledger=ledger, settings=settings)
    store = Store(settings)
    manifest = store.manifest(candidate)
    now = datetime.now(UTC)
    receipt = Receipt(
        **bound_to(candidate, manifest),
        decision=decision,
        struck=tuple(struck),
        reviewer=known.name,
        method=method,
        at=now.isoformat(),
        expires=(now + timedelta(hours=settings.receipt_hours)).isoformat(),
        comment=comment,
    )
    envelope = make(receipt, service_key(settings) if method == "totp" else sign_as(known.name, settings))
    found = receipt_of(envelope, identities(ledger, settings))
    excluded = took_part(manifest, ledger)
    opened = opened_at(candidate, ledger)
    if decision == "approve":
        check_candidate(manifest, ledger=ledger, store=store, settings=settings, now=now)
    check_receipt(found, bound_to=bound_to(candidate, manifest), opened=opened, excluded=excluded, now=now)
    return receipt_event(candidate, known.name, decision=decision, comment=comment, envelope=envelope)


def receipt_event(
    candidate: str, reviewer: str, *, decision: Decision, comment: str, envelope: Mapping[str, Any]
) -> Event:
    """The event that records a receipt."""
    return Event(
        entity="receipt",
        key=f"{candidate}:{normalised(reviewer)}",
        kind=decision,
        actor=reviewer,
        reason=comment,
        data={"envelope": envelope},
    )


def opened_at(candidate: str, ledger: Ledger, *, before: int | None = None) -> datetime:
    """When a candidate was last opened, of all or before the event of a number.

    Raises:
        UnknownKeyError: it never was.
    """
    return _opening(candidate, ledger, before=before)["at"]


def receipts_for(candidate: str, ledger: Ledger, *, before: int | None = None) -> list[Mapping[str, Any]]:
    """Everything that was given as a receipt since a candidate was last opened, unverified, oldest first.

    What holds no statement is left out, and so is one that was given before the opening already.
    """
    opening = _opening(candidate, ledger, before=before)
    return receipts_since(opening, ledger.histories("receipt", f"{candidate}:"), before=before)


def approvals_of(
    candidate: str,
    ledger: Ledger,
    settings: Settings,
    *,
    now: datetime | None = None,
    before: int | None = None,
) -> dict[str, Receipt]:
    """The approvals of a candidate that count, by the digests of their envelopes, if they are enough.

    Args:
        candidate: its digest.
        ledger: holds the receipts, and who was enrolled.
        settings: name the root, and the object store.
        now: when they are to count; the present if not given.
        before: of the ledger's events, only those before this number.

    Raises:
        UntrustedError: they are not enough; the message says why each of them does not count. Or the candidate changes
            what it does not say, or what nobody signed for.
        AlteredError: the manifest, or the policy that it names, is not what was stored.
    """
    store, now = Store(settings), now or datetime.now(UTC)
    manifest = store.manifest(candidate)
    check_candidate(manifest, ledger=ledger, store=store, settings=settings, now=now, before=before)
    return check_receipts(
        receipts_for(candidate, ledger, before=before),
        **bound_to(candidate, manifest),
        **held_against(candidate, manifest, ledger, settings, before=before),
        quorum=policy_of(store.get(manifest["policy"])).quorum,
        now=now,
    )


def took_part(manifest: Mapping[str, Any], ledger: Ledger, *, before: int | None = None) -> frozenset[str]:
    """Normalised names of those who submitted, requested or withdrew what a candidate changes."""
    return who_took_part(manifest, lambda key: ledger.history("correction", key), before=before)


def held_against(
    candidate: str, manifest: Mapping[str, Any], ledger: Ledger, settings: Settings, *, before: int | None = None
) -> dict[str, Any]:
    """What the ledger knows that receipts about a candidate are held against."""
    return {
        "opened": opened_at(candidate, ledger, before=before),
        "identities": identities(ledger, settings, before=before),
        "excluded": took_part(manifest, ledger, before=before),
    }


def bound_to(candidate: str, manifest: Mapping[str, Any]) -> dict[str, str]:
    """The digests that a receipt about a candidate names."""
    return {"candidate": candidate} | {name: manifest[name] for name in BOUND_TO if name != "candidate"}


def _opening(candidate: str, ledger: Ledger, *, before: int | None) -> Row:
    opening = last_opening(ledger.history("candidate", candidate), before=before)
    if opening is None:
        raise UnknownKeyError(f"candidate {candidate[:12]} was never opened; see 'corrigenda review'")
    return opening
