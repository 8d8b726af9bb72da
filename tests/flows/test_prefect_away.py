"""Prefect's server is away: every command that needs it says so in one line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from prefect import flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from rich.console import Console

from flows.follow import follow
from tasks.errors import UnreachableError
from tasks.prefect_api import prefect_answers
from tasks.reviews import answer, paused_run, review_runs, start_run

CALLS: dict[str, Callable[[], object]] = {
    "refresh": lambda: start_run("refresh/refresh", parameters={}),
    "review": lambda: review_runs("candidate"),
    "review approve": lambda: paused_run("candidate"),
    "answer": lambda: answer(uuid4(), {}),
    "follow": lambda: follow(uuid4(), Console(quiet=True)),
}


@pytest.fixture
def nowhere() -> str:
    """An address at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/api"


@pytest.fixture
def away(nowhere: str) -> Iterator[str]:
    with temporary_settings({PREFECT_API_URL: nowhere}):
        yield nowhere


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_server_that_does_not_answer_is_named_with_the_way_out(call, away):
    with pytest.raises(UnreachableError, match=rf"{away}.*refused.*'make up'.*CORRIGENDA_PREFECT_API_URL"):
        call()


def test_a_flow_that_cannot_begin_says_the_same(away):
    with pytest.raises(UnreachableError, match=away), prefect_answers():
        flow(lambda: None, name="intake")()


def test_an_error_of_a_flows_own_stays_what_it_is():
    with pytest.raises(RuntimeError, match="of its own"), prefect_answers():
        raise RuntimeError("of its own")


def test_the_command_ends_with_one_line_and_exit_code_1(nowhere, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CORRIGENDA_")}
    environment |= {"CORRIGENDA_PREFECT_API_URL": nowhere, "CORRIGENDA_HOME": str(tmp_path)}
    program = "from flows.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "refresh"], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: the Prefect server at {nowhere} doesn't answer")
    assert done.stderr.count("\n") == 1
