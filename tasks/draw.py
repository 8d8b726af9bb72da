"""Draws traces: a heatmap of layers and tokens for each kind, and curves with their intervals for averages.

White is no effect or a harmful one, as in the paper's figures; the data keep the sign. Agg draws without a display.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from editors.atomic import write_atomically
from editors.roles import ROLES, AverageTrace
from editors.tracing import Trace

TITLES = {
    "hidden": "hidden state, one layer",
    "mlp": "MLP output, {} layers",
    "attention": "attention output, {} layers",
}
COLOURS = {"hidden": "Purples", "mlp": "Greens", "attention": "Reds"}
DOTS_PER_INCH = 120


def draw_trace(path: Path, trace: Trace) -> None:
    """Draw the trace of one prompt; the subject's tokens are marked with *."""
    labels = [f"{token}*" if place in trace.subject else token for place, token in enumerate(trace.tokens)]
    figure = Figure(figsize=(15, 1.6 + 0.32 * len(labels)), layout="constrained", dpi=DOTS_PER_INCH)
    figure.suptitle(
        _plain(f"P({trace.answer.strip()}) is {trace.clean:.2f}, {trace.corrupted:.2f} with the subject hidden")
    )
    for axes, (kind, effects) in zip(figure.subplots(1, len(trace.effects)), trace.effects.items(), strict=True):
        _heatmap(figure, axes, effects.T, kind, labels=labels, found=trace)
    save_figure(figure, path)


def draw_average(path: Path, average: AverageTrace) -> None:
    """Draw the mean effects by role and layer as heatmaps, and below them as curves with their 95 % intervals."""
    labels = [f"{role} ({count})" for role, count in zip(ROLES, average.counts, strict=True)]
    figure = Figure(figsize=(16, 8), layout="constrained", dpi=DOTS_PER_INCH)
    chances = f"P(answer) is {average.clean:.2f}, {average.corrupted:.2f} with the subject hidden"
    figure.suptitle(f"{average.facts} known facts: {chances}")
    maps, curves = figure.subplots(2, len(average.effects), height_ratios=(2, 3))
    for heat, curve, (kind, found) in zip(maps, curves, average.effects.items(), strict=True):
        _heatmap(figure, heat, found.mean, kind, labels=labels, found=average)
        for role, mean, low, high in zip(ROLES, found.mean, found.low, found.high, strict=True):
            (line,) = curve.plot(average.layers, mean.tolist(), label=role)
            curve.fill_between(average.layers, low.tolist(), high.tolist(), color=line.get_color(), alpha=0.15)
        curve.set_xlabel("layer")
        curve.set_ylabel("mean indirect effect, 95 % interval")
    curves[0].legend(fontsize="small")
    save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    picture = BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    write_atomically(path, picture.getvalue())


def _heatmap(
    figure: Figure, axes: Axes, values: Tensor, kind: str, *, labels: Sequence[str], found: Trace | AverageTrace
) -> None:
    half = found.layers.step / 2
    image = axes.imshow(
        values.numpy(),
        extent=(found.layers[0] - half, found.layers[-1] + half, len(labels) - 0.5, -0.5),
        aspect="auto",
        cmap=COLOURS[kind],
        vmin=0,
        interpolation="nearest",
    )
    axes.set_title(TITLES[kind].format(found.window))
    axes.set_yticks(range(len(labels)), [_plain(label) for label in labels])
    axes.set_xlabel("layer at which it is put back")
    axes.set_ylabel("token")
    figure.colorbar(image, ax=axes, label="indirect effect")


def _plain(text: str) -> str:
    """Text in which no $ opens a formula, and white space can be seen."""
    return text.replace("$", r"\$").replace("\n", "↵")
