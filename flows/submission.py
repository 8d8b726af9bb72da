"""Submitting from a terminal: the file into the ledger, then the flow `intake` over whatever stands as submitted."""

from __future__ import annotations

from pathlib import Path

from tasks.ledger import Ledger
from tasks.settings import acting_as
from tasks.store import Store
from tasks.submit import Line, sign_submission, submit


def submit_file(file: Path, *, submitter: str = "") -> list[Line]:
    """Sign a file, submit it and take it in; returns the fate of each line: queued, refused, or known already."""
    with acting_as("editor") as settings:
        ledger = Ledger(settings.database_url)
        signed = sign_submission(file, by=submitter or settings.submitter, settings=settings)
        lines = submit(file, submission=signed, ledger=ledger, store=Store(settings), settings=settings)
        if ledger.standings("correction", states=["submitted"]):
            from flows.intake import intake  # Prefect takes seconds to import, and is needed only here
            from tasks.prefect_api import prefect_answers

            with prefect_answers():
                intake()
    standings = {s.key: s for s in ledger.standings("correction", keys=[line.key for line in lines])}
    return [_settled(line, standings[line.key].state, standings[line.key].reason) for line in lines]


def _settled(line: Line, state: str, reason: str) -> Line:
    """A line's fate once the intake has decided."""
    if line.fate != "submitted":
        return line
    if state == "queued":
        return line.model_copy(update={"fate": "queued"})
    return line.model_copy(
        update={"fate": "refused" if state == "refused" else "unchanged", "reasons": (reason or state,)}
    )
