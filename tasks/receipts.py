"""Receipts in the ledger: given by reviewers, and read again when a candidate is to be promoted.

What a receipt is held against comes from the candidate's manifest, which is named by its digest, and from the policy
that the manifest names. Nothing is taken from the run in which somebody decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from editors.digests import digest_of
from editors.history import last_opening, receipts_since, who_took_part
from editors.identities import normalised
from editors.receipts import (
    BOUND_TO,
    Decision,
    Method,
    Receipt,
    check_receipt,
    check_receipts,
    make,
    receipt_of,
)
from tasks.changes import check_facts, check_opened, check_withdrawal, facts_before, facts_in
from tasks.errors import UnknownKeyError
from tasks.ledger import Ledger
from tasks.lifecycle import Event
from tasks.own_keys import sign_as
from tasks.people import identities, known_as, service_key
from tasks.policy import policy_of
from tasks.settings import Settings
from tasks.store import Store
from tasks.submit import check_submissions


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
        check_changes(manifest, ledger=ledger, store=store, settings=settings, at=now)
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


def opened_at(candidate: str, ledger: Ledger, *, at: datetime | None = None) -> datetime:
    """When a candidate was last opened, now or at a time.

    Raises:
        UnknownKeyError: it never was.
    """
    opened = last_opening(ledger.history("candidate", candidate), at=at)
    if opened is None:
        raise UnknownKeyError(f"candidate {candidate[:12]} was never opened; see 'corrigenda review'")
    return opened


def receipts_for(candidate: str, ledger: Ledger, *, at: datetime | None = None) -> list[Mapping[str, Any]]:
    """Everything that was given as a receipt since a candidate was last opened, unverified, oldest first.

    What holds no statement is left out, and so is one that was given before the opening already.
    """
    opened = opened_at(candidate, ledger, at=at)
    return receipts_since(opened, ledger.histories("receipt", f"{candidate}:"), at=at)


def approvals_of(
    candidate: str, ledger: Ledger, settings: Settings, *, at: datetime | None = None
) -> dict[str, Receipt]:
    """The approvals of a candidate that count, by the digests of their envelopes, if they are enough.

    Args:
        candidate: its digest.
        ledger: holds the receipts, and who was enrolled.
        settings: name the root, and the object store.
        at: when they are to count; now if not given.

    Raises:
        UntrustedError: they are not enough; the message says why each of them does not count. Or the candidate changes
            what it does not say, or what nobody signed for.
        AlteredError: the manifest, or the policy that it names, is not what was stored.
    """
    store = Store(settings)
    manifest = store.manifest(candidate)
    check_changes(manifest, ledger=ledger, store=store, settings=settings, at=at or datetime.now(UTC))
    return check_receipts(
        receipts_for(candidate, ledger, at=at),
        **bound_to(candidate, manifest),
        **held_against(candidate, manifest, ledger, settings, at=at),
        quorum=policy_of(store.get(manifest["policy"])).quorum,
    )


def check_changes(
    manifest: Mapping[str, Any], *, ledger: Ledger, store: Store, settings: Settings, at: datetime
) -> None:
    """Refuse a candidate that changes what it does not say, or what nobody signed for.

    Raises:
        UntrustedError: the fact is named.
    """
    check_opened(manifest, ledger.standing("candidate", digest_of(manifest)).content)
    held = {"before": facts_before(manifest, store), "after": facts_in(manifest, store)}
    check_facts(manifest, **held)
    check_withdrawal(manifest, **held, ledger=ledger, store=store, settings=settings, now=at)
    brought = [held["after"][key] for key in [*manifest["new"], *manifest["returning"]]]
    check_submissions(brought, ledger=ledger, store=store, settings=settings)


def took_part(manifest: Mapping[str, Any], ledger: Ledger, *, at: datetime | None = None) -> frozenset[str]:
    """Normalised names of those who submitted, requested or withdrew what a candidate changes."""
    return who_took_part(manifest, lambda key: ledger.history("correction", key), at=at)


def held_against(
    candidate: str, manifest: Mapping[str, Any], ledger: Ledger, settings: Settings, *, at: datetime | None = None
) -> dict[str, Any]:
    """What the ledger knows that receipts about a candidate are held against, now or at a time."""
    return {
        "opened": opened_at(candidate, ledger, at=at),
        "identities": identities(ledger, settings, as_of=at),
        "excluded": took_part(manifest, ledger, at=at),
        "now": at or datetime.now(UTC),
    }


def bound_to(candidate: str, manifest: Mapping[str, Any]) -> dict[str, str]:
    """The digests that a receipt about a candidate names."""
    return {"candidate": candidate} | {name: manifest[name] for name in BOUND_TO if name != "candidate"}
