"""Commands for the operator who makes a candidate, and for the reviewer who decides on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.commands.terminal import console, open_ledger, read_settings, tell_outcome

if TYPE_CHECKING:
    from governance.receipts import Decision

app = typer.Typer()
review_app = typer.Typer(help="See and answer the reviews that wait for a person.", invoke_without_command=True)
app.add_typer(review_app, name="review")

Named = Annotated[str, typer.Argument(help="its digest or the beginning of it")]
Reviewer = Annotated[str, typer.Option(help="who signs, with their own key; by default you (CORRIGENDA_SUBMITTER)")]
Comment = Annotated[str, typer.Option(help="kept with the decision")]
Because = Annotated[str, typer.Option(help="why; kept with the decision")]


@app.command()
def refresh(
    replace: Annotated[bool, typer.Option("--replace", help="close a candidate that waits for review first")] = False,
) -> None:
    """Edit the queued corrections in, evaluate, gate, and ask for review; what the schedule does, now."""
    from flows.operate import run_refresh

    tell_outcome(run_refresh(console, replace=replace))


@review_app.callback()
def review_default(context: typer.Context) -> None:
    """List the candidates that wait for a person, where nothing else is asked for."""
    if not context.invoked_subcommand:
        _list()


@review_app.command("list")
def review_list() -> None:
    """List the candidates that wait for a person, who approves so far, and where to answer."""
    _list()


@review_app.command()
def show(candidate: Named = "") -> None:
    """Print the evidence that the form in the Prefect UI shows."""
    from rich.markdown import Markdown

    from flows.operate import open_candidate_named
    from tasks.evidence import evidence
    from tasks.store import Store

    settings, ledger = read_settings(), open_ledger()
    digest = open_candidate_named(candidate, ledger)
    console.print(Markdown(evidence(digest, settings=settings, store=Store(settings), ledger=ledger)))


@review_app.command()
def approve(candidate: Named = "", reviewer: Reviewer = "", comment: Comment = "") -> None:
    """Approve the open candidate: it becomes the next release, once as many approve as its policy asks for."""
    _decide(candidate, decision="approve", reviewer=reviewer, comment=comment)


@review_app.command()
def strike(
    facts: Annotated[list[str], typer.Argument(metavar="ID...", help="of new facts in the candidate")],
    comment: Because,
    reviewer: Reviewer = "",
    candidate: Annotated[str, typer.Option(help="its digest or the beginning of it")] = "",
) -> None:
    """Strike single facts: they are rejected, and the rest comes back as a new candidate."""
    _decide(candidate, decision="strike", reviewer=reviewer, comment=comment, struck=facts)


@review_app.command()
def reject(comment: Because, candidate: Named = "", reviewer: Reviewer = "") -> None:
    """Reject the open candidate: its new facts are rejected with the comment, everything is kept."""
    _decide(candidate, decision="reject", reviewer=reviewer, comment=comment)


def _list() -> None:
    from tasks.decisions import course_of
    from tasks.reviews import review_runs

    settings, ledger = read_settings(), open_ledger()
    table = Table("candidate", "version", "new facts", "opened", "approvals", "run")
    for standing in ledger.standings("candidate", states=["opened"]):
        runs = [
            f"{settings.prefect_ui_url}/runs/flow-run/{run.id} ({run.state_name})" for run in review_runs(standing.key)
        ]
        course = course_of(standing.key, ledger=ledger, settings=settings)
        approvals = f"{len(course.approved)} of {course.quorum} {', '.join(course.approved)}".strip()
        opened, new = f"{standing.at:%Y-%m-%d %H:%M}", ", ".join(standing.content["new"])
        row = [standing.key[:12], standing.content["version"], new, opened, approvals, "\n".join(runs)]
        table.add_row(*map(escape, row))
    console.print(table)


def _decide(candidate: str, *, decision: Decision, reviewer: str, comment: str, struck: Sequence[str] = ()) -> None:
    from flows.operate import decide, open_candidate_named
    from tasks.settings import Settings

    ledger, signer = open_ledger(), reviewer or Settings().submitter
    digest = open_candidate_named(candidate, ledger)
    state = decide(console, digest, decision=decision, reviewer=signer, comment=comment, struck=struck, ledger=ledger)
    if state.is_paused():
        console.print("recorded; the review waits for another reviewer, see 'corrigenda review'")
    elif state.is_completed():
        console.print(f"candidate {digest[:12]} is {ledger.standing('candidate', digest).state}", highlight=False)
    else:
        tell_outcome(state)
