"""Flow `review`: a candidate waits for a person, and the decision takes effect.

It holds no model. The run suspends, which ends its process; when somebody answers the form it starts again from the top
and finds the answers given so far. A decision that the ledger already knows is never asked for again.
"""

from __future__ import annotations

from itertools import count
from typing import Literal

from prefect import flow, get_run_logger
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from tasks.errors import StaleParentError
from tasks.evidence import evidence_task
from tasks.ledger import Ledger
from tasks.notices import tell
from tasks.promote import promote_task, reject_task
from tasks.receipts import receipt_task
from tasks.settings import Settings


class Decision(RunInput):
    """What the form asks; the decision has no default, so an empty answer decides nothing."""

    decision: Literal["approve", "reject"] = Field(description="Approve makes it the next release.")
    reviewer: str = Field(min_length=1, max_length=100, description="Your name.")
    comment: str = Field(default="", max_length=2000, description="Why; kept with the decision.")


@flow(name="review", persist_result=True, result_serializer="json")
def review(candidate: str) -> str:
    """Show a candidate's evidence, wait for a decision, and carry it out."""
    logger = get_run_logger()
    standing = Ledger(Settings().database_url).standing("candidate", candidate)
    if standing.state not in {"opened", "approved"}:
        return f"nothing to do: candidate {candidate[:12]} is {standing.state}"
    reviewer = standing.actor
    if standing.state != "approved":
        form = _ask(evidence_task(candidate))
        reviewer = form.reviewer.strip()
        receipt_task(candidate, reviewer, form.decision, form.comment.strip())
        if form.decision == "reject":
            reject_task(candidate, reviewer, form.comment.strip())
            logger.info("rejected by %s", reviewer)
            return f"rejected by {reviewer}"
    try:
        version = promote_task(candidate)
    except StaleParentError as error:
        tell("stale", candidate=candidate, text=str(error), ledger=Ledger(Settings().database_url))
        raise
    logger.info("approved by %s: version %s is champion", reviewer, version)
    return f"approved by {reviewer}: version {version} is champion"


def _ask(evidence: str) -> Decision:
    """Ask until the answer names a reviewer."""
    again = ""
    for attempt in count(1):
        form = suspend_flow_run(
            wait_for_input=Decision.with_initial_data(description=again + evidence),
            timeout=int(Settings().review_timeout_hours * 3600),
            key=f"decision-{attempt}",
        )
        if form.reviewer.strip():
            return form
        again = "> **Asked again:** the reviewer's name was blank.\n\n"
    raise AssertionError("count() does not end")
