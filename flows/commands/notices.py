"""Commands for the operator who sees to it that people and programs are told."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.commands.terminal import console, open_ledger, read_settings
from governance.lifecycle import in_utc

app = typer.Typer()
notices_app = typer.Typer(help="See what was told, and set who is told.", invoke_without_command=True)
app.add_typer(notices_app, name="notices")

COLOURS = {"sent": "green", "failed": "red", "due": "yellow"}


@notices_app.callback()
def notices_list(context: typer.Context) -> None:
    """List what was told, and what became of it."""
    if context.invoked_subcommand:
        return
    table = Table("since", "what", "state", "why", "text")
    for s in open_ledger().standings("notice"):
        notice = s.content["notice"]
        why = "" if s.state == "due" else escape(s.reason)
        state = f"[{COLOURS[s.state]}]{s.state}[/]"
        table.add_row(in_utc(s.at), notice["kind"], state, why, escape(notice["text"]))
    console.print(table)
    if not read_settings().webhook_url:
        console.print("no webhook is set (CORRIGENDA_WEBHOOK_URL); all of it goes to Prefect")


@notices_app.command()
def resend() -> None:
    """Send again what is due or failed; exit code 1 unless all of it is sent."""
    from tasks.notices import resend as send_again

    stood = send_again(open_ledger())
    for s in stood:
        console.print(f"{s.content['notice']['kind']}: {s.state}, {escape(s.reason)}", highlight=False)
    if any(s.state != "sent" for s in stood):
        raise typer.Exit(1)


@notices_app.command()
def automation(
    block: Annotated[str, typer.Option(help="a notification block of Prefect's as type/name")] = "",
) -> None:
    """Make Prefect's automation that passes notices on, and set through which block."""
    from tasks.automation import NAME, ensure_automation
    from tasks.prefect_api import prefect_client

    with prefect_client() as client:
        found = ensure_automation(client, block=block)
    console.print(f"{NAME}: {read_settings().prefect_ui_url}/automations/automation/{found}", highlight=False)
