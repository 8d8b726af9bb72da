"""Promote or reject: the decision of reviewers takes effect.

What lets a candidate through are their receipts, checked here, whatever brought us here. The decision and the release
row are one transaction, a compare-and-swap on the parent: that is the commit. The release record in the object store
and the alias in MLflow are written from that row, so a second run after a crash writes the same again, and nobody is
asked twice. A row that no receipts stand behind is not published.
"""

from __future__ import annotations

from typing import Any

from prefect import task

from editors.digests import canonical_json
from tasks.collect import events_for
from tasks.errors import IllegalTransitionError
from tasks.ledger import Ledger
from tasks.lifecycle import Event
from tasks.notices import tell, tell_approved, tell_promoted
from tasks.receipts import approvals_of, receipts_for
from tasks.register import point_alias
from tasks.retries import WHILE_AWAY
from tasks.settings import Settings
from tasks.store import Store
from tasks.tables import Release

CHAMPION = "champion"
EVIDENCE = ("patch", "policy", "report", "corrections", "moments", "contexts")


def approve(candidate: str, *, ledger: Ledger, settings: Settings) -> Release:
    """Make a candidate the next release, if its receipts allow it; a second call finds the first one's.

    Raises:
        UntrustedError: they don't; nothing is recorded.
        StaleParentError: production moved since the candidate was evaluated; nothing is recorded.
        IllegalTransitionError: the candidate is not open.
    """
    released = ledger.release_of(candidate)
    if released:
        return released
    content = ledger.standing("candidate", candidate).content
    approvals = approvals_of(candidate, ledger, settings)
    actor = ", ".join(receipt.reviewer for receipt in approvals.values())
    comment = "; ".join(receipt.comment for receipt in approvals.values() if receipt.comment)
    data = {"receipts": sorted(approvals)}
    left = [
        Event(entity="correction", key=each["id"], kind=each["becomes"], actor=actor, reason=each["reason"], data=each)
        for each in content["leaving"]
    ]
    return ledger.release(
        candidate,
        parent=content["parent"],
        new=[
            Event(entity="candidate", key=candidate, kind="approved", actor=actor, reason=comment, data=data),
            *events_for([*content["new"], *content["returning"]], "released", actor=actor, reason=candidate),
            *left,
        ],
    )


def reject(candidate: str, *, reviewer: str, comment: str, ledger: Ledger) -> None:
    """Record a rejection: the facts new in this candidate are rejected with it; what was to leave stays released."""
    standing = ledger.standing("candidate", candidate)
    if standing.state == "rejected":
        return
    decided = Event(entity="candidate", key=candidate, kind="rejected", actor=reviewer, reason=comment)
    reason = comment or candidate
    ledger.append([decided, *events_for(standing.content["new"], "rejected", actor=reviewer, reason=reason)])


def promote(release: Release, *, settings: Settings, ledger: Ledger) -> str:
    """Publish a release from its row in the ledger; returns the number of its version in MLflow.

    Raises:
        UntrustedError: no receipts stand behind the row; nothing is published.
        IllegalTransitionError: a later release came first.
    """
    approvals_of(release.candidate, ledger, settings, at=release.at)
    tell_approved(release, ledger=ledger)
    store = Store(settings)
    for envelope in receipts_for(release.candidate, ledger, at=release.at):
        store.put(canonical_json(envelope))
    store.put_record(f"releases/{release.candidate}.json", _record(release, store, ledger))
    head = ledger.head()
    if head and head.position > release.position:  # a later release came first: the alias is already its
        raise IllegalTransitionError(f"release {release.position} was promoted late: {head.position} is in production")
    version = point_alias(settings, alias=CHAMPION, candidate=release.candidate)
    if ledger.standing("candidate", release.candidate).state == "approved":
        ledger.append([Event(entity="candidate", key=release.candidate, kind="promoted", actor="corrigenda")])
    tell_promoted(release, version=version, ledger=ledger)
    return version


def _record(release: Release, store: Store, ledger: Ledger) -> dict[str, Any]:
    """The release as consumers see it; made of the ledger's own words, so it is the same each time."""
    manifest = store.record(f"candidates/{release.candidate}.json")
    assert manifest is not None, "a candidate's manifest is stored before it is opened"
    approval = next(e for e in ledger.history("candidate", release.candidate) if e["kind"] == "approved")
    return {
        "format": manifest["format"],
        "position": release.position,
        "candidate": release.candidate,
        "parent": release.parent,
        "base": manifest["base"],
        "objects": {name: store.stat(manifest[name]).record() for name in EVIDENCE},
        "reviewer": approval["actor"],
        "comment": approval["reason"],
        "receipts": approval["data"]["receipts"],
        "approved": approval["at"].isoformat(),
        "ledger": {"sequence": approval["seq"], "digest": approval["digest"]},
    }


@task(name="promote", **WHILE_AWAY)
def promote_task(candidate: str) -> str:
    """Make a candidate that its reviewers approved the next release, and publish it."""
    settings = Settings()
    ledger = Ledger(settings.database_url)
    release = approve(candidate, ledger=ledger, settings=settings)
    return promote(release, settings=settings, ledger=ledger)


@task(name="reject", **WHILE_AWAY)
def reject_task(candidate: str, reviewer: str, comment: str) -> None:
    """Record a rejection."""
    ledger = Ledger(Settings().database_url)
    reject(candidate, reviewer=reviewer, comment=comment, ledger=ledger)
    told = f"candidate {candidate[:12]} is rejected by {reviewer}"
    tell("rejected", candidate=candidate, text=told, ledger=ledger, data={"comment": comment})
