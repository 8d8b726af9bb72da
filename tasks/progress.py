"""Progress of long work, as log lines that a person in the UI or at a terminal can follow."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

PAUSE_SECONDS = 3.0

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


def logged(logger: Logger) -> Callable[[str, int, int], None]:
    """A callback that logs `what: done of total`, at most every few seconds, and always the last one."""
    last = -PAUSE_SECONDS

    def progress(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= PAUSE_SECONDS:
            last = now
            logger.info("%s: %d of %d", what, done, total)

    return progress
