"""Notices: a stand-in that writes to the log; branch `notices` brings the file that takes its place."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from tasks.ledger import Ledger

logger = logging.getLogger(__name__)


def tell(kind: str, *, candidate: str = "", text: str, ledger: Ledger, data: Mapping[str, Any] | None = None) -> None:
    """Write to the log that something happened."""
    logger.info("%s %s: %s", kind, candidate[:12], text)
