"""Commands for whoever hands the history to an auditor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.terminal import console, open_ledger, read_settings, say

app = typer.Typer()
audit_app = typer.Typer(help="Hand the whole history to somebody who need not believe anybody.", no_args_is_help=True)
app.add_typer(audit_app, name="audit")


@audit_app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="a new folder, or an earlier export, which is replaced")],
) -> None:
    """Write ledger, releases, receipts, certificates and acts as a folder that 'corrigenda verify' checks offline."""
    from editors.folders import whole_folder
    from governance.evidence import AUDIT
    from tasks.audit import export_audit
    from tasks.store import Store

    settings = read_settings()
    with whole_folder(folder, card=AUDIT) as built, console.status("reading") as status:
        export_audit(
            built,
            ledger=open_ledger(),
            store=Store(settings),
            settings=settings,
            report=say,
            progress=lambda what, done: status.update(f"{what}: {done:,}"),
        )
    console.print(f"[green]written[/] {folder}", highlight=False, soft_wrap=True)
