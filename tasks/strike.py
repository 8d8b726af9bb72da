"""Strike: a reviewer takes single facts out of a candidate, and the rest is solved again.

What is struck is rejected; the candidate's other new facts are queued, and come back as a candidate of their own, with
its own gate and review. Nothing of a struck candidate is ever released.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from governance.lifecycle import Event
from governance.receipts import Decision
from tasks.collect import events_for
from tasks.errors import RefusedAnswerError
from tasks.ledger import Ledger
from tasks.news import tell_news
from tasks.retries import WHILE_AWAY
from tasks.settings import Settings

SHOWN = 300  # characters


def with_struck(decision: Decision, struck: Sequence[str], *, new: Collection[str]) -> Decision:
    """Return what a decision and the ids to strike come to: striking everything is a rejection.

    Args:
        decision: as it was given.
        struck: the ids given with it.
        new: those of the candidate's new facts, which alone can be struck.

    Raises:
        RefusedAnswerError: they don't go together.
    """
    if decision != "strike" and struck:
        raise RefusedAnswerError(f"ids to strike were given, but the decision was to {decision}")
    if decision == "strike" and not struck:
        raise RefusedAnswerError("no id to strike was given")
    if unknown := [id for id in struck if id not in new]:
        raise RefusedAnswerError(f"not new in this candidate, so not to be struck: {', '.join(unknown)[:SHOWN]}")
    return "reject" if decision == "strike" and set(struck) == set(new) else decision


def strike(candidate: str, *, facts: Collection[str], reviewer: str, comment: str, ledger: Ledger) -> None:
    """Reject some of a candidate's new facts, queue the others, and close it; done again, it changes nothing."""
    standing = ledger.standing("candidate", candidate)
    if standing.state == "struck":
        return
    new = standing.content["new"]
    struck, left = [id for id in new if id in facts], [id for id in new if id not in facts]
    assert struck and left, "nothing to strike is asked again, and striking everything is a rejection"
    reason = f"candidate {candidate[:12]} was struck for {', '.join(struck)}"
    ledger.append(
        [
            Event(
                entity="candidate",
                key=candidate,
                kind="struck",
                actor=reviewer,
                reason=comment,
                data={"struck": struck},
            ),
            *events_for(struck, "rejected", actor=reviewer, reason=comment or candidate),
            *events_for(left, "queued", actor=reviewer, reason=reason[:2000]),
        ]
    )


@task(name="strike", cache_policy=NO_CACHE, **WHILE_AWAY)
def strike_task(candidate: str, facts: list[str], reviewer: str, comment: str) -> None:
    """Reject some of a candidate's new facts, and queue the others."""
    ledger = Ledger(Settings().database_url)
    strike(candidate, facts=facts, reviewer=reviewer, comment=comment, ledger=ledger)
    tell_news(ledger)
