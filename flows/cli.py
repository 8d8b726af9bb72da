"""The command line: `corrigenda --help`. The commands are in flows/commands, a file for each part of the work.

Nothing heavy is imported before a command needs it. An error that a user can act on is one line and exit code 1; Ctrl-C
is 130; a wrong call is 2.
"""

from __future__ import annotations

import os
import sys

import typer
from rich.console import Console
from rich.markup import escape

from flows.commands import (
    audit,
    corrections,
    engine,
    ledger,
    notices,
    pinning,
    policies,
    protection,
    releases,
    reviews,
    serving,
    stack,
    trust,
    withdrawals,
)
from flows.commands.terminal import console

app = typer.Typer(
    help="Governed knowledge updates for language models: from a correction to a reviewed, registered version.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for part in (
    stack,
    corrections,
    protection,
    policies,
    reviews,
    withdrawals,
    releases,
    pinning,
    serving,
    notices,
    ledger,
    audit,
    trust,
    engine,
):
    app.add_typer(part.app)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except KeyboardInterrupt:
        console.print("[yellow]stopped[/]")
        sys.exit(130)
    except Exception as error:
        if not _is_ours(error):
            raise
        told = escape(_printable(str(error)))
        Console(stderr=True).print(f"[bold red]error:[/] {told}", highlight=False, soft_wrap=True)
        sys.exit(1)


@app.callback()
def connected() -> None:
    """Point everything to the services that the settings name, before any of their clients is imported."""
    from tasks.settings import connect

    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")  # runs log to the server
    connect()


def _printable(text: str) -> str:
    """A message without what steers a terminal: it may name a file as somebody else called it."""
    return "".join(letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text)


def _is_ours(error: Exception) -> bool:
    """Whether a user can act on it: our own errors, and a disk that is full or a file that can't be opened."""
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(
        names
        & {
            "CorrigendaError",
            "ReleaseError",
            "EditorError",
            "StackError",
            "CorrectionFileError",
            "OSError",
            "ValidationError",
        }
    )
