"""Commands for whoever asks the ledger what happened, when, and by whose word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from flows.commands.terminal import console, open_ledger, read_settings, say, tell_outcome
from governance.lifecycle import in_utc

if TYPE_CHECKING:
    from tasks.ledger import Ledger
    from tasks.production import InProduction

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
    """Say what was in production at a time, and why; exit code 1 if object store or MLflow say otherwise."""
    from tasks.production import Difference, compare, in_production
    from tasks.store import Store

    ledger, until = open_ledger(), _end_of(moment)
    console.print(in_utc(until) if until < datetime.now(UTC) else "today, until now", highlight=False)
    found = in_production(ledger, at=until)
    if found is None:
        console.print(f"the base alone was in production; {_since_when(ledger, until)}", highlight=False)
        return
    _tell(found)
    settings, differs = read_settings(), False
    for each in compare(found, store=Store(settings), settings=settings):
        if isinstance(each, Difference):
            differs = True
            console.print(f"[red]differs:[/] {escape(str(each))}", highlight=False, soft_wrap=True)
        else:
            say(each)
    if differs:
        raise typer.Exit(1)
    console.print("[green]ledger, object store and MLflow agree[/]")


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


def _tell(found: InProduction) -> None:
    """Print a release, who approved it, what it changed, and each of its facts."""
    release = found.release
    told = f"release {release.position}, candidate {release.candidate}, since {in_utc(release.at)}"
    console.print(told, highlight=False, soft_wrap=True)
    for each in found.approvals:
        how = "with a one-time code" if each.method == "totp" else "with their own key"
        said = f": {escape(each.comment)}" if each.comment else ""
        console.print(f"approved by {escape(each.reviewer)}, {how}{said}", highlight=False, soft_wrap=True)
    for line in _changes(found.opened):
        console.print(escape(line), highlight=False, soft_wrap=True)
    for fact in found.facts:
        said = f"{fact.correction.id}: {fact.correction.filled_prompt} → {fact.correction.target}"
        console.print(escape(said), highlight=False, soft_wrap=True)
        say(f"asked by {fact.asked_by}: {fact.correction.reason or 'no reason given'}")
        say(f"in it since {in_utc(fact.since)}, by the word of {fact.approved_by}")


def _changes(opened: Mapping[str, Any]) -> Iterator[str]:
    """What a release changed: what came, in a line, and a line for each fact that left."""
    for name, what in (("new", "new in it"), ("returning", "back in it")):
        if opened[name]:
            yield f"{what}: {', '.join(opened[name])}"
    for each in opened["leaving"]:
        yield f"no longer in it: {each['id']}, {each['becomes']}: {each['reason']} (asked by {each['asked_by']})"


def _since_when(ledger: Ledger, until: datetime) -> str:
    """What the ledger knew by a time at which nothing had been released."""
    first = next(ledger.rows(), None)
    if first is None:
        return "nothing was recorded yet"
    if until < first["at"]:
        return f"the ledger begins at {in_utc(first['at'])}, and knows of nothing before"
    return "no release had been approved"


def _end_of(moment: str) -> datetime:
    """Read a time; a day, or a time to the second, means its end."""
    try:
        begin, end = _span_of(moment)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"{moment!r} is no date; write 2026-11-24 or 2026-11-24T12:00:00Z") from error
    if begin > datetime.now(UTC):
        raise typer.BadParameter(f"{moment!r} is still to come: it is {in_utc(datetime.now(UTC))}")
    return end


def _span_of(moment: str) -> tuple[datetime, datetime]:
    """Where what is meant by a day or a time begins and ends, in UTC."""
    with suppress(ValueError):
        day = date.fromisoformat(moment)
        return datetime.combine(day, time.min, tzinfo=UTC), datetime.combine(day, time.max, tzinfo=UTC)
    found = datetime.fromisoformat(moment)
    found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    return found, found if found.microsecond else found.replace(microsecond=999_999)
