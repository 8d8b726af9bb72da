"""What the comparison says: each goal beside what was reached, and what each editor's model answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from benchmarks.outcome import Outcome
from editors.measuring import SCORED
from editors.metrics import HOWS, SCORE

GOAL_OWN, GOAL_SAME, COSINE, INFERIOR, RECORDS = 15.0, 5.0, 0.995, -2.0, 100


def outcomes_of(figures: Mapping[str, Any]) -> list[Outcome]:
    """Return what, goal, reached, met and setting of each row that was measured."""
    return [*_speeds(figures), *(_scores(figures["score"]) if "score" in figures else [])]


def answers_of(score: Mapping[str, Any]) -> Table:
    """Return what every editor's model makes of the records, as a table."""
    title = f"{score['records']} records: by log-probability, argmax and generation, in %"
    table = Table("editor", *SCORED, SCORE, "perplexity", title=title)
    for editor, figures in score["editors"].items():
        shares = {(each["name"], each["how"]): each["edited"] for each in figures["metrics"]}
        cells = [" / ".join(_percent(shares[kind, how]) for how in HOWS) for kind in (*SCORED, SCORE)]
        table.add_row(editor, *cells, f"{figures['perplexity']:.2f}")
    return table


def _speeds(figures: Mapping[str, Any]) -> Iterator[Outcome]:
    for name in ("joint", "memit"):
        if own := figures.get("own settings"):
            met = own[name]["reached"] >= GOAL_OWN
            yield Outcome(
                what=f"v* of a fact, ours as {name} at its defaults, the published code at its own settings",
                goal=f">= {GOAL_OWN:.0f} x faster",
                reached=_times(own[name], own["published"]),
                met=met,
                setting=f"{_steps(own[name], own)}; {own['setting']['published']}; {own['measured']}",
            )
    if same := figures.get("same maths"):
        least, median = same["cosine"]["least"], same["cosine"]["median"]
        yield Outcome(
            what="v* of a fact, same settings and maths at one site",
            goal=f">= {GOAL_SAME:.0f} x faster, cosine > {COSINE}",
            reached=f"{_times(same['ours'], same['published'])}; cosine at least {least:.4f}, median {median:.4f}",
            met=same["ours"]["reached"] >= GOAL_SAME and least > COSINE,
            setting=f"{_steps(same['ours'], same)}; {same['setting']['contexts']} contexts, the same tokens in front, "
            f"layer {same['setting']['layer']}, our lengths told to the published code subject by subject; "
            f"{same['measured']}",
        )


def _scores(score: Mapping[str, Any]) -> Iterator[Outcome]:
    for name, rivals in score["differences"].items():
        for rival, points in rivals.items():
            yield Outcome(
                what=f"score of {name} less that of {rival}",
                goal=f"> {INFERIOR:.0f} points, on {RECORDS} records or more",
                reached=f"{points['value']:+.1f} points ({points['low']:+.1f} to {points['high']:+.1f})",
                met=points["low"] > INFERIOR and score["records"] >= RECORDS,
                setting=f"{score['records']} records in one batch, the same second moments, paired by record, 95 %; "
                f"{score['measured']}",
            )


def _times(ours: Mapping[str, float], rival: Mapping[str, float]) -> str:
    return (
        f"{ours['reached']:.1f} x ({ours['seconds']:.2f} s against {rival['seconds']:.2f} s; "
        f"{ours['reached in processor time']:.1f} x in processor time)"
    )


def _steps(ours: Mapping[str, float], row: Mapping[str, Any]) -> str:
    rival = row["published"]
    return f"{rival['facts']} facts; steps run {ours['steps run']:.1f} against {rival['steps run']:.1f}"


def _percent(estimate: Mapping[str, float] | None) -> str:
    return "-" if estimate is None else f"{100 * estimate['value']:.1f}"
