"""Reviews: the paused runs in Prefect that wait for a person, found, started, answered and closed.

A candidate's runs carry its digest as a tag. Starting is idempotent while one of them is alive; a new one is started
only when all before it have ended without a decision.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.deployments import run_deployment
from prefect.states import Cancelled, Cancelling

from tasks.errors import LedgerError
from tasks.prefect_api import prefect_answers, prefect_client

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from tasks.tables import Standing

DEPLOYMENT = "review/review"
REFRESH = "refresh/refresh"
RESUMING = "Resuming"
"""The state that Prefect gives to a run whose form was submitted."""


def start_review(candidate: str) -> FlowRun:
    """Start the review of a candidate, unless one is under way; returns its run."""
    earlier = review_runs(candidate)
    alive = [run for run in earlier if run.state and not run.state.is_final()]
    if alive:
        return alive[0]
    return start_run(
        DEPLOYMENT,
        parameters={"candidate": candidate},
        idempotency_key=f"{candidate}:{earlier[-1].id if earlier else 'first'}",
        tags=[tag(candidate)],
        name=f"review {candidate[:12]}",
    )


def start_refresh_after(standing: Standing) -> FlowRun:
    """Start a refresh of what a closed candidate left queued; done again, it finds the first one's run."""
    return start_run(
        REFRESH, parameters={}, idempotency_key=f"{standing.key}:{standing.state}:{standing.at.isoformat()}"
    )


def start_run(
    deployment: str,
    *,
    parameters: dict[str, Any],
    idempotency_key: str | None = None,
    tags: list[str] | None = None,
    name: str | None = None,
) -> FlowRun:
    """Ask a runner to run a deployment, as a run of its own, and return at once.

    Raises:
        UnreachableError: Prefect's server doesn't answer.
    """
    with prefect_answers():
        run = run_deployment(
            deployment,
            parameters=parameters,
            as_subflow=False,
            timeout=0,
            idempotency_key=idempotency_key,
            tags=tags,
            flow_run_name=name,
        )
    return cast("FlowRun", run)  # a coroutine only for callers that are asynchronous


def review_runs(candidate: str) -> list[FlowRun]:
    """Every run that was started to review a candidate, oldest first."""
    with prefect_client() as client:
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag(candidate)])))
    return sorted(found, key=lambda run: run.created or run.id)


def paused_run(candidate: str, *, wait_seconds: float = 0) -> FlowRun:
    """The run of a candidate that waits for an answer; one that is just starting is given time to get there.

    Raises:
        LedgerError: none does.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        for run in review_runs(candidate):
            if run.state and run.state.is_paused():
                return run
        if time.monotonic() > deadline:
            raise LedgerError(
                f"no review of candidate {candidate[:12]} waits for an answer; look with 'corrigenda review', "
                "or start it again with 'corrigenda refresh'"
            )
        time.sleep(1)


def answer(run_id: UUID, form: dict[str, Any]) -> None:
    """Answer a paused run, exactly as the form in the Prefect UI does.

    Raises:
        LedgerError: Prefect refuses the answer; the run goes on waiting.
    """
    with prefect_client() as client:
        response = client.resume_flow_run(run_id, run_input=form)
    if response.status.value != "ACCEPT":
        raise LedgerError(f"Prefect refuses the answer: {getattr(response.details, 'reason', response.status.value)}")


def resumed_at(run_id: UUID) -> datetime | None:
    """When a run last began to resume, by the server's clock; None where it never did."""
    with prefect_client() as client:
        states = client.read_flow_run_states(run_id)
    return max((state.timestamp for state in states if state.name == RESUMING), default=None)


def close_reviews(candidate: str, why: str = "the candidate was replaced") -> None:
    """Cancel whatever runs still wait on a candidate."""
    with prefect_client() as client:
        for run in review_runs(candidate):
            if run.state and not run.state.is_final():
                client.set_flow_run_state(run.id, Cancelled(message=why), force=True)


def cancel(run_id: UUID, why: str) -> None:
    """Ask a run to stop."""
    with prefect_client() as client:
        client.set_flow_run_state(run_id, Cancelling(message=why))


def tag(candidate: str) -> str:
    """The tag by which a candidate's runs are found."""
    return f"candidate:{candidate}"
