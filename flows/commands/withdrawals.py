"""Commands for the operator who takes facts back, or production to where it was."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.terminal import console, open_ledger, signed, tell_outcome

app = typer.Typer()

Reason = Annotated[str, typer.Option(help="why; kept in the ledger, and shown to the reviewer")]
Replace = Annotated[bool, typer.Option("--replace", help="close a candidate that waits for review first")]


@app.command()
def revoke(
    facts: Annotated[list[str], typer.Argument(metavar="ID...", help="as 'corrigenda corrections' shows them")],
    reason: Reason,
    restore: Annotated[bool, typer.Option("--restore", help="let the facts that these superseded hold again")] = False,
    replace: Replace = False,
) -> None:
    """Take released facts back: solve the version without them, gate it, and ask for review.

    A fact that is held or superseded is not in production, and is revoked at once.
    """
    from tasks.asking import to_revoke

    act = signed(to_revoke(open_ledger(), facts, reason=reason, restore=restore, replace=replace))
    _run("revoke", facts=facts, reason=reason, act=act, restore=restore, replace=replace)


@app.command()
def expire(replace: Replace = False) -> None:
    """Take the facts back whose time has ended, and ask for review; what the schedule does, now."""
    _run("expire", replace=replace)


@app.command()
def rollback(
    position: Annotated[int, typer.Argument(metavar="RELEASE", min=0, help="its number; 0 is the base")],
    reason: Reason,
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="solve it again, without the facts that were revoked or expired since")
    ] = False,
    replace: Replace = False,
) -> None:
    """Go back to an earlier release with its own patch, gate it, and ask for review.

    Facts released since become held; 'corrigenda retry' queues one again. See 'corrigenda releases'.
    """
    from tasks.asking import to_roll_back

    act = signed(to_roll_back(open_ledger(), position, reason=reason, leave_out=leave_out, replace=replace))
    _run("rollback", position=position, reason=reason, act=act, leave_out=leave_out, replace=replace)


def _run(flow: str, **parameters: object) -> None:
    from flows.operate import run_deployed

    tell_outcome(run_deployed(flow, console, **parameters))
