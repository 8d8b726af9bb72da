"""Decisions: what a candidate's receipts come to, which is all that its review goes by.

A rejection or a strike counts at once, approvals once they are as many as the policy asks for. The state of the run in
which somebody decided counts for nothing, so it may be forced, lost or started again.
"""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from governance.receipts import Decision, Receipt, receipts_that_count
from tasks.ledger import Ledger
from tasks.policy import policy_of
from tasks.receipts import bound_to, held_against, receipts_for
from tasks.retries import WHILE_AWAY
from tasks.settings import Settings
from tasks.store import Store


class Course(BaseModel):
    """What is to become of a candidate.

    Attributes:
        decision: what was decided; None while a reviewer is asked.
        reviewer: whose word it was; of several approvals the last one's.
        comment: why.
        struck: the facts to reject.
        approved: who approves so far.
        quorum: how many the policy asks for.
    """

    model_config = ConfigDict(frozen=True)

    decision: Decision | None = None
    reviewer: str = ""
    comment: str = ""
    struck: tuple[str, ...] = ()
    approved: tuple[str, ...] = ()
    quorum: int = 1


def course_of(candidate: str, *, ledger: Ledger, settings: Settings) -> Course:
    """What the receipts of an open candidate come to; those that don't count are passed over."""
    store = Store(settings)
    quorum = policy_of(store.get(store.manifest(candidate)["policy"])).quorum
    given = counting(candidate, ledger=ledger, settings=settings)
    against = [receipt for receipt in given if receipt.decision != "approve"]
    approvals = [receipt for receipt in given if receipt.decision == "approve"]
    course = Course(approved=tuple(receipt.reviewer for receipt in approvals), quorum=quorum)
    last = against[0] if against else approvals[-1] if len(approvals) >= quorum else None
    if last is None:
        return course
    decided = {"decision": last.decision, "reviewer": last.reviewer, "comment": last.comment, "struck": last.struck}
    return course.model_copy(update=decided)


def counting(candidate: str, *, ledger: Ledger, settings: Settings) -> list[Receipt]:
    """The receipts of an open candidate that count, the newest of each reviewer, oldest first."""
    manifest = Store(settings).manifest(candidate)
    given, _refusals = receipts_that_count(
        receipts_for(candidate, ledger),
        bound_to=bound_to(candidate, manifest),
        **held_against(candidate, manifest, ledger, settings),
        now=datetime.now(UTC),
    )
    return list(given.values())


@task(name="decision", cache_policy=NO_CACHE, **WHILE_AWAY)
def course_task(candidate: str) -> Course:
    """What a candidate's receipts come to by now."""
    settings = Settings()
    return course_of(candidate, ledger=Ledger(settings.database_url), settings=settings)
