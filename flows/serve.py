"""A runner: the process that serves one role's deployments, with that role's credentials in its environment.

`python -m flows.serve editor` edits and opens candidates; `python -m flows.serve promoter` reviews and promotes.
Neither can do the other's work: the object store refuses its keys. The promoter's begins by putting right what a crash
left.

Each run is a process of its own, which imports this module again. So the flows are named here and imported by the
runner that serves them: neither the promoter nor any of its runs waits for the libraries of models.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from pkgutil import resolve_name

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.runner import Runner
from prefect.schedules import Cron, Schedule

from tasks.settings import Settings

POLL_SECONDS = 2
SERVED = {
    "editor": (
        "flows.intake:intake",
        "flows.refresh:refresh",
        "flows.withdraw:revoke",
        "flows.withdraw:expire",
        "flows.withdraw:rollback",
    ),
    "promoter": ("flows.review:review", "flows.reconcile:reconcile", "flows.housekeeping:housekeeping"),
}
AT_START = ("reconcile",)


async def serve(role: str) -> None:
    """Register a role's deployments and run whatever is asked of them, until stopped."""
    runner = Runner(name=f"corrigenda-{role}", query_seconds=POLL_SECONDS, pause_on_shutdown=False)
    for flow in flows_of(role):
        deployment = await runner.aadd_flow(flow, name=flow.name, schedule=_schedule(flow))
        if flow.name in AT_START:
            async with get_client() as client:
                await client.create_flow_run_from_deployment(deployment)
    if ready := os.environ.get("CORRIGENDA_READY_FILE"):
        Path(ready).touch()
    await runner.start()


def flows_of(role: str) -> list[Flow]:
    """The flows that a role's runner serves."""
    return [resolve_name(each) for each in SERVED[role]]


def schedules(settings: Settings) -> dict[str, str]:
    """When each of the scheduled flows runs, as cron says it, in UTC."""
    return {
        "refresh": settings.refresh_cron,
        "expire": settings.expiry_cron,
        "reconcile": settings.reconcile_cron,
        "housekeeping": settings.housekeeping_cron,
    }


def _schedule(flow: Flow) -> Schedule | None:
    cron = schedules(Settings()).get(flow.name)
    return Cron(cron) if cron else None


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
