"""Runs flows in forked processes that kill themselves after a call out, for the tests of what a crash leaves.

One JSON object a line comes in: the flow, the run in Prefect that it takes up, its environment, and where to die: after
the n-th call of a name, or after so many seconds. One goes out: how the process ended, and the calls that it made.
Everything heavy is imported once, and no thread runs before the fork. An evaluation writes nothing and takes most of
the time, so what was measured of a patch is kept in a file.
"""

from __future__ import annotations

import functools
import json
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import Counter
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from uuid import UUID

import httpx
import requests
from prefect.client.orchestration import get_client
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL, temporary_settings

import flows.refresh
from flows.refresh import refresh
from flows.review import review
from tasks.ledger import Ledger
from tasks.store import Store

EARLY = (
    "boto3.s3.inject",
    "git",
    "graphviz",
    "mlflow.data.pandas_dataset",
    "mlflow.models.display_utils",
    "mlflow.pyfunc",
    "model_signing.signing",
    "model_signing.verifying",
    "prefect.task_engine",
    "psycopg2.extras",
    "pyarrow.pandas_compat",
    "tasks.page",
    "transformers.models.llama.modeling_llama",
)
"""What each process would import again."""
QUIET = ("/logs", "/events", "/filter", "/search", "/count", "/get", "/telemetry", "/csrf")
"""Calls that only read, or whose loss nobody notices."""


class Dying:
    """Counts the calls out by name, and ends the process after the one that is named."""

    def __init__(self, report: int, *, call: str, nth: int) -> None:
        self._report, self._call, self._nth = report, call, nth
        self._seen: Counter[str] = Counter()

    def after(self, name: str) -> None:
        self._seen[name] += 1
        os.write(self._report, f"{name}\n".encode())
        if name == self._call and self._seen[name] == self._nth:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, owner: type, method: str, name) -> None:
        original = getattr(owner, method)

        @functools.wraps(original)
        def watched(this, *args, **kwargs):
            result = original(this, *args, **kwargs)
            if told := name(*args, **kwargs):
                self.after(told)
            return result

        setattr(owner, method, watched)

    def watch_async(self, owner: type, method: str, name) -> None:
        original = getattr(owner, method)

        @functools.wraps(original)
        async def watched(this, *args, **kwargs):
            result = await original(this, *args, **kwargs)
            if told := name(*args, **kwargs):
                self.after(told)
            return result

        setattr(owner, method, watched)


def watch_everything(dying: Dying) -> None:
    """Every write to the ledger, the store, MLflow and Prefect."""
    dying.watch(Ledger, "append", lambda new: f"ledger {' '.join(dict.fromkeys(e.kind for e in new))}" if new else "")
    dying.watch(Ledger, "release", lambda candidate, **_: "ledger release")
    dying.watch(Store, "_put", lambda key, *_, **__: f"store {key.partition('/')[0]}")
    dying.watch(requests.Session, "send", lambda request, **_: _of_http("mlflow", request.method, request.path_url))
    dying.watch(httpx.Client, "send", lambda request, **_: _of_http("prefect", request.method, request.url.path))
    dying.watch_async(
        httpx.AsyncClient, "send", lambda request, **_: _of_http("prefect", request.method, request.url.path)
    )


def _of_http(service: str, method: str | None, path: str) -> str:
    plain = path.partition("?")[0]
    if method in ("GET", "HEAD") or any(quiet in f"{plain}/" or plain.endswith(quiet) for quiet in QUIET):
        return ""
    words = [word for word in plain.split("/") if word.replace("_", "").replace("-", "").isalpha()]
    return " ".join([service, *[word for word in words if word not in ("api", "mlflow")][-2:]])


def measure_once(folder: Path) -> None:
    """Keep what an evaluation finds of a patch."""
    original = flows.refresh.evaluate_task

    def evaluate(base, batch, edit):
        file = folder / f"{edit.patch.sha256}.report"
        if not file.exists():
            part = file.with_suffix(f".{os.getpid()}")
            part.write_bytes(pickle.dumps(original(base, batch, edit)))
            part.rename(file)
        return pickle.loads(file.read_bytes())

    flows.refresh.evaluate_task = evaluate


def play(order: dict, report: int) -> None:
    """Run one flow to its end, its pause or its death."""
    os.environ.update(order["environment"])
    watch_everything(Dying(report, call=order["call"], nth=order["nth"]))
    with temporary_settings({PREFECT_API_URL: order["environment"]["PREFECT_API_URL"]}):
        if order["flow"] == "refresh":
            measure_once(Path(order["folder"]))
            refresh(replace=True)
            return
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(UUID(order["run"]))
        run_flow(review, flow_run=run, return_type="state")


def fork(order: dict) -> dict:
    """Do an order in a process of its own, and tell how that ended."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            with suppress(Pause):
                play(order, writing)
        except BaseException:  # it must not go on as the one that forks
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    clock = threading.Timer(order["seconds"], os.kill, (pid, signal.SIGKILL)) if order["seconds"] else None
    if clock:
        clock.start()
    with os.fdopen(reading) as calls:
        made = calls.read().splitlines()
    _, status = os.waitpid(pid, 0)
    if clock:
        clock.cancel()
        clock.join()
    return {"killed": os.WIFSIGNALED(status), "failed": os.WIFEXITED(status) and os.WEXITSTATUS(status), "calls": made}


if __name__ == "__main__":
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever the libraries print goes with the errors
    for name in EARLY:
        import_module(name)
    out.write("ready\n")
    for line in sys.stdin:
        out.write(json.dumps(fork(json.loads(line))) + "\n")
