"""A runner: the process that serves one role's deployments, with that role's credentials in its environment.

`python -m flows.serve editor` edits and opens candidates; `python -m flows.serve promoter` reviews and promotes.
Neither can do the other's work: the object store refuses its keys. The promoter's begins by putting right what a crash
left.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.runner import Runner
from prefect.schedules import Cron, Schedule

from flows.housekeeping import housekeeping
from flows.intake import intake
from flows.reconcile import reconcile
from flows.refresh import refresh
from flows.review import review
from flows.withdraw import expire, revoke, rollback
from tasks.settings import Settings

POLL_SECONDS = 2
SERVED: dict[str, tuple[Flow, ...]] = {
    "editor": (intake, refresh, revoke, expire, rollback),
    "promoter": (review, reconcile, housekeeping),
}
AT_START = (reconcile,)


async def serve(role: str) -> None:
    """Register a role's deployments and run whatever is asked of them, until stopped."""
    runner = Runner(name=f"corrigenda-{role}", query_seconds=POLL_SECONDS, pause_on_shutdown=False)
    for flow in SERVED[role]:
        deployment = await runner.aadd_flow(flow, name=flow.name, schedule=_schedule(flow))
        if flow in AT_START:
            async with get_client() as client:
                await client.create_flow_run_from_deployment(deployment)
    if ready := os.environ.get("CORRIGENDA_READY_FILE"):
        Path(ready).touch()
    await runner.start()


def schedules(settings: Settings) -> dict[str, str]:
    """When each of the scheduled flows runs, as cron says it, in UTC."""
    return {
        refresh.name: settings.refresh_cron,
        expire.name: settings.expiry_cron,
        reconcile.name: settings.reconcile_cron,
        housekeeping.name: settings.housekeeping_cron,
    }


def _schedule(flow: Flow) -> Schedule | None:
    cron = schedules(Settings()).get(flow.name)
    return Cron(cron) if cron else None


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
