"""What an operator does from a terminal: run what makes a candidate, find the open one, answer its review."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect.states import State

from flows.follow import follow
from tasks.candidate import the_open_candidate
from tasks.errors import UnknownKeyError, UnreachableError
from tasks.reviews import answer, paused_run, start_run
from tasks.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from tasks.ledger import Ledger

SUSPEND_SECONDS = 60


def run_refresh(console: Console, *, replace: bool = False) -> State:
    """Run the refresh deployment and follow it to its end."""
    return run_deployed("refresh", console, replace=replace)


def run_deployed(flow: str, console: Console, **parameters: Any) -> State:  # noqa: ANN401 - whatever the flow takes
    """Run a deployment, and follow it to its end."""
    if not Settings().prefect_api_url:
        raise UnreachableError("no Prefect server: set CORRIGENDA_PREFECT_API_URL, or start one with 'corrigenda up'")
    run = start_run(f"{flow}/{flow}", parameters=parameters)
    return follow(run.id, console, until_paused=True)


def open_candidate_named(prefix: str, ledger: Ledger) -> str:
    """The digest of the open candidate, which may be named by the beginning of it.

    Raises:
        UnknownKeyError: none is open, or another one is.
    """
    standing = the_open_candidate(ledger)
    if standing is None:
        raise UnknownKeyError("no candidate waits for review; make one with 'corrigenda refresh'")
    if not standing.key.startswith(prefix):
        raise UnknownKeyError(f"no open candidate {prefix!r}; the open one is {standing.key[:12]}")
    return standing.key


def decide(console: Console, candidate: str, *, decision: str, reviewer: str, comment: str, ledger: Ledger) -> State:
    """Answer a candidate's review as its form does, and follow the run to its end."""
    run = paused_run(open_candidate_named(candidate, ledger), wait_seconds=SUSPEND_SECONDS)
    answer(run.id, {"decision": decision, "reviewer": reviewer, "comment": comment})
    return follow(run.id, console, until_paused=True)
