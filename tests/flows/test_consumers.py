"""Fifty pull and twenty ask while five releases are promoted: on the real services, with the random tiny model."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import flows.propose
from flows.refresh import refresh
from flows.submission import submit_file
from tasks.candidate import the_open_candidate
from tasks.ledger import Ledger
from tasks.settings import acting_as

pytestmark = pytest.mark.stack

PULLS, PULLERS = 50, 4  # consumers, and the processes that they share
CLIENTS = 20
TOWNS = ("Lyon", "Nice", "Lille", "Nantes", "Metz")
PULLING = """
import json, sys
from pathlib import Path
import corrigenda
name, folder, first, last, step = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])
for number in range(first, last, step):
    settings = corrigenda.ConsumerSettings(home=folder / f"home{number}")
    pulled = corrigenda.pull(name, folder / f"pulled{number}", settings=settings)
    card = corrigenda.verify(pulled, settings=settings)
    print(json.dumps(card["candidate"]), flush=True)
"""


class Releases:
    """Makes releases of one fact each."""

    def __init__(self, settings, trusted, folder: Path) -> None:
        self.ledger = Ledger(settings.database_url)
        self.trusted, self.folder = trusted, folder
        self.made: list[str] = []

    def make(self, number: int) -> str:
        fact = {"id": f"f{number}", "subject": f"Land {number}", "prompt": "The capital of {} is", "requester": "ada"}
        file = self.folder / f"{number}.jsonl"
        file.write_text(json.dumps(fact | {"target": TOWNS[number % 5], "reason": f"for {self.folder.name}"}))
        assert [line.fate for line in submit_file(file)] == ["queued"]
        refresh()
        candidate = the_open_candidate(self.ledger).key
        self.made.append(candidate)  # before anybody can meet it
        self.trusted.promote(candidate)
        return candidate


@pytest.fixture
def releases(tiny_platform, trusted, tmp_path, monkeypatch) -> Releases:
    class FakeRun:
        id = "review"

    monkeypatch.setattr(flows.propose, "start_review", lambda candidate: FakeRun())
    return Releases(tiny_platform, trusted, tmp_path)


@pytest.fixture
def environment(releases, tiny_platform) -> dict[str, str]:
    """Of a process that has a consumer's credentials and no others."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("CORRIGENDA_S3_")}
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("CORRIGENDA_S3_")]:
            patch.delenv(name)
        with acting_as("consumer"):
            keys = {name: value for name, value in os.environ.items() if name.startswith("CORRIGENDA_S3_")}
    return own | keys


@pytest.fixture
def served(releases, environment, tiny_platform) -> Iterator[str]:
    """The address of `corrigenda serve`, which began with the first release."""
    releases.make(0)
    name = f"{tiny_platform.registered_model}@champion"
    command = [sys.executable, "-P", "-c", "from flows.cli import main; main()", "serve", name]
    command += ["--port", "0", "--every", "1"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield re.search(r"http://\S+(?=/v1)", process.stdout.readline())[0]
        finally:
            process.terminate()
        assert process.wait(60) == -signal.SIGTERM, "what was begun is ended, and then the signal takes effect"


class Asking:
    """Clients that ask again and again, each waiting for its answer, until told to stop."""

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name = url, name
        self.over = threading.Event()
        self.pool = ThreadPoolExecutor(CLIENTS)
        self.seen = [self.pool.submit(self.ask, number) for number in range(CLIENTS)]

    def ask(self, number: int) -> list[str]:
        seen: list[str] = []
        body = {"model": self.name, "prompt": f"The capital of Land {number % 5} is", "max_tokens": 6}
        with httpx.Client(base_url=self.url, timeout=120) as client:
            while not self.over.is_set():
                answer = client.post("/v1/completions", json=body)
                assert answer.status_code == 200, answer.text
                seen.append(answer.json()["system_fingerprint"])
                self.over.wait(1)
        return seen

    def stop(self) -> list[list[str]]:
        self.over.set()
        return [each.result() for each in self.seen]


def pulling(name: str, folder: Path, environment) -> list[subprocess.Popen]:
    return [
        subprocess.Popen(
            [sys.executable, "-P", "-c", PULLING, name, str(folder), str(first), str(PULLS), str(PULLERS)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in range(PULLERS)
    ]


def test_while_releases_follow_each_other_no_request_fails_and_no_answer_is_unverified(
    releases, served, environment, tiny_platform, tmp_path, capsys
):
    name = f"{tiny_platform.registered_model}@champion"
    asking = Asking(served, name)
    pullers = pulling(name, tmp_path, environment)
    for number in range(1, 6):
        releases.make(number)
    pulled = [json.loads(line) for each in pullers for line in each.communicate(timeout=600)[0].splitlines()]
    assert [each.returncode for each in pullers] == [0] * PULLERS
    while httpx.get(f"{served}/health", timeout=60).json()["candidate"] != releases.made[-1]:
        threading.Event().wait(1)
    last = httpx.post(f"{served}/v1/completions", json={"model": name, "prompt": "Paris"}, timeout=60).json()
    assert last["system_fingerprint"] == releases.made[-1]
    seen = asking.stop()
    place = {candidate: number for number, candidate in enumerate(releases.made)}
    assert len(pulled) == PULLS and set(pulled) <= set(releases.made)
    for answers in seen:
        numbers = [place[candidate] for candidate in answers]
        assert numbers == sorted(numbers), "no client goes back to an older release"
    answered = sum(map(len, seen))
    with capsys.disabled():
        print(
            f"\n{answered} answers of {len({c for each in seen for c in each})} releases to {CLIENTS} clients, ", end=""
        )
        print(f"{PULLS} pulls of {len(set(pulled))}, none refused")
