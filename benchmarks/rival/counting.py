"""Our side's seconds and steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What some work gave, and what it took.

    Attributes:
        found: its result.
        seconds: by the clock.
        processor: seconds of the processor.
        steps: of Adam, summed over all rows that were optimised; a row that has left the batch has no gradient.
    """

    found: Any
    seconds: float
    processor: float
    steps: int


def counted(work: Callable[[], Any]) -> Counted:
    steps = 0

    def stepped(optimizer, _args, _kwargs):
        nonlocal steps
        (rows,) = optimizer.param_groups[0]["params"]
        steps += int(rows.grad.flatten(1).any(dim=1).sum())

    hook = register_optimizer_step_post_hook(stepped)
    began = time.perf_counter(), time.process_time()
    found = work()
    seconds, processor = time.perf_counter() - began[0], time.process_time() - began[1]
    hook.remove()
    return Counted(found=found, seconds=seconds, processor=processor, steps=steps)
