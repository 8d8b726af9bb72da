"""What is done from a terminal: run what makes a candidate, find the open one, decide on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prefect.states import State

from flows.follow import follow
from governance.receipts import Decision
from tasks.candidate import the_open_candidate
from tasks.errors import UnknownKeyError, UnreachableError
from tasks.receipts import give_receipt
from tasks.reviews import answer, cancel, start_review, start_run
from tasks.settings import Settings
from tasks.strike import with_struck

if TYPE_CHECKING:
    from rich.console import Console

    from tasks.ledger import Ledger


def run_refresh(console: Console, *, replace: bool = False) -> State:
    """Run the refresh deployment and follow it to its end."""
    return run_deployed("refresh", console, replace=replace)


def run_deployed(flow: str, console: Console, **parameters: Any) -> State:  # noqa: ANN401 - whatever the flow takes
    """Run a deployment, and follow it to its end; Ctrl-C cancels it, and goes on up."""
    if not Settings().prefect_api_url:
        raise UnreachableError("no Prefect server: set CORRIGENDA_PREFECT_API_URL, or start one with 'corrigenda up'")
    run = start_run(f"{flow}/{flow}", parameters=parameters)
    try:
        return follow(run.id, console, until_paused=True)
    except KeyboardInterrupt:
        cancel(run.id, "Ctrl-C")
        console.print(
            "[yellow]asked the run to stop[/]; what it did until then stays, and the next one goes on from it"
        )
        raise


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


def decide(
    console: Console,
    candidate: str,
    *,
    decision: Decision,
    reviewer: str,
    comment: str,
    struck: Sequence[str] = (),
    ledger: Ledger,
) -> State:
    """Sign a decision with the reviewer's own key, and let the candidate's review carry it out.

    Once it is recorded it stands, so Ctrl-C ends no more than the following, says so, and goes on up.

    Returns:
        How the review's run ended, or that it waits for another reviewer.

    Raises:
        RefusedAnswerError: the facts to strike are not new in the candidate.
        IdentityError, KeyFileError, UntrustedError: the signature would not count; nothing is recorded.
    """
    digest = open_candidate_named(candidate, ledger)
    decision = with_struck(decision, struck, new=ledger.standing("candidate", digest).content["new"])
    settings = Settings()
    receipt = give_receipt(
        digest,
        reviewer=reviewer,
        method="key",
        decision=decision,
        comment=comment,
        struck=struck,
        ledger=ledger,
        settings=settings,
    )
    try:
        ledger.append([receipt])
        return _carried_out(digest, {"decision": decision, "reviewer": reviewer, "strike": " ".join(struck)}, console)
    except KeyboardInterrupt:
        if any(event["data"] == receipt.data for event in ledger.history("receipt", receipt.key)):
            console.print(
                f"[yellow]not followed any further[/]: your decision to {decision} candidate {digest[:12]} is recorded "
                "and stands. Its review carries it out, or else the next 'corrigenda reconcile'; "
                f"'corrigenda ledger show {digest[:12]}' tells what became of it"
            )
        raise


def _carried_out(candidate: str, form: dict[str, Any], console: Console) -> State:
    """Let a candidate's review find a decision that is recorded, and follow it."""
    run = start_review(candidate)
    state = follow(run.id, console, until_paused=True)
    if not state.is_paused():  # it had not come to asking yet, and found the receipt
        return state
    answer(run.id, form)
    return follow(run.id, console, until_paused=True)
