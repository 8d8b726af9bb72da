"""What all commands share: the terminal they write to, and the settings they read. Nothing heavy is imported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from prefect.states import State

    from governance.acts import Asked
    from tasks.ledger import Ledger
    from tasks.settings import Settings

console = Console()


def tell_outcome(state: State) -> None:
    """Print how a run ended or where it waits; exit with 1 unless it completed."""
    console.print(escape(state.message or str(state.name)))
    if not state.is_completed():
        raise typer.Exit(1)


def signed(asked: Asked) -> dict[str, Any]:
    """Sign what is asked for with the own key of whoever is at the terminal.

    Raises:
        IdentityError: it is not on this machine.
    """
    from tasks.acts import sign_act

    settings = read_settings()
    return sign_act(asked, by=settings.submitter, settings=settings)


def say(line: str) -> None:
    """Print one line of what a longer command is doing."""
    console.print(f"  {escape(line)}", highlight=False)


def read_settings() -> Settings:
    """Read the operator's settings as they are now."""
    from tasks.settings import Settings

    return Settings()


def open_ledger() -> Ledger:
    """Open the ledger that the settings name.

    Raises:
        UnreachableError: they name none.
    """
    from tasks.ledger import Ledger

    return Ledger(read_settings().database_url)


def home() -> Path:
    """The folder of the local stack and of the caches."""
    from consuming.settings import ConsumerSettings

    return ConsumerSettings().home
