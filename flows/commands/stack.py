"""Commands for the local stack, and the whole way once on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows.commands.terminal import console, home, say

app = typer.Typer()


@app.command()
def up() -> None:
    """Start the local stack: PostgreSQL, S3, Prefect, MLflow and two runners, all on 127.0.0.1."""
    from flows.local import start_stack

    stack = start_stack(home(), report=say)
    console.print(f"Prefect {stack.prefect_ui_url}   MLflow {stack.mlflow_url}   S3 {stack.s3_endpoint}")


@app.command()
def down() -> None:
    """Stop the local stack; its data stay under .corrigenda/."""
    from infra.stack import stop

    stop(home(), report=say)


@app.command()
def status() -> None:
    """Show each part of the local stack; exit code 1 unless all are up."""
    from infra.stack import status as read_status

    parts = read_status(home())
    table = Table("part", "state", "address", "process", "detail")
    for part in parts:
        table.add_row(part.name, part.state, part.address, str(part.pid or ""), part.detail)
    console.print(table)
    if any(part.state != "up" for part in parts):
        raise typer.Exit(1)


@app.command()
def demo(
    corrections: Annotated[Path | None, typer.Option(help="a file of your own instead of the examples")] = None,
    review: Annotated[str, typer.Option(help="'me' stops at the paused run for you to answer")] = "",
) -> None:
    """Do the whole way once: stack, submit, refresh, review, promote, pull, ask."""
    from flows.local import start_stack
    from tasks.settings import connect

    console.rule("[bold]1. the local stack", align="left")
    started = start_stack(home(), report=say)
    connect()
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.demo import run_demo

    with temporary_settings({PREFECT_API_URL: started.prefect_api_url}):  # it read its own before there was a stack
        run_demo(console, corrections=corrections, wait_for_person=review == "me")
