"""Commands for the operator who makes a candidate, and for the reviewer who decides on it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from flows.commands.terminal import console, open_ledger, read_settings, tell_outcome

app = typer.Typer()
review_app = typer.Typer(help="See and answer the reviews that wait for a person.", invoke_without_command=True)
app.add_typer(review_app, name="review")


@app.command()
def refresh(
    replace: Annotated[bool, typer.Option("--replace", help="close a candidate that waits for review first")] = False,
) -> None:
    """Edit the queued corrections in, evaluate, gate, and ask for review; what the schedule does, now."""
    from flows.operate import run_refresh

    tell_outcome(run_refresh(console, replace=replace))


@review_app.callback()
def review_list(context: typer.Context) -> None:
    """List the candidates that wait for a person."""
    if context.invoked_subcommand:
        return
    from tasks.reviews import review_runs

    settings = read_settings()
    table = Table("candidate", "version", "new facts", "opened", "run")
    for standing in open_ledger().standings("candidate", states=["opened"]):
        runs = [
            f"{settings.prefect_ui_url}/runs/flow-run/{run.id} ({run.state_name})" for run in review_runs(standing.key)
        ]
        new = ", ".join(standing.content["new"])
        table.add_row(
            standing.key[:12], standing.content["version"], new, f"{standing.at:%Y-%m-%d %H:%M}", "\n".join(runs)
        )
    console.print(table)


@review_app.command()
def show(candidate: Annotated[str, typer.Argument(help="its digest or the beginning of it")] = "") -> None:
    """Print the evidence that the form in the Prefect UI shows."""
    from rich.markdown import Markdown

    from flows.operate import open_candidate_named
    from tasks.evidence import evidence
    from tasks.store import Store

    settings, ledger = read_settings(), open_ledger()
    digest = open_candidate_named(candidate, ledger)
    console.print(Markdown(evidence(digest, settings=settings, store=Store(settings), ledger=ledger)))


@review_app.command()
def approve(
    reviewer: Annotated[str, typer.Option(help="your name")],
    candidate: Annotated[str, typer.Argument(help="its digest or the beginning of it")] = "",
    comment: Annotated[str, typer.Option(help="kept with the decision")] = "",
) -> None:
    """Approve the open candidate: it becomes the next release."""
    _decide(candidate, decision="approve", reviewer=reviewer, comment=comment)


@review_app.command()
def reject(
    reviewer: Annotated[str, typer.Option(help="your name")],
    comment: Annotated[str, typer.Option(help="why; kept with the decision")],
    candidate: Annotated[str, typer.Argument(help="its digest or the beginning of it")] = "",
) -> None:
    """Reject the open candidate: its new facts are rejected with the comment, everything is kept."""
    _decide(candidate, decision="reject", reviewer=reviewer, comment=comment)


def _decide(candidate: str, *, decision: str, reviewer: str, comment: str) -> None:
    from flows.operate import decide

    ledger = open_ledger()
    tell_outcome(decide(console, candidate, decision=decision, reviewer=reviewer, comment=comment, ledger=ledger))
