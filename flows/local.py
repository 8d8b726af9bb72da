"""The local stack as an operator starts it: `infra`'s servers and runners, and the ledger's tables in the database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from infra.settings import StackSettings
from infra.stack import Stack, start
from tasks.ledger import Ledger


def start_stack(home: Path, *, report: Callable[[str], None], settings: StackSettings | None = None) -> Stack:
    """Start what isn't running, and bring the ledger's tables up to date.

    Raises:
        StackError: a part can't be started; the message names it.
    """
    return start(home, report=report, settings=settings, prepare=lambda stack: Ledger(stack.database_url).migrate())
