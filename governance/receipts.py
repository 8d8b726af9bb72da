"""Receipts: a reviewer's signed decision about one candidate, and whether it counts.

A receipt names the digests of the candidate, its report, the policy and the parent that it was held against, so it is
worth nothing beside another one. It is signed by the reviewer's own key, or by the review service, which has checked a
one-time code. Whether a candidate may be promoted follows from its receipts alone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from editors.errors import UntrustedError
from governance.envelopes import claimed, digest_of_envelope, sign, statement, subject_of, verify
from governance.errors import (
    ElsewhereError,
    ExpiredReceiptError,
    ForgedError,
    FourEyesError,
    ObjectionError,
    QuorumError,
    RoleError,
)
from governance.identities import Identity, normalised

RECEIPT = "urn:corrigenda:receipt:v1"
REVIEW_SERVICE = "promoter"
"""The service that signs decisions made with a one-time code."""
BOUND_TO = ("candidate", "report", "policy", "parent")

SKEW = timedelta(minutes=5)
"""By how much the clocks of two machines may differ."""
YEARS = range(2000, 9000)
"""In which a receipt can be given, so that every time near it is one too."""

Decision = Literal["approve", "strike", "reject"]
Method = Literal["totp", "key"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A reviewer's decision.

    Attributes:
        candidate: its digest; `report`, `policy` and `parent`: the digests that it names.
        decision: approve; strike some facts, so that the rest is solved again; or reject.
        struck: ids of the facts struck.
        reviewer: who decided.
        method: `totp`, a one-time code, signed by the review service; or `key`, the reviewer's own.
        at, expires: ISO times in UTC.
        comment: in the reviewer's words.
    """

    candidate: str
    report: str
    policy: str
    parent: str
    decision: Decision
    struck: tuple[str, ...] = ()
    reviewer: str
    method: Method
    at: str
    expires: str
    comment: str = ""


def make(receipt: Receipt, key: Ed25519PrivateKey) -> dict[str, Any]:
    """Sign a receipt; returns its envelope."""
    content: dict[str, Any] = asdict(receipt) | {"struck": list(receipt.struck)}
    subject = {name: content.pop(name) for name in BOUND_TO}
    return sign(statement(RECEIPT, subject=subject, predicate=content), key)


def receipt_of(envelope: Mapping[str, Any], identities: Mapping[str, Identity]) -> Receipt:
    """Return the receipt in an envelope, if whoever had to sign it did.

    Args:
        envelope: as the ledger keeps it.
        identities: those that the root vouches for, by their normalised names.

    Raises:
        RoleError: the reviewer is not among them, or is no reviewer.
        ForgedError: the signature does not hold.
    """
    says = claimed(envelope)["predicate"]
    name, method = str(says.get("reviewer", "")), says.get("method")
    reviewer = identities.get(normalised(name))
    if reviewer is None:
        raise RoleError(f"{name!r} is not enrolled, or was revoked; see 'corrigenda people list'")
    signer = identities.get(REVIEW_SERVICE) if method == "totp" else reviewer
    if signer is None or (method == "totp" and signer.kind != "service"):
        raise RoleError("the review service is not enrolled; 'corrigenda trust init' does it")
    receipt = _read(verify(envelope, signer.public_key))
    _check_reviewer(receipt, reviewer)
    return receipt


def check_receipt(
    receipt: Receipt, *, bound_to: Mapping[str, str], opened: datetime, excluded: Collection[str], now: datetime
) -> None:
    """Refuse a receipt that doesn't count for a candidate.

    Args:
        receipt: read by `receipt_of`.
        bound_to: the digests of the candidate, its report, its policy and its parent.
        opened: when the candidate was last opened.
        excluded: normalised names of those who took part in what is in the candidate.
        now: when it is to count.

    Raises:
        ElsewhereError, ExpiredReceiptError, FourEyesError: see there.
    """
    for name in BOUND_TO:
        if (given := getattr(receipt, name)) != bound_to[name]:
            raise ElsewhereError(
                f"{receipt.reviewer}'s receipt is about the {name} {given[:12]}, this one is {bound_to[name][:12]}"
            )
    if _moment(receipt.at) < opened - SKEW:
        raise ElsewhereError(
            f"{receipt.reviewer}'s receipt is of {receipt.at}, and the candidate was opened at {opened.isoformat()}"
        )
    if not _moment(receipt.at) - SKEW <= now < _moment(receipt.expires):
        raise ExpiredReceiptError(
            f"{receipt.reviewer}'s receipt is good from {receipt.at} to {receipt.expires}, and it is {now.isoformat()}"
        )
    if receipt.decision == "approve" and normalised(receipt.reviewer) in excluded:
        raise FourEyesError(
            f"{receipt.reviewer} submitted, requested or withdrew what is in the candidate, so somebody else approves"
        )


def quorum_of(policy: bytes) -> int:
    """How many different reviewers a policy asks for, as its TOML says; one where it says nothing.

    Raises:
        QuorumError: it asks for none, or for what is no number.
        ValueError: it is no TOML.
    """
    quorum = tomllib.loads(policy.decode()).get("quorum", 1)
    if type(quorum) is not int or quorum < 1:
        raise QuorumError(f"the policy asks for {quorum!r} approvals, and a release takes one at least")
    return quorum


def check_receipts(
    envelopes: Iterable[Mapping[str, Any]],
    *,
    candidate: str,
    report: str,
    policy: str,
    parent: str,
    opened: datetime,
    identities: Mapping[str, Identity],
    quorum: int,
    excluded: Collection[str],
    now: datetime,
) -> dict[str, Receipt]:
    """Return the approvals that count, by the digests of their envelopes, if they are enough.

    Args:
        envelopes: everything that was given as a receipt.
        candidate: its digest.
        report: digest of its report.
        policy: digest of the policy that it passed.
        parent: digest of the release that it was evaluated against.
        opened: when it was last opened.
        identities: those that the root vouches for, by their normalised names.
        quorum: how many different reviewers must approve, by `quorum_of`.
        excluded: normalised names of those who took part in what is in the candidate.
        now: when they are to count.

    Raises:
        ObjectionError: a reviewer decided against it.
        QuorumError: too few approve; the message says why each other receipt does not count.
    """
    bound_to = {"candidate": candidate, "report": report, "policy": policy, "parent": parent}
    approvals, refusals = receipts_that_count(
        envelopes, bound_to=bound_to, opened=opened, identities=identities, excluded=excluded, now=now
    )
    for receipt in approvals.values():
        if receipt.decision != "approve":
            raise ObjectionError(f"{receipt.reviewer} decided to {receipt.decision} candidate {candidate[:12]}")
    if len(approvals) < max(quorum, 1):
        why = f": {'; '.join(refusals)}" if refusals else ""
        raise QuorumError(f"candidate {candidate[:12]} has {len(approvals)} of {quorum} approvals that count{why}")
    return approvals


def receipts_that_count(
    envelopes: Iterable[Mapping[str, Any]],
    *,
    bound_to: Mapping[str, str],
    opened: datetime,
    identities: Mapping[str, Identity],
    excluded: Collection[str],
    now: datetime,
) -> tuple[dict[str, Receipt], list[str]]:
    """Return the newest receipt of each reviewer, if it counts, and why each other one does not.

    Which one is the newest goes by the time that was signed, since whoever can write into the ledger can append an
    old one again. One about another candidate hides none about this one, nor does one that nobody signed.

    Args:
        envelopes: everything that was given as a receipt.
        bound_to: the digests of the candidate, its report, its policy and its parent.
        opened: when the candidate was last opened.
        identities: those that the root vouches for, by their normalised names.
        excluded: normalised names of those who took part in what is in the candidate.
        now: when they are to count.

    Returns:
        The receipts by the digests of their envelopes, oldest first; and the refusals.
    """
    newest: dict[str, tuple[datetime, str, Receipt, str]] = {}
    refusals: list[str] = []
    for envelope in envelopes:
        try:
            receipt = receipt_of(envelope, identities)
            why = _why_not(receipt, bound_to=bound_to, opened=opened, excluded=excluded, now=now)
        except UntrustedError as error:
            refusals.append(str(error))
            continue
        at, name = _moment(receipt.at), normalised(receipt.reviewer)
        if name not in newest or newest[name][0] < at:
            newest[name] = at, digest_of_envelope(envelope), receipt, why
    given = sorted(newest.values(), key=lambda each: each[0])
    refusals += [why for *_, why in given if why]
    return {digest: receipt for _, digest, receipt, why in given if not why}, refusals


def _why_not(
    receipt: Receipt, *, bound_to: Mapping[str, str], opened: datetime, excluded: Collection[str], now: datetime
) -> str:
    """Why a receipt about a candidate does not count, if it doesn't.

    Raises:
        ElsewhereError: it is not about the candidate.
    """
    try:
        check_receipt(receipt, bound_to=bound_to, opened=opened, excluded=excluded, now=now)
    except ElsewhereError:
        raise
    except UntrustedError as error:
        return str(error)
    return ""


def _check_reviewer(receipt: Receipt, reviewer: Identity) -> None:
    reviewer.may("reviewer")
    if normalised(reviewer.enrolled_by) == reviewer.key:
        raise RoleError(f"{reviewer.name} enrolled themselves, which makes no reviewer")
    if _moment(receipt.at) + SKEW < _moment(reviewer.at):
        raise RoleError(f"{reviewer.name} was enrolled on {reviewer.at}, after the receipt of {receipt.at}")


def _read(found: Mapping[str, Any]) -> Receipt:
    content: dict[str, Any] = {**found["predicate"], **subject_of(found, RECEIPT)}
    try:
        values = {each.name: content[each.name] for each in fields(Receipt)}
        values["struck"] = tuple(values["struck"])
        for moment in ("at", "expires"):
            if _moment(values[moment]).year not in YEARS:
                raise ValueError(f"{moment} is {values[moment]}")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ForgedError(f"this is no receipt: {type(error).__name__}: {error}") from error
    if odd := [name for name, value in values.items() if name != "struck" and not isinstance(value, str)]:
        raise ForgedError(f"this is no receipt: its {odd[0]} is no text")
    return Receipt(**values)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
