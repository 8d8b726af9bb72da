"""The machine: what a measurement ran on, and how much memory it took."""

from __future__ import annotations

import platform
import resource
from importlib.metadata import version
from typing import Any

import torch


def machine(device: torch.device) -> dict[str, Any]:
    """What numbers depend on beside settings and data: processor, threads, and the versions of what computes."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "device": gpu or _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("corrigenda", "torch", "transformers")},
    }


def peak_memory(device: torch.device) -> dict[str, int]:
    """The most memory held since the process began, in bytes: of the process, and on a GPU by tensors."""
    peaks = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}  # Linux counts in KiB
    if device.type == "cuda":
        peaks["gpu"] = torch.cuda.max_memory_allocated(device)
    return peaks


def _processor() -> str:
    """The processor's name as Linux gives it; platform.processor() is empty on most of them."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - no file of ours
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()
