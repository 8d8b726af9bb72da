"""Flow `review`: a candidate waits for a person, and the decision takes effect.

It holds no model. The run suspends, which ends its process; when somebody answers the form it starts again from the top
and finds the answers given so far, each with what came of it. What is carried out follows from the ledger's receipts
alone: a decision that the ledger knows is never asked for again, and a run that is continued by hand decides nothing.
"""

from __future__ import annotations

from itertools import count
from typing import Literal

from prefect import flow, get_run_logger
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from pydantic import Field, ValidationError

from tasks.answers import Form, judge_task
from tasks.decisions import Course, course_task
from tasks.describe import asked_again
from tasks.errors import StaleParentError
from tasks.evidence import evidence_task
from tasks.ledger import Ledger
from tasks.promote import promote_task, reject_task
from tasks.reviews import start_refresh_after
from tasks.settings import Settings
from tasks.stale import close_stale_task
from tasks.strike import strike_task
from tasks.tables import Standing


class Decision(RunInput):
    """What the form asks; the decision has no default, so an empty answer decides nothing."""

    decision: Literal["approve", "strike", "reject"] = Field(
        description="Approve makes it the next release. Strike rejects single facts. Reject rejects all that is new."
    )
    reviewer: str = Field(min_length=1, max_length=100, description="Your name, as you are enrolled.")
    code: str = Field(default="", max_length=20, description="The six digits that your authenticator app shows now.")
    strike: str = Field(default="", max_length=20_000, description="Only to strike: the ids, with commas or spaces.")
    comment: str = Field(default="", max_length=2000, description="Why; kept with the decision.")


@flow(name="review", persist_result=True, result_serializer="json")
def review(candidate: str) -> str:
    """Show a candidate's evidence, ask until a decision counts, and carry it out."""
    outcome = _decide(candidate)
    get_run_logger().info(outcome)
    return outcome


def _decide(candidate: str) -> str:
    """Ask until a decision counts, and carry it out."""
    evidence = again = ""
    for attempt in count(1):
        standing = _standing(candidate)
        if standing.state != "opened":
            return _finish(standing)
        course = course_task(candidate)
        if course.decision:
            return _carry_out(candidate, course)
        evidence = evidence or evidence_task(candidate)
        form = _ask(attempt, asked_again(again, approved=course.approved, quorum=course.quorum) + evidence)
        again = judge_task(form, candidate, str(flow_run.id), attempt).reason
    raise AssertionError("count() does not end")


def _ask(attempt: int, description: str) -> Form | None:
    """Suspend until somebody answers; None where the run goes on and nobody did."""
    asked = Decision.with_initial_data(description=description)
    timeout = int(Settings().review_timeout_hours * 3600)
    try:
        given = suspend_flow_run(wait_for_input=asked, timeout=timeout, key=f"decision-{attempt}")
    except ValidationError:
        return None
    return Form.model_validate(given.model_dump())


def _carry_out(candidate: str, course: Course) -> str:
    """Let a decision take effect."""
    if course.decision == "reject":
        reject_task(candidate, course.reviewer, course.comment)
        return f"rejected by {course.reviewer}"
    if course.decision == "strike":
        strike_task(candidate, list(course.struck), course.reviewer, course.comment)
        return _finish(_standing(candidate))
    try:
        version = promote_task(candidate)
    except StaleParentError as error:
        get_run_logger().warning("not promoted: %s", error)
        close_stale_task(candidate, str(error))
        return _finish(_standing(candidate))
    return f"approved by {course.reviewer}: version {version} is champion"


def _finish(standing: Standing) -> str:
    """Complete what a decided candidate still lacks; done again, it changes nothing."""
    if standing.state == "approved":
        version = promote_task(standing.key)
        return f"approved by {standing.actor}: version {version} is champion"
    if standing.state in {"struck", "stale"} and standing.content["new"]:
        run = start_refresh_after(standing)
        return f"{standing.state}; what is queued again is solved: {Settings().prefect_ui_url}/runs/flow-run/{run.id}"
    return f"nothing to do: candidate {standing.key[:12]} is {standing.state}"


def _standing(candidate: str) -> Standing:
    return Ledger(Settings().database_url).standing("candidate", candidate)
