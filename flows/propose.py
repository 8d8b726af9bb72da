"""What every flow that makes a candidate has in common: one at a time, recorded in the ledger, a review at its end.

One candidate is open at a time. A run that is killed leaves nothing that counts: the next one marks it dead and goes
on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from tasks.candidate import Candidate, replace_candidate
from tasks.collect import Batch
from tasks.describe import (
    answers_list,
    changed_neighbours,
    in_short,
    lost_protected,
    metrics_table,
    what_follows,
    withdrawn_list,
    worst_of_text,
)
from tasks.failed import keep_page_task, where_to_look
from tasks.gate import Verdict
from tasks.ledger import Ledger
from tasks.news import tell_news
from tasks.report import Report
from tasks.reviews import close_reviews, start_review
from tasks.runs import begin, bury_the_dead, end
from tasks.settings import Settings
from tasks.tables import Standing

ACTOR = "refresh"


@contextmanager
def one_at_a_time() -> Iterator[Ledger]:
    """Hold the right to make a candidate.

    Raises:
        BusyError: another run holds it.
    """
    ledger = Ledger(Settings().database_url)
    with ledger.refresh_lock():
        bury_the_dead(ledger)
        yield ledger


def make_room(waiting: Standing, ledger: Ledger) -> None:
    """Close a candidate that waits for review; its corrections are queued again, and a withdrawal is dropped."""
    replace_candidate(waiting, ledger, actor=ACTOR)
    close_reviews(waiting.key)
    dropped = [each["id"] for each in waiting.content["leaving"] if each["becomes"] in ("revoked", "held")]
    if dropped or waiting.content["returning"]:
        get_run_logger().warning(
            "candidate %s was a withdrawal (%s out, %s back), which has to be asked for again",
            *(waiting.key[:12], ", ".join(dropped) or "nothing", ", ".join(waiting.content["returning"]) or "nothing"),
        )


@contextmanager
def recorded(ledger: Ledger, batch: Batch) -> Iterator[None]:
    """Keep in the ledger that a candidate was begun, and how that ended."""
    key = str(flow_run.id)
    begin(ledger, key, facts=[c.id for c in batch.facts])
    try:
        yield
    except BaseException as error:
        get_run_logger().error("the run ends without a candidate: %s", error)
        end(ledger, key, "failed", reason=f"{type(error).__name__}: {error}"[:2000])
        raise
    end(ledger, key, "finished")


def show(batch: Batch, report: Report, verdict: Verdict) -> str:
    """Show the verdict and the answers before and after as the run's artifact; of a failed one, keep the page too.

    Returns:
        The page's sha256; empty where the verdict is to pass.
    """
    about = in_short(batch.new, batch.returning, batch.leaving)
    kept = "" if verdict.passed else keep_page_task(report, verdict, f"{about}: {verdict.word}")
    page = "\n".join(
        [
            f"# {about}: **{verdict.word}**",
            "",
            where_to_look(kept) if kept else "",
            metrics_table(verdict),
            lost_protected(report),
            answers_list("New facts", report.of_kind("efficacy")),
            what_follows(report),
            answers_list("Asked differently", report.of_kind("generalization")),
            answers_list("Earlier facts", report.of_kind("retention")),
            withdrawn_list(report),
            changed_neighbours(report),
            worst_of_text(report),
        ]
    )
    create_markdown_artifact(page, key=ACTOR, description="verdict and answers")
    return kept


def ask_for_review(candidate: Candidate) -> str:
    """Start the review of a candidate, and tell that it is ready; returns where a person finds it."""
    text = f"candidate {candidate.digest[:12]} (version {candidate.registered.version}) {review_of(candidate.digest)}"
    tell_news(Ledger(Settings().database_url))
    return text


def review_of(candidate: str) -> str:
    """Start the review of a candidate, unless one is under way; returns where a person finds it."""
    run = start_review(candidate)
    return f"waits for review: {Settings().prefect_ui_url}/runs/flow-run/{run.id}"
