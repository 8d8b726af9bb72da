"""Commands for whoever asks the ledger what happened, when, and by whose word."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.commands.terminal import console, open_ledger, read_settings

app = typer.Typer()
ledger_app = typer.Typer(help="Check the ledger, and ask what it knows.", no_args_is_help=True)
app.add_typer(ledger_app, name="ledger")


@ledger_app.command()
def verify() -> None:
    """Check every link of the ledger's chain, and its end against the releases in the object store."""
    from tasks.store import Store

    records = Store(read_settings()).records("releases/")
    head = open_ledger().verify(records)
    console.print(f"whole: {head.sequence:,} events, the newest of {head.at:%Y-%m-%d %H:%M:%S} UTC", highlight=False)
    console.print(f"head {head.digest}", highlight=False)


@ledger_app.command()
def show(
    key: Annotated[str, typer.Argument(metavar="ID", help="of a correction, candidate or refresh, or its beginning")],
) -> None:
    """Show everything that happened to one thing: when, by whom and why."""
    ledger = open_ledger()
    entity, key = ledger.find(key)
    console.print(f"{entity} {escape(key)}", highlight=False)
    table = Table("event", "when (UTC)", "became", "by", "why")
    for event in ledger.history(entity, key):
        when = event["at"].astimezone(UTC)
        table.add_row(
            str(event["seq"]),
            f"{when:%Y-%m-%d %H:%M:%S}",
            event["kind"],
            escape(event["actor"]),
            escape(event["reason"]),
        )
    console.print(table)


@ledger_app.command("as-of")
def as_of(
    moment: Annotated[
        str, typer.Argument(metavar="DATE", help="2026-11-24, which is the end of that day in UTC, or a time with it")
    ],
) -> None:
    """Say what the model knew at a time, and who approved each fact."""
    ledger, until = open_ledger(), _end_of(moment)
    release = ledger.head(as_of=until)
    console.print(f"{until:%Y-%m-%d %H:%M:%S} UTC", highlight=False)
    if release is None:
        console.print("the base was in production; no release had been approved")
        return
    console.print(f"release {release.position}, candidate {release.candidate}", highlight=False)
    table = Table("correction", "fact", "since (UTC)", "approved by")
    for s in ledger.standings("correction", states=["released"], as_of=until):
        correction = s.content["correction"]
        fact = f"{correction['prompt'].replace('{}', correction['subject'])} → {correction['target']}"
        table.add_row(s.key, escape(fact), f"{s.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}", escape(s.actor))
    console.print(table)


def _end_of(moment: str) -> datetime:
    """Read a time; a day means its end."""
    try:
        day = date.fromisoformat(moment)
        return datetime.combine(day + timedelta(days=1), time(), tzinfo=UTC) - timedelta(microseconds=1)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(moment)
    except ValueError as error:
        raise typer.BadParameter(f"{moment!r} is no date; write 2026-11-24 or 2026-11-24T12:00:00Z") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)
