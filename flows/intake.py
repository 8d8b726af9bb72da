"""Flow `intake`: whatever was submitted is validated, and queued for the next refresh or refused with its reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from tasks.describe import escape
from tasks.intake import Intake, intake_task


@flow(name="intake")
def intake() -> Intake:
    """Validate all submitted corrections."""
    outcome = intake_task()
    if outcome.result:
        create_markdown_artifact(_page(outcome), key="intake", description="Great Expectations on the corrections")
    get_run_logger().info("queued %d corrections, refused %d", len(outcome.queued), len(outcome.refused))
    return outcome


def _page(outcome: Intake) -> str:
    """What was decided, and where Great Expectations' own result is."""
    refused, warned = _rows(outcome.refused), _rows(outcome.warned)
    return "\n".join(
        [
            f"# Intake: {len(outcome.queued)} queued, {len(outcome.refused)} refused",
            "",
            f"Great Expectations' result is `blobs/{outcome.result}` in the object store; "
            f"its Data Docs are at `{outcome.docs}`.",
            "",
            *(["| correction | refused because |", "|---|---|", *refused[:200], ""] if refused else []),
            *(["| correction | worth knowing |", "|---|---|", *warned[:200]] if warned else []),
        ]
    )


def _rows(reasons: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"| {escape(key)} | {escape('; '.join(why))} |" for key, why in reasons.items()]
