"""Commands for what a service runs: pin it in the lock file, and see how far behind it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.commands.terminal import console, say

if TYPE_CHECKING:
    from consuming.pinning import Lagging

app = typer.Typer()


@app.command()
def lock(names: Annotated[list[str], typer.Argument(help="model@alias or model/number")]) -> None:
    """Pin names to the releases that they stand for now, in corrigenda.lock, which is meant to be committed."""
    import corrigenda

    corrigenda.lock(names, report=say)


@app.command()
def outdated() -> None:
    """Show what the lock file pins beside what each name stands for now.

    Exit code 1 if a name stands for something else, or a fact of what is pinned was revoked or has expired since; 2 if
    that can't be told.
    """
    import corrigenda

    try:
        found = corrigenda.outdated()
    except (corrigenda.ReleaseError, OSError) as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
    table = Table("name", "pinned", "released", "now", "released", "facts")
    for each in found:
        table.add_row(*map(escape, _row(each)))
    console.print(table)
    for each in found:
        for line in each.gone:
            told = escape(f"{each.name} is pinned to a release with a fact that no longer holds: {line}")
            console.print(f"[bold red]{told}[/]", highlight=False, soft_wrap=True)
    if any(each.outdated for each in found):
        console.print("'corrigenda lock NAME' moves an entry to what its name stands for now", highlight=False)
        raise typer.Exit(1)


def _row(each: Lagging) -> list[str]:
    now = each.now.release
    assert now is not None, "only releases are named"
    facts = " ".join(f"{sign}{len(ids)}" for sign, ids in (("+", each.added), ("-", each.withdrawn)) if ids)
    same = each.now.candidate == each.pin.candidate
    there = ["the same", ""] if same else [str(now["position"]), _day(now["approved"])]
    return [each.name, str(each.pin.position), _day(each.approved), *there, facts]


def _day(approved: str) -> str:
    return approved[:16].replace("T", " ")
