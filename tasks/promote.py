"""Promote or reject: the decision of reviewers takes effect.

What lets a candidate through are their receipts, checked here, whatever brought us here. The decision and the release
row are one transaction, a compare-and-swap on the parent: that is the commit. The signed manifest in the object store
and the aliases in MLflow are made from that row, and the ledger's `promoted` comes last. So a second run after a
crash writes the same again, and nobody is asked twice. A row that no receipts stand behind is not published.
"""

from __future__ import annotations

from contextlib import suppress

from prefect import task

from governance.lifecycle import ACTOR, Event
from tasks.collect import events_for
from tasks.errors import IllegalTransitionError, RegistryError, StaleParentError
from tasks.ledger import Ledger
from tasks.news import tell_news
from tasks.objects import check_objects
from tasks.publish import publish
from tasks.receipts import approvals_of
from tasks.register import point_alias, version_of
from tasks.retries import WHILE_AWAY
from tasks.settings import Settings
from tasks.store import Store
from tasks.tables import Release

CHAMPION = "champion"
PREVIOUS = "previous"


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
    new = [
        Event(entity="candidate", key=candidate, kind="approved", actor=actor, reason=comment, data=data),
        *events_for([*content["new"], *content["returning"]], "released", actor=actor, reason=candidate),
        *left,
    ]
    try:
        return ledger.release(
            candidate,
            parent=content["parent"],
            new=new,
            check=lambda now: approvals_of(candidate, ledger, settings, now=now),  # as `promote` asks again
        )
    except StaleParentError:
        if released := ledger.release_of(candidate):  # another process approved it between the two questions
            return released
        raise


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

    Every step can be repeated. A release that a later one has overtaken gets its record, and the aliases stay.

    Raises:
        UntrustedError: no receipts stand behind the row; nothing is published.
        IdentityError: this process has nothing that it may sign releases with; no alias is moved.
    """
    approvals_of(release.candidate, ledger, settings, now=release.at, before=release.event)
    tell_news(ledger)
    publish(release, store=Store(settings), ledger=ledger, settings=settings)
    point_aliases(release, settings=settings, ledger=ledger)
    _finish(release.candidate, ledger)
    tell_news(ledger)
    return version_of(settings, release.candidate)


def point_aliases(release: Release, *, settings: Settings, ledger: Ledger) -> None:
    """Let the aliases stand for a release and the one before it, if it is the newest."""
    with ledger.named_lock(f"aliases {settings.registered_model}"):  # so no slower promoter puts them back
        head = ledger.head()
        if head is not None and head.position == release.position:
            point_alias(settings, alias=CHAMPION, candidate=release.candidate)
            if release.position > 1:
                with suppress(RegistryError):  # a version that MLflow lost holds up no successor; reconcile tells of it
                    point_alias(settings, alias=PREVIOUS, candidate=release.parent)


def _finish(candidate: str, ledger: Ledger) -> None:
    """Record that a promotion ended; once, whoever else ends it too."""
    try:
        if ledger.standing("candidate", candidate).state == "approved":
            ledger.append([Event(entity="candidate", key=candidate, kind="promoted", actor=ACTOR)])
    except IllegalTransitionError:
        if ledger.standing("candidate", candidate).state != "promoted":
            raise


@task(name="promote", **WHILE_AWAY)
def promote_task(candidate: str) -> str:
    """Make a candidate that its reviewers approved and that is whole in the store the next release, and publish it."""
    settings = Settings()
    ledger = Ledger(settings.database_url)
    if not ledger.release_of(candidate):
        check_objects(candidate, Store(settings))
    release = approve(candidate, ledger=ledger, settings=settings)
    return promote(release, settings=settings, ledger=ledger)


@task(name="reject", **WHILE_AWAY)
def reject_task(candidate: str, reviewer: str, comment: str) -> None:
    """Record a rejection."""
    ledger = Ledger(Settings().database_url)
    reject(candidate, reviewer=reviewer, comment=comment, ledger=ledger)
    tell_news(ledger)
