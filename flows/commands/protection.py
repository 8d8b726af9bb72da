"""Commands for whoever guards facts that must never change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.commands.terminal import console, open_ledger, read_settings, signed

app = typer.Typer()

Reason = Annotated[str, typer.Option(help="kept in the ledger")]


@app.command()
def protect(
    file: Annotated[Path, typer.Argument(help="facts as .jsonl, .csv or .yaml, written like corrections")],
    reason: Reason = "",
) -> None:
    """Protect facts: no correction may contradict them, and every candidate is asked whether it still says them."""
    from tasks import protect as verb
    from tasks.asking import to_protect

    act = signed(to_protect(file, reason=reason))
    new = verb.protect(file, act=act, reason=reason, ledger=open_ledger(), settings=read_settings())
    console.print(f"{len(new)} protected: {escape(', '.join(fact.id for fact in new)) or 'all of them were already'}")


@app.command()
def protected() -> None:
    """List the facts that are protected, by whom and why."""
    table = Table("fact", "", "since", "by", "why")
    for s in open_ledger().standings("protected", states=["protected"]):
        table.add_row(s.key, escape(s.fact), f"{s.at:%Y-%m-%d %H:%M}", escape(s.actor), escape(s.reason))
    console.print(table)


@app.command()
def lift(
    fact: Annotated[str, typer.Argument(help="its id, as 'corrigenda protected' shows it")],
    reason: Reason = "",
) -> None:
    """Let a protected fact be corrected again."""
    from tasks import protect as verb
    from tasks.asking import to_lift

    ledger = open_ledger()
    act = signed(to_lift(ledger, fact, reason=reason))
    verb.lift(fact, act=act, reason=reason, ledger=ledger, settings=read_settings())
    console.print(f"{escape(fact)} is no longer protected")
