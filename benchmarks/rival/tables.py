"""The comparison as two tables: goal, reached and setting; and what each editor's model answers."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

KINDS = ("efficacy", "paraphrase", "neighbourhood", "score")
HOWS = ("logprob", "argmax", "generation")


def show(result: dict[str, Any], *, console: Console) -> None:
    console.print(rows_of(result))
    if "score" in result:
        console.print(answers_of(result["score"]))


def rows_of(result: dict[str, Any]) -> Table:
    goals = result["goals"]
    table = Table("what", "goal", "reached", "setting", title="against the published MEMIT")
    if "own settings" in result:
        own = result["own settings"]
        for name in ("joint", "memit"):
            table.add_row(
                f"v* of a fact, {name} at its defaults",
                f">= {goals['own settings']:.0f} x",
                reached(own[name], own["published"], goals["own settings"]),
                steps(own[name], own),
            )
        same = result["same maths"]
        table.add_row(
            "v* of a fact, same settings and maths, one site",
            f">= {goals['same maths']:.0f} x",
            reached(same["ours"], same["published"], goals["same maths"]),
            steps(same["ours"], same),
        )
        least, median = same["cosine"]["least"], same["cosine"]["median"]
        table.add_row(
            "the same, cosine of the injections",
            f"> {goals['cosine']}",
            coloured(f"at least {least:.4f}, median {median:.4f}", good=least > goals["cosine"]),
            f"{same['setting']['same maths']['contexts']} contexts, BOS on both sides",
        )
    for name, against in result.get("score", {}).get("differences", {}).items():
        for rival, points in against.items():
            table.add_row(
                f"score, {name} less {rival}",
                f"> {goals['score']:.0f} points",
                coloured(
                    f"{points['value']:+.1f} ({points['low']:+.1f} to {points['high']:+.1f})",
                    good=points["low"] > goals["score"],
                ),
                f"{result['score']['records']} records in one batch, same second moments, paired by record",
            )
    return table


def reached(ours: dict[str, float], rival: dict[str, float], goal: float) -> str:
    return coloured(
        f"{ours['reached']:.1f} x ({ours['seconds']:.2f} s against {rival['seconds']:.2f} s; "
        f"{ours['reached in processor time']:.1f} x in processor time)",
        good=ours["reached"] >= goal,
    )


def steps(ours: dict[str, float], row: dict[str, Any]) -> str:
    rival, setting = row["published"], row["setting"]
    return (
        f"{rival['facts']} facts; steps run {ours['steps run']:.1f} against {rival['steps run']:.1f}; "
        f"{setting['threads']} thread(s), torch {setting['torch']}"
    )


def coloured(text: str, *, good: bool) -> str:
    return f"[{'green' if good else 'red'}]{text}[/]"


def answers_of(score: dict[str, Any]) -> Table:
    title = f"{score['records']} records: by log-probability, argmax, generation (%)"
    table = Table("editor", *KINDS, "perplexity", title=title)
    for editor, figures in score["editors"].items():
        shares = {(each["name"], each["how"]): each["edited"] for each in figures["metrics"]}
        cells = [" / ".join(percent(shares[kind, how]) for how in HOWS) for kind in KINDS]
        table.add_row(editor, *cells, f"{figures['perplexity']:.2f}")
    return table


def percent(estimate: dict[str, float] | None) -> str:
    return "-" if estimate is None else f"{100 * estimate['value']:.1f}"
