"""Telling: what a consumer hears while something goes on, a line for each stage."""

from __future__ import annotations

import logging
from collections.abc import Callable

Progress = Callable[[str], None]

log: Progress = logging.getLogger("corrigenda").info
"""Where nothing else is named: to the log, under the name that a program imports."""
