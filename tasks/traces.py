"""Keeps traces as data: one JSON object, with null where there is no number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from editors.atomic import write_atomically
from editors.roles import ROLES, AverageTrace
from editors.tracing import Trace, Tracing


def keep_trace(path: Path, trace: Trace, settings: Tracing) -> None:
    """Write the trace of one prompt: effects by kind, layer and token."""
    _write(
        path,
        {
            "prompt": trace.question.prompt,
            "subject": trace.question.subject,
            "answer": trace.answer,
            "tokens": list(trace.tokens),
            "subject_tokens": list(trace.subject),
            **_common(trace, settings),
            "effects": {kind: _numbers(effects) for kind, effects in trace.effects.items()},
        },
    )


def keep_average(path: Path, average: AverageTrace, settings: Tracing) -> None:
    """Write an average over facts: effects by kind, role and layer, each with its 95 % interval."""
    _write(
        path,
        {
            "facts": average.facts,
            "roles": list(ROLES),
            "facts_with_role": list(average.counts),
            **_common(average, settings),
            "effects": {
                kind: {"mean": _numbers(found.mean), "low": _numbers(found.low), "high": _numbers(found.high)}
                for kind, found in average.effects.items()
            },
        },
    )


def _common(found: Trace | AverageTrace, settings: Tracing) -> dict[str, Any]:
    return {
        "clean": found.clean,
        "corrupted": found.corrupted,
        "noise": found.noise,
        "window": found.window,
        "layers": list(found.layers),
        "samples": settings.samples,
        "seed": settings.seed,
    }


def _numbers(values: Tensor) -> list[list[float | None]]:
    return [[None if number != number else round(number, 6) for number in row] for row in values.tolist()]


def _write(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1).encode())
