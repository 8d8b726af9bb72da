"""A runner: the process that serves one role's deployments, with that role's credentials in its environment.

`python -m flows.serve editor` edits and opens candidates; `python -m flows.serve promoter` reviews and promotes.
Neither can do the other's work: the object store refuses its keys.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from prefect import Flow
from prefect.runner import Runner
from prefect.schedules import Cron, Schedule

from flows.intake import intake
from flows.refresh import refresh
from flows.review import review
from flows.withdraw import expire, revoke, rollback
from tasks.settings import Settings

POLL_SECONDS = 2
SERVED: dict[str, tuple[Flow, ...]] = {
    "editor": (intake, refresh, revoke, expire, rollback),
    "promoter": (review,),
}


async def serve(role: str) -> None:
    """Register a role's deployments and run whatever is asked of them, until stopped."""
    runner = Runner(name=f"corrigenda-{role}", query_seconds=POLL_SECONDS, pause_on_shutdown=False)
    for flow in SERVED[role]:
        await runner.aadd_flow(flow, name=flow.name, schedule=_schedule(flow))
    if ready := os.environ.get("CORRIGENDA_READY_FILE"):
        Path(ready).touch()
    await runner.start()


def _schedule(flow: Flow) -> Schedule | None:
    schedules = {refresh.name: Settings().refresh_cron, expire.name: Settings().expiry_cron}
    return Cron(schedules[flow.name]) if flow.name in schedules else None


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
