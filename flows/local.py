"""The local stack as an operator starts it: `infra`'s servers and runners, the ledger's tables, and who is trusted.

The first start enrols the review service and whoever runs it, under the stack's own root. A stack whose root was moved
elsewhere, or that is set to another one, enrols nobody.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

from flows.trust import enrol_all_first
from infra.settings import StackSettings
from infra.stack import Stack, start
from tasks.ledger import Ledger
from tasks.roots import PRIVATE
from tasks.settings import Settings


def start_stack(home: Path, *, report: Callable[[str], None], settings: StackSettings | None = None) -> Stack:
    """Start what isn't running, and bring the ledger's tables up to date.

    Raises:
        StackError: a part can't be started; the message names it.
    """
    return start(home, report=report, settings=settings, prepare=lambda stack: prepare(stack, report=report))


def prepare(stack: Stack, *, report: Callable[[str], None]) -> None:
    """Bring the ledger's tables up to date, and enrol the review service and the first administrator."""
    ledger = Ledger(stack.database_url)
    ledger.migrate()
    promoter = tomllib.loads((stack.home / "credentials" / "promoter.toml").read_text(encoding="utf-8"))
    own = {"home": stack.home, "trust": stack.home / "trust", "root_fingerprint": stack.root_fingerprint, **promoter}
    settings = Settings.model_validate(own)
    if (settings.trust_folder / PRIVATE).is_file():
        enrol_all_first(ledger, settings, report=report)
