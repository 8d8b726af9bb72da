"""Stale: production moved since a candidate was evaluated, so it is no candidate any more.

Its new facts are queued again, to be solved and evaluated on what is in production now. A withdrawal is dropped: who
asked for it looks at production as it is, and asks again.
"""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from governance.lifecycle import Event
from tasks.collect import events_for
from tasks.ledger import Ledger
from tasks.news import tell_news
from tasks.retries import WHILE_AWAY
from tasks.settings import Settings

ACTOR = "review"


def close_stale(candidate: str, *, reason: str, ledger: Ledger) -> None:
    """Close a candidate as stale, and queue its new facts; done again, it changes nothing."""
    standing = ledger.standing("candidate", candidate)
    if standing.state == "stale":
        return
    closed = Event(entity="candidate", key=candidate, kind="stale", actor=ACTOR, reason=reason)
    back = f"candidate {candidate[:12]} was stale"
    ledger.append([closed, *events_for(standing.content["new"], "queued", actor=ACTOR, reason=back)])
    tell_news(ledger)


@task(name="close stale", cache_policy=NO_CACHE, **WHILE_AWAY)
def close_stale_task(candidate: str, reason: str) -> None:
    """Close a candidate as stale, and queue its new facts."""
    close_stale(candidate, reason=reason, ledger=Ledger(Settings().database_url))
