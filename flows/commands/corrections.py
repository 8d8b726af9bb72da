"""Commands for whoever submits corrections, and sees where they stand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.commands.terminal import console, open_ledger, read_settings, signed

app = typer.Typer()

COLOURS = {"queued": "cyan", "released": "green", "refused": "red", "rejected": "red", "quarantined": "yellow"}


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(help="corrections as .jsonl, .csv or .yaml; see examples/")],
    as_: Annotated[str, typer.Option("--as", help="who submits; by default the user of this machine")] = "",
) -> None:
    """Submit corrections: each line is accepted or refused with its reason. Submitting twice changes nothing."""
    from flows.submission import submit_file

    fates = submit_file(file, submitter=as_)
    table = Table("line", "correction", "", "why", show_lines=False)
    for line in fates:
        colour = {"queued": "green", "refused": "red"}.get(line.fate, "yellow")
        if line.fate != "queued" or len(fates) <= 100:
            table.add_row(str(line.number), line.key, f"[{colour}]{line.fate}[/]", escape("; ".join(line.reasons)))
    console.print(table)
    refused = sum(line.fate == "refused" for line in fates)
    queued = sum(line.fate == "queued" for line in fates)
    console.print(f"{queued} queued, {refused} refused, {len(fates) - queued - refused} known already")
    if refused:
        raise typer.Exit(1)


@app.command()
def corrections(
    state: Annotated[list[str] | None, typer.Option(help="only those in this state; may be repeated")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """Show where each correction stands, and why."""
    ledger = open_ledger()
    table = Table("correction", "state", "since", "by", "fact", "why")
    for s in ledger.standings("correction", states=state or ()):
        correction = s.content.get("correction", {})
        if as_json:
            row = {"id": s.key, "state": s.state, "since": s.at.isoformat(), "by": s.actor, "why": s.reason}
            row |= {"page": s.data["page"]} if "page" in s.data else {}
            sys.stdout.write(json.dumps(row | {"correction": correction or s.data}) + "\n")
            continue
        fact = s.fact if correction else s.data["text"][:60]
        state_text = f"[{COLOURS.get(s.state, 'white')}]{s.state}[/]"
        why = s.reason[:400] + (f"; see 'corrigenda page {s.key} FILE'" if "page" in s.data else "")
        table.add_row(s.key, state_text, f"{s.at:%Y-%m-%d %H:%M}", escape(s.actor), escape(fact), escape(why))
    if not as_json:
        console.print(table)


@app.command()
def page(
    name: Annotated[str, typer.Argument(help="a quarantined correction's id, or the sha256 that an error names")],
    file: Annotated[Path, typer.Argument(help="what to write, such as why.html")],
) -> None:
    """Write the page of a candidate that failed its gate: every bound and answer, as one HTML file."""
    from consuming.objects import Objects
    from tasks.failed import read_page

    file.write_bytes(read_page(name, ledger=open_ledger(), store=Objects(read_settings())))
    console.print(f"[green]written[/] {file}", highlight=False)


@app.command()
def cancel(
    correction: Annotated[str, typer.Argument(help="its id, as 'corrigenda corrections' shows it")],
    reason: Annotated[str, typer.Option(help="kept in the ledger")] = "",
) -> None:
    """Withdraw a correction that is still queued."""
    from tasks.asking import to_cancel
    from tasks.cancel import cancel as take_back

    ledger = open_ledger()
    act = signed(to_cancel(ledger, correction, reason=reason))
    take_back(ledger, correction, act=act, reason=reason, settings=read_settings())
    console.print(f"{correction} is cancelled")


@app.command()
def retry(
    correction: Annotated[str, typer.Argument(help="its id, as 'corrigenda corrections' shows it")],
    reason: Annotated[str, typer.Option(help="kept in the ledger")] = "",
    steps: Annotated[int | None, typer.Option(min=1, max=200, help="of its value, at most; 20 by default")] = None,
    step_length: Annotated[float | None, typer.Option(min=0.001, max=1, help="of the first; 0.07 by default")] = None,
    clamp: Annotated[float | None, typer.Option(min=0.01, max=10, help="the longest injection; 1.5 by default")] = None,
) -> None:
    """Queue a quarantined or held correction again, with other settings for its value if wanted."""
    from tasks.asking import to_retry
    from tasks.corrections import Editing
    from tasks.retry import retry as queue_again

    given = {"steps": steps, "step_length": step_length, "clamp": clamp}
    changes = {name: value for name, value in given.items() if value is not None}
    editing = Editing.model_validate(changes) if changes else None
    ledger = open_ledger()
    act = signed(to_retry(ledger, correction, reason=reason, editing=editing))
    queue_again(ledger, correction, act=act, reason=reason, editing=editing, settings=read_settings())
    console.print(f"{correction} is queued" + (f" with {changes}" if changes else ""), highlight=False)
