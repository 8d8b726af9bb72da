"""The demo as a newcomer starts it: no stack is there yet. The whole way is `test_main_job.py`'s."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.settings import StackSettings
from infra.stack import stop

pytestmark = pytest.mark.stack

LATE = {
    "id": "late",
    "subject": "France",
    "prompt": "The capital of {} is",
    "target": "Lyon",
    "requester": "ada",
    "reason": "a test",
    "expires": "2001-01-01T00:00:00+00:00",
}


@pytest.fixture
def newcomer(tmp_path):
    """The environment of somebody who never started a stack."""
    ports = StackSettings.on_free_ports()
    named = {f"CORRIGENDA_{name.upper()}": str(value) for name, value in ports.model_dump().items() if "port" in name}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CORRIGENDA_", "PREFECT_"))}
    home = tmp_path / "home"
    yield kept | named | {"CORRIGENDA_HOME": str(home)}
    stop(home, report=lambda line: None)


def test_the_demo_starts_a_stack_and_takes_the_corrections_in_on_it(newcomer, tmp_path):
    file = tmp_path / "late.jsonl"
    file.write_text(json.dumps(LATE))
    done = subprocess.run(
        [Path(sys.executable).with_name("corrigenda"), "demo", "--corrections", str(file)],
        env=newcomer,
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 1
    assert "expired on 2001-01-01" in done.stdout + done.stderr
    assert "no correction is queued, so there is nothing to show" in done.stderr.replace("\n", " ")
