"""What `corrigenda benchmark` shows: progress while it runs, then metrics, rounds, seconds and memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bars
from rich.progress import TaskID
from rich.table import Table

from editors.benchmark import EVALUATION, BenchmarkReport
from editors.decoding import Progress
from editors.metrics import HOWS, SCORE, Estimate, Metric
from tasks.benchmark import Benchmark


@contextmanager
def bars(console: Console) -> Iterator[Progress]:
    """Give a progress callback that shows a bar for each kind of work, and takes them away in the end."""
    with Bars(console=console, transient=True) as shown:
        tasks: dict[str, TaskID] = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what)
            shown.update(tasks[what], completed=done, total=total)

        yield told


def show(found: Benchmark, console: Console) -> None:
    """Print what a benchmark found."""
    report, setting = found.report, found.setting
    for line in report.left_out:
        console.print(f"[yellow]left out:[/] {escape(line)}", highlight=False)
    last = report.rounds[-1]
    console.print(_metrics(report, title=f"{setting['method']}, {last.facts} facts of {setting['data']}"))
    if len(report.rounds) > 1:
        title = "each round edits the edited model" if setting["sequential"] else "each round edits the base"
        console.print(_rounds(report, title=title))
    console.print(_seconds(report))
    peaks = ", ".join(f"{name} {peak / 2**30:.2f} GiB" for name, peak in found.memory.items())
    machine = setting["machine"]
    console.print(
        f"peak memory: {peaks}; the unedited model was asked for {report.seconds:.1f} s; "
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}",
        highlight=False,
    )


def _metrics(report: BenchmarkReport, *, title: str) -> Table:
    last = report.rounds[-1]
    table = Table("metric", "how", "unedited", "edited (95 %)", "prompts", title=title)
    for metric in last.metrics:
        table.add_row(*_row(metric), end_section=metric.name == SCORE)
    for name, value in (("median", last.drift.median), ("95th percentile", last.drift.p95)):
        text = "-" if value is None else f"{value:.4f} nats"
        table.add_row("KL at neighbours", name, "0", text, f"{last.drift.count}")
    tokens = f"{last.text.tokens} tokens"
    table.add_row("perplexity", "held text", f"{report.unedited.value:.2f}", f"{last.text.value:.2f}", tokens)
    return table


def _row(metric: Metric) -> tuple[str, str, str, str, str]:
    unedited = "-" if metric.unedited is None else f"{100 * metric.unedited.value:.1f}"
    count = f"{metric.count} records" if metric.name == SCORE else f"{metric.count}"
    return metric.name, metric.how, unedited, _with_interval(metric.edited), count


def _with_interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return f"{100 * estimate.value:.1f} ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def _rounds(report: BenchmarkReport, *, title: str) -> Table:
    table = Table("facts", *(f"{SCORE}, {how}" for how in HOWS), "perplexity", "KL, median", "edit, s", title=title)
    for each in report.rounds:
        scores = [each.metric(SCORE, how).edited for how in HOWS]
        table.add_row(
            f"{each.facts}",
            *("-" if score is None else f"{100 * score.value:.1f}" for score in scores),
            f"{each.text.value:.2f}",
            "-" if each.drift.median is None else f"{each.drift.median:.4f}",
            f"{sum(seconds for stage, seconds in each.seconds.items() if stage != EVALUATION):.1f}",
        )
    return table


def _seconds(report: BenchmarkReport) -> Table:
    """Seconds of all rounds together; a fact costs an edit once, and the evaluation each time it is asked about."""
    total: Counter[str] = Counter()
    for each in report.rounds:
        total.update(each.seconds)
    edited, asked = report.rounds[-1].facts, sum(each.asked for each in report.rounds)
    table = Table("stage", "seconds", "a fact", title="seconds" if len(report.rounds) == 1 else "seconds of all rounds")
    for stage, seconds in total.items():
        table.add_row(stage, f"{seconds:.2f}", f"{seconds / (asked if stage == EVALUATION else edited):.3f}")
    return table
