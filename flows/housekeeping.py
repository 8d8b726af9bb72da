"""Flow `housekeeping`: reminds of a review that nears its end, closes what is over, and marks dead runs."""

from __future__ import annotations

from prefect import flow

from flows.reconcile import show
from tasks.describe import counted
from tasks.housekeeping import housekeeping_task


@flow(name="housekeeping")
def housekeeping() -> str:
    """Keep house."""
    found = housekeeping_task()
    show(found, key="housekeeping")
    return f"{counted(len(found), 'thing')} done" if found else "nothing to do"
