"""Housekeeping: a review that nears its end is called to mind, one that is over is closed, and dead runs are marked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefect import task

from consuming.errors import AlteredError
from governance.lifecycle import ACTOR, Event, in_utc
from tasks.candidate import the_open_candidate
from tasks.closed import mark_closed
from tasks.collect import events_for
from tasks.decisions import course_of
from tasks.errors import IllegalTransitionError, StoreError
from tasks.findings import Finding, repaired
from tasks.ledger import Ledger
from tasks.news import tell_news
from tasks.notices import tell
from tasks.retries import WHILE_AWAY
from tasks.reviews import close_reviews
from tasks.runs import SHORT_MINUTES, WITHOUT_A_WORD, mark_dead_runs
from tasks.settings import Settings
from tasks.store import Store
from tasks.tables import Standing


def ends_at(opened: Standing, settings: Settings) -> datetime:
    """When the review of an open candidate ends."""
    return opened.at + timedelta(hours=settings.review_timeout_hours)


def is_over(opened: Standing, *, now: datetime, settings: Settings) -> bool:
    """Whether the time in which an open candidate can be decided on has ended."""
    return ends_at(opened, settings) <= now


def is_decided(candidate: str, *, ledger: Ledger, settings: Settings) -> bool:
    """Whether an open candidate's receipts come to a decision; one that is not whole has none."""
    try:
        return course_of(candidate, ledger=ledger, settings=settings).decision is not None
    except (AlteredError, StoreError):
        return False


def keep_house(*, settings: Settings, ledger: Ledger, now: datetime, minutes: float = SHORT_MINUTES) -> list[Finding]:
    """Remind, close what is over, and mark dead runs; returns what was done.

    Args:
        settings: how long a review lasts, and when it is called to mind.
        ledger: where what is closed is recorded.
        now: the time.
        minutes: after how long at work a short flow is taken for dead.
    """
    found = [
        repaired(WITHOUT_A_WORD, name, "marked as crashed") for name in mark_dead_runs(ledger, now=now, minutes=minutes)
    ]
    waiting = the_open_candidate(ledger)
    if waiting and is_decided(waiting.key, ledger=ledger, settings=settings):
        return found  # its review carries that out, and reconcile sees to it
    if waiting and is_over(waiting, now=now, settings=settings):
        found += close_expired(waiting, settings=settings, ledger=ledger)
    elif waiting and ends_at(waiting, settings) - timedelta(hours=settings.reminder_hours) <= now:
        found += [remind(waiting, settings=settings, ledger=ledger)]
    return found


def remind(waiting: Standing, *, settings: Settings, ledger: Ledger) -> Finding:
    """Tell once more that a candidate waits, and until when."""
    until = in_utc(ends_at(waiting, settings))
    text = f"candidate {waiting.key[:12]} still waits for a decision, until {until}; then it is closed"
    tell("candidate-ready", candidate=waiting.key, text=text, ledger=ledger)
    return repaired(f"nobody has decided, and its review ends at {until}", f"candidate {waiting.key[:12]}", "reminded")


def close_expired(waiting: Standing, *, settings: Settings, ledger: Ledger) -> list[Finding]:
    """Close a candidate on which nobody decided in time, and its runs; its corrections are queued again.

    Returns:
        What was done; nothing where a decision came first.
    """
    reason = f"nobody decided in {settings.review_timeout_hours:g} hours"
    closed = Event(entity="candidate", key=waiting.key, kind="expired", actor=ACTOR, reason=reason)
    back = events_for(waiting.content["new"], "queued", actor=ACTOR, reason=f"candidate {waiting.key[:12]}: {reason}")
    try:
        ledger.append([closed, *back])
    except IllegalTransitionError:
        if ledger.standing("candidate", waiting.key).state == "opened":
            raise
        return []
    close_reviews(waiting.key, "the candidate expired")
    way_out = "closed; its new facts are queued again, and a withdrawal has to be asked for again"
    return [repaired(reason, f"candidate {waiting.key[:12]}", way_out)]


@task(name="housekeeping", **WHILE_AWAY)
def housekeeping_task() -> list[Finding]:
    """Remind, close and mark; then tell what nobody has told."""
    settings = Settings()
    ledger = Ledger(settings.database_url)
    found = keep_house(settings=settings, ledger=ledger, now=datetime.now(UTC))
    mark_closed(ledger, Store(settings))
    tell_news(ledger)
    return found
