"""The local stack as an operator starts it: `infra`'s parts, the ledger's tables, and Prefect's automation."""

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
    return start(home, report=report, settings=settings, prepare=_prepare)


def _prepare(stack: Stack) -> None:
    """Do what the runners need done before they start; done again, it changes nothing."""
    from prefect.client.orchestration import SyncPrefectClient

    from tasks.automation import ensure_automation

    Ledger(stack.database_url).migrate()
    with SyncPrefectClient(stack.prefect_api_url) as client:
        ensure_automation(client)
