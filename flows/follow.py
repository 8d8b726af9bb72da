"""Follow a flow run from a terminal: its log as it grows, until it ends or waits for a person."""

from __future__ import annotations

import time
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.sorting import LogSort
from prefect.states import State
from rich.console import Console
from rich.markup import escape

from tasks.prefect_api import prefect_client

POLL_SECONDS = 1.0
PATIENCE_SECONDS = 60
NOISE = (
    "Beginning flow run",
    "View at",
    "Finished in state",
    "Encountered exception",
    "Task run",
    "Flow run",
    "Suspending flow run",
)


def follow(run_id: UUID, console: Console, *, until_paused: bool = False) -> State:
    """Print a run's log lines as they come; returns the state in which it ended (or paused).

    Ctrl-C ends the following, not the run.

    Raises:
        UnreachableError: Prefect's server doesn't answer.
    """
    with prefect_client() as client, console.status("waiting for a runner to pick the run up") as status:
        return _follow(client, run_id, console, status.update, until_paused=until_paused)


def _follow(client: SyncPrefectClient, run_id: UUID, console: Console, say, *, until_paused: bool) -> State:  # noqa: ANN001
    seen = 0
    began = time.monotonic()
    while True:
        run = client.read_flow_run(run_id)
        seen = _print_new(client, run_id, console, say, seen)
        state = run.state
        if state and (state.is_final() or (until_paused and state.is_paused())):
            _print_new(client, run_id, console, say, seen)
            return state
        if state and state.is_scheduled() and time.monotonic() - began > PATIENCE_SECONDS:
            say("still no runner picks the run up: look at 'corrigenda status' and .corrigenda/logs")
        time.sleep(POLL_SECONDS)


def _print_new(client: SyncPrefectClient, run_id: UUID, console: Console, say, seen: int) -> int:  # noqa: ANN001
    mine = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]))
    lines = client.read_logs(log_filter=mine, offset=seen, limit=200, sort=LogSort.TIMESTAMP_ASC)
    for line in lines:
        message = escape(line.message.split("\n", 1)[0])
        say(message)
        if not line.message.startswith(NOISE):
            console.print(f"  [dim]{line.timestamp:%H:%M:%S}[/] {message}", highlight=False)
    return seen + len(lines)
