"""Where the time goes: seconds by stage, from what long work tells of its progress."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

from editors.decoding import Progress

_STAGES = {"steps of the values": "values", "layers": "solve"}  # other work goes by its own name
_REST = "rest"


class Stopwatch:
    """Adds up the seconds of each stage.

    Attributes:
        seconds: of each stage so far, in the order in which they first ended.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Count the time while the context is open as one stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._add(name, time.perf_counter() - began)

    @contextmanager
    def stages(self, progress: Progress | None = None) -> Generator[Progress]:
        """Give a progress callback: the time before each call counts as the stage that the call tells of.

        What is left when the context closes counts as "rest".

        Args:
            progress: told of everything too.
        """
        began = time.perf_counter()

        def told(what: str, done: int, total: int) -> None:
            nonlocal began
            now = time.perf_counter()
            self._add(_STAGES.get(what, what), now - began)
            if progress is not None:
                progress(what, done, total)
            began = time.perf_counter()

        try:
            yield told
        finally:
            self._add(_REST, time.perf_counter() - began)

    def _add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
