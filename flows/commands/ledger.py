"""Commands for whoever asks the ledger what happened, when, and by whose word."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.commands.terminal import console, open_ledger, read_settings, tell_outcome
from tasks.lifecycle import in_utc

app = typer.Typer()
ledger_app = typer.Typer(help="Check the ledger, and ask what it knows.", no_args_is_help=True)
app.add_typer(ledger_app, name="ledger")


@app.command()
def reconcile() -> None:
    """Put right what a crash left between ledger, MLflow and store; exit code 1 if something is left for a person."""
    from flows.operate import run_deployed

    tell_outcome(run_deployed("reconcile", console))


@ledger_app.command()
def verify() -> None:
    """Check every link of the ledger's chain, and its end against the releases in the object store."""
    from tasks.store import Store

    head = open_ledger().verify(Store(read_settings()).records("releases/"))
    if not head.sequence:
        console.print("whole: nothing was recorded yet")
        return
    console.print(f"whole: {head.sequence:,} events, the newest of {in_utc(head.at)}", highlight=False)
    console.print(f"head {head.digest}", highlight=False)


@ledger_app.command()
def show(
    key: Annotated[str, typer.Argument(metavar="ID", help="of a correction, candidate or refresh, or its beginning")],
) -> None:
    """Show everything that happened to one thing: when, by whom and why."""
    ledger = open_ledger()
    for entity, found in ledger.find(key):
        console.print(f"{entity} {escape(found)}", highlight=False)
        table = Table("event", "when", "became", "by", "why")
        for event in ledger.history(entity, found):
            who, why = escape(event["actor"]), escape(event["reason"])
            table.add_row(str(event["seq"]), in_utc(event["at"]), event["kind"], who, why)
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
    console.print(in_utc(until), highlight=False)
    if release is None:
        console.print("the base was in production; no release had been approved")
        return
    console.print(f"release {release.position}, candidate {release.candidate}", highlight=False)
    table = Table("correction", "fact", "since", "approved by")
    for s in ledger.standings("correction", states=["released"], as_of=until):
        table.add_row(s.key, escape(s.fact), in_utc(s.at), escape(s.actor))
    console.print(table)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="a new folder, or an earlier report, which is replaced")],
) -> None:
    """Write the history as pages to look at: releases, facts, metrics over releases, who decided what."""
    from editors.folders import whole_folder
    from tasks.site import CARD, site
    from tasks.store import Store

    with whole_folder(folder, card=CARD) as built, console.status("reading") as status:
        pages = site(
            open_ledger(),
            Store(read_settings()),
            progress=lambda what, done, total: status.update(f"{what}: {done} of {total}"),
        )
        for path, content in pages:
            (built / path).parent.mkdir(exist_ok=True)
            (built / path).write_bytes(content)
    console.print(f"[green]written[/] {folder / 'index.html'}", highlight=False, soft_wrap=True)


def _end_of(moment: str) -> datetime:
    """Read a time; a day, or a time to the second, means its end."""
    try:
        if len(moment) == len("2026-11-24"):
            return datetime.combine(date.fromisoformat(moment), time.max, tzinfo=UTC)
        found = datetime.fromisoformat(moment)
    except ValueError as error:
        raise typer.BadParameter(f"{moment!r} is no date; write 2026-11-24 or 2026-11-24T12:00:00Z") from error
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return found if found.microsecond else found.replace(microsecond=999_999)
