"""The page of a candidate: its verdict as one HTML file that anybody can open, keep and send.

It loads nothing and runs nothing; everything that came with a request is data, and escaped. The same report and verdict
give the same page.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from tasks.describe import asked
from tasks.gate import Verdict
from tasks.measures import measure
from tasks.policy import in_words
from tasks.report import Answer, Metric, Report

MODELS = {"before": ("base", "#9aa4af"), "parent": ("production", "#4f81bd"), "after": ("now", "#1a7f37")}
OF_NEIGHBOURS = ("argmax", "kept", "kl_median")


def page(report: Report, verdict: Verdict, *, title: str) -> str:
    """Return a report and its verdict as one HTML file."""
    return _template().render(
        title=title,
        report=report,
        verdict=verdict,
        relations=_relations(report),
        failing=_failing(report),
        pictures={"metrics": as_data(bars(report.metrics))},
        in_words=in_words,
        asked=asked,
        should_be=_should_be,
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("tasks"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.jinja")


def _relations(report: Report) -> Mapping[str, Mapping[str, Metric]]:
    """What became of the neighbours of each relation, the most changed first."""
    groups: dict[str, list[Answer]] = defaultdict(list)
    for answer in report.of_kind("specificity"):
        groups[answer.relation].append(answer)
    rows = {
        name: {how: measure(f"specificity.{how}", own) for how in OF_NEIGHBOURS} for name, own in sorted(groups.items())
    }
    return dict(sorted(rows.items(), key=lambda row: row[1]["argmax"].after or 0))


def _failing(report: Report) -> Mapping[str, Sequence[Answer]]:
    """The answers that are not as they should be, by kind; neighbours that move most first."""
    found: dict[str, list[Answer]] = defaultdict(list)
    for answer in report.answers:
        if answer.kind == "specificity":
            lost = bool(answer.before.generation) and not answer.after.generation
            if lost or answer.after.argmax is False:
                found[answer.kind].append(answer)
        elif not answer.after.generation:
            found[answer.kind].append(answer)
    found.get("specificity", []).sort(key=lambda answer: -(answer.after.kl or 0))
    return found


def bars(metrics: Mapping[str, Metric]) -> Figure:
    """Draw every share: a bar for each model, and the interval of the patched one."""
    shares = {name: m for name, m in metrics.items() if m.misses is not None and m.count}
    figure = Figure(figsize=(11, 1.5 + 0.55 * len(shares)), layout="constrained")
    axes = figure.subplots()
    for place, (model, (label, colour)) in enumerate(MODELS.items()):
        values = [getattr(metric, model) or 0 for metric in shares.values()]
        axes.barh([row + 0.27 * (place - 1) for row in range(len(shares))], values, 0.25, color=colour, label=label)
    for row, metric in enumerate(shares.values()):
        if metric.low is not None and metric.high is not None:
            axes.plot([metric.low, metric.high], [row + 0.27] * 2, color="black", linewidth=1.2)
    axes.set_yticks(range(len(shares)), list(shares))
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("share of the prompts that are as they should be; the line is the 95 % interval over facts")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(MODELS), frameon=False)
    return figure


def _should_be(answer: Answer) -> str:
    """What a prompt should be answered with."""
    return f"not {answer.target}" if answer.kind == "absence" else answer.target or "as before"


def as_data(figure: Figure) -> str:
    """A figure as the address of an SVG picture that holds itself; the same figure gives the same bytes."""
    picture = BytesIO()
    with rc_context({"svg.hashsalt": "corrigenda", "svg.fonttype": "path"}):
        FigureCanvasSVG(figure).print_svg(picture, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(picture.getvalue()).decode()
