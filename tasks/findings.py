"""Findings: what was found wrong between ledger, registry and object store, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tasks.describe import counted, escape
from tasks.ledger import Ledger
from tasks.notices import tell


class Finding(BaseModel):
    """One thing that is not as it should be.

    Attributes:
        what: the fault, as a clause.
        where: the release, candidate, alias, version or run that has it.
        outcome: repaired; left for a person; harmless, such as a version that a killed refresh left and takes up again.
        way_out: what was done, or what a person does.
    """

    model_config = ConfigDict(frozen=True)

    what: str
    where: str
    outcome: Literal["repaired", "left", "harmless"]
    way_out: str

    def __str__(self) -> str:
        return f"{self.outcome}: {self.where}: {self.what}; {self.way_out}"


def repaired(what: str, where: str, done: str) -> Finding:
    """Something that was put right, and how."""
    return Finding(what=what, where=where, outcome="repaired", way_out=done)


def left(what: str, where: str, way_out: str) -> Finding:
    """Something that only a person can put right."""
    return Finding(what=what, where=where, outcome="left", way_out=way_out)


def summary_of(findings: Sequence[Finding]) -> str:
    """How many findings came to what, in a line."""
    if not findings:
        return "ledger, MLflow and object store agree"
    outcomes = [finding.outcome for finding in findings]
    counts = [(outcomes.count(each), each) for each in ("repaired", "harmless")]
    open_ones = [finding for finding in findings if finding.outcome == "left"]
    told = [f"{count} {outcome}" for count, outcome in counts if count]
    told += (
        [f"{len(open_ones)} left for a person: " + "; ".join(f"{each.where}: {each.what}" for each in open_ones)]
        if open_ones
        else []
    )
    return f"{counted(len(findings), 'finding')}: {', '.join(told)}"


def page_of(findings: Sequence[Finding], *, title: str) -> str:
    """All findings as Markdown."""
    rows = [
        f"| {each.outcome} | {escape(each.where)} | {escape(each.what)} | {escape(each.way_out)} |" for each in findings
    ]
    table = ["| outcome | where | what | done, or the way out |", "|---|---|---|---|", *rows] if rows else []
    return "\n".join([f"# {title}", "", escape(summary_of(findings)), "", *table])


def tell_of(findings: Sequence[Finding], ledger: Ledger) -> None:
    """Tell whoever listens what was found, unless nothing of it needs anybody."""
    if any(finding.outcome != "harmless" for finding in findings):
        tell(
            "found",
            text=summary_of(findings),
            ledger=ledger,
            data={"findings": [finding.model_dump() for finding in findings]},
        )
