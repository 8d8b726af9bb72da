"""Flow `reconcile`: what a crash or a hand left between ledger, MLflow, object store and Prefect is put right or told.

Runs by schedule, whenever the promoter's runner starts, and by `corrigenda reconcile`. It ends as failed where
something is left for a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import State, flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed, Failed

from tasks.findings import Finding, page_of, summary_of
from tasks.reconcile import reconcile_task


@flow(name="reconcile")
def reconcile() -> State[Any]:
    """Compare and repair."""
    found = reconcile_task()
    show(found, key="reconcile")
    if any(finding.outcome == "left" for finding in found):
        return Failed(message=summary_of(found))
    return Completed(message=summary_of(found))


def show(found: Sequence[Finding], *, key: str) -> None:
    """Show findings in the run's log and as its artifact."""
    for finding in found:
        get_run_logger().info(str(finding))
    if found:
        create_markdown_artifact(page_of(found, title=key.capitalize()), key=key, description=summary_of(found)[:1000])
