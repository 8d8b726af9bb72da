"""Sweeps over layers: reads the trace that one is compared with, and keeps what was found as JSON and as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from editors.atomic import write_atomically
from editors.roles import ROLES
from editors.sweeping import Sweep, rank_correlation
from tasks.draw import DOTS_PER_INCH, save_figure
from tasks.errors import CorrigendaError

ROLE = "last subject token"
FEWEST_LAYERS = 3  # that a rank correlation is stated over


class TraceFileError(CorrigendaError):
    """A file that isn't an average trace."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path}: {reason}; give the trace.json that `corrigenda locate --data FILE --out FOLDER` keeps"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MlpTrace:
    """An average trace of the MLPs, at the subject's last token.

    Attributes:
        facts: that it is averaged over.
        effects: mean indirect effect around each traced layer.
    """

    facts: int
    effects: Mapping[int, float]

    def foretells(self, found: Sweep) -> Foretold:
        """Return how far it agrees with a sweep's scores."""
        both = [trial for trial in found.trials if trial.layer in self.effects]
        scores, effects = ([trial.shares["score"] for trial in both], [self.effects[trial.layer] for trial in both])
        return Foretold(layers=len(both), correlation=rank_correlation(scores, effects))


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """Spearman's correlation of trace and score, NaN where either is constant, and over how many layers."""

    layers: int
    correlation: float


def read_mlp_trace(path: Path, *, layers: Sequence[int]) -> MlpTrace:
    """Read the average trace that a sweep over some layers is to be compared with.

    Raises:
        TraceFileError: the file can't be read, is no average trace, or has fewer than three of the layers.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        means = kept["effects"]["mlp"]["mean"][ROLES.index(ROLE)]
        effects = {int(layer): float(mean) for layer, mean in zip(kept["layers"], means, strict=True)}
        facts = int(kept["facts"])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise TraceFileError(path, f"it is no average trace ({type(error).__name__}: {error})") from error
    both = len(effects.keys() & set(layers))
    if both < FEWEST_LAYERS:
        raise TraceFileError(
            path, f"it has {both} of the {len(layers)} layers of the sweep; {FEWEST_LAYERS} are needed"
        )
    return MlpTrace(facts=facts, effects=effects)


def keep_sweep(path: Path, found: Sweep, *, setting: Mapping[str, Any], trace: MlpTrace | None) -> None:
    """Write a sweep, its best layer first, with all that it depends on."""
    content = {
        "facts": found.facts,
        "prompts": found.prompts,
        "unedited": _rounded(found.unedited),
        "ranking": [
            {"layer": trial.layer, **_rounded(trial.shares), "kl": asdict(trial.drift)} for trial in found.ranked()
        ],
        "trace": None if trace is None else _compared(trace, found),
        "setting": dict(setting),
    }
    write_atomically(path, json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1).encode())


def draw_sweep(path: Path, found: Sweep, trace: MlpTrace | None) -> None:
    """Draw score and KL by layer, and the trace's curve over them."""
    figure = Figure(figsize=(12, 4.5), layout="constrained", dpi=DOTS_PER_INCH)
    figure.suptitle(f"{found.facts} facts written at one layer alone")
    layers = [trial.layer for trial in found.trials]
    scores, moved = figure.subplots(1, 2)
    for share in found.unedited:
        width = 2.5 if share == "score" else 1
        scores.plot(layers, [100 * trial.shares[share] for trial in found.trials], label=share, linewidth=width)
    scores.axhline(100 * found.unedited["score"], color="grey", linestyle="--", label="score, unedited")
    scores.set(xlabel="layer", ylabel="% by log-probability", ylim=(0, 101))
    scores.legend(fontsize="small")
    for name, values in (
        ("median", [trial.drift.median for trial in found.trials]),
        ("95th percentile", [trial.drift.p95 for trial in found.trials]),
    ):
        moved.plot(layers, [math.nan if value is None else value for value in values], label=name)
    moved.set(xlabel="layer", ylabel="KL at neighbours, nats", yscale="log")
    moved.legend(fontsize="small", loc="lower left")
    if trace is not None:
        traced = scores.twinx()
        traced.plot(list(trace.effects), list(trace.effects.values()), color="black", linestyle=":")
        traced.set_ylabel(f"MLP trace at the {ROLE}, {trace.facts} facts (dotted)")
    save_figure(figure, path)


def _compared(trace: MlpTrace, found: Sweep) -> dict[str, Any]:
    foretold = trace.foretells(found)
    correlation = None if math.isnan(foretold.correlation) else round(foretold.correlation, 6)
    return {**asdict(trace), "layers": foretold.layers, "rank_correlation": correlation}


def _rounded(shares: Mapping[str, float]) -> dict[str, float]:
    return {name: round(share, 6) for name, share in shares.items()}
