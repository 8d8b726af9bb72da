"""A person in the Prefect UI, and a world in which flows are killed, for the tests that need one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from pyotp import TOTP

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page
    from prefect.client.schemas.objects import FlowRun

    from tasks.findings import Finding
    from tasks.ledger import Ledger
    from tasks.settings import Settings
    from tasks.store import Store

# They keep a browser without a desktop quiet: no updates, no first run, nothing that calls home.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

PATIENCE_MS = 120_000
PICTURES = os.environ.get("CORRIGENDA_PICTURES")
"""The folder for pictures; read here, since the local stack of the tests takes all such settings away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the form of a paused run shows: its text, where its links lead, and what is bold by HTML."""

    text: str
    links: list[str]
    bold: list[str]


def _seen(form: Locator) -> Seen:
    return Seen(
        text=form.inner_text(),
        links=[link.get_attribute("href") or "" for link in form.locator("a").all()],
        bold=form.locator("b").all_inner_texts(),
    )


class Person:
    """Somebody at a browser, with the Prefect UI at an address."""

    def __init__(self, chromium: str, address: str) -> None:
        self._chromium = chromium
        self._address = address

    def runs(self, deployment: UUID) -> None:
        """Press a deployment's Run button, and Quick run."""
        with self._page(f"/deployments/deployment/{deployment}") as page:
            page.get_by_role("button", name="Run", exact=True).first.click()
            page.get_by_text("Quick run").click()
            page.get_by_text("scheduled", exact=False).first.wait_for()

    def reads(self, run: UUID) -> Seen:
        """Open a paused run, press Resume, and read what stands above the form."""
        with self._form(run) as form:
            return _seen(form)

    def answers(
        self,
        run: UUID,
        *,
        decision: str,
        reviewer: str,
        code: Callable[[], str],
        strike: str = "",
        comment: str = "",
        picture: str = "",
    ) -> Seen:
        """Open a paused run, press Resume, read, fill the form and submit it; returns what was read.

        Args:
            run: that waits.
            decision: to choose.
            reviewer, strike, comment: to type.
            code: to type; made when it is typed, since it is right for about a minute.
            picture: what to call a picture of the form, kept where CORRIGENDA_PICTURES says so.
        """
        with self._form(run) as form:
            seen = _seen(form)
            form.locator(".p-select-button__control").press("ArrowDown")
            form.page.locator(".p-select-option", has_text=decision).click()
            for place, text in enumerate((reviewer, code(), strike, comment)):
                form.locator("textarea").nth(place).fill(text)
            if picture and PICTURES:
                form.screenshot(path=Path(PICTURES) / f"{picture}.png")
            form.get_by_role("button", name="Submit").click()
            form.wait_for(state="hidden")
            return seen

    @contextmanager
    def _form(self, run: UUID) -> Iterator[Locator]:
        with self._page(f"/runs/flow-run/{run}") as page:
            page.get_by_role("button", name="Resume").first.click()
            form = page.locator(".p-modal__card")
            form.get_by_role("heading", name="Links").wait_for()
            yield form

    @contextmanager
    def _page(self, path: str) -> Iterator[Page]:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=self._chromium, args=FLAGS)
            page = browser.new_page(viewport={"width": 1400, "height": 1400})
            page.set_default_timeout(PATIENCE_MS)
            page.goto(self._address + path)
            yield page
            browser.close()


@pytest.fixture(scope="session")
def person(stack) -> Person | None:
    """Somebody at a browser; nobody where there is none."""
    chromium = shutil.which("chromium")
    return Person(chromium, stack.prefect_ui_url) if chromium else None


@pytest.fixture(scope="module")
def driver(stack) -> Iterator[subprocess.Popen]:
    """A process that has imported all that flows need, and forks one that runs a flow for each order."""
    program = Path(__file__).with_name("driver.py")
    log = stack.home / "logs" / "driver.log"
    with (
        log.open("a") as errors,
        subprocess.Popen(
            [sys.executable, program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PREFECT_LOGGING_LEVEL": "ERROR", "PYTHONPATH": str(Path(__file__).parents[2])},
        ) as process,
    ):
        try:
            assert process.stdout.readline() == "ready\n", f"the driver did not start; see {log}"
            yield process
        finally:
            process.kill()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a flow's process ended, and what it had called until then."""

    killed: bool
    failed: bool
    calls: list[str]


MOST_STEPS = 20


def steps() -> Iterator[int]:
    """As many steps as any way takes, and more; whoever is not there by then goes in circles."""
    yield from range(MOST_STEPS)
    pytest.fail(f"it is not there after {MOST_STEPS} steps")


@dataclass
class World:
    """A ledger, a registered model and the tiny base, in which a test runs the flows and kills them."""

    settings: Settings
    trusted: Any
    ledger: Ledger
    store: Store
    editor: Store
    order: Callable[[dict[str, Any]], Ended]
    folder: Path
    answered: set[str] = field(default_factory=set)
    kills: int = 0

    def queue(self, *subjects: str) -> None:
        """Corrections that an intake has queued."""
        from tasks.collect import events_for
        from tasks.submit import sign_submission, submit

        fact = '{{"subject": "{subject}", "prompt": "The capital of {{}} is", "target": "Lyon", "requester": "ada"}}'
        file = self.folder / "facts.jsonl"
        file.write_text("\n".join(fact.format(subject=subject) for subject in subjects))
        signed = sign_submission(file, by="ada", settings=self.settings)
        lines = submit(file, submission=signed, ledger=self.ledger, store=self.editor, settings=self.settings)
        self.ledger.append(events_for([line.key for line in lines if line.fate == "submitted"], "queued", actor="ada"))

    def run(self, flow: str, *, run: str = "", call: str = "", nth: int = 1, seconds: float = 0) -> Ended:
        """Run a flow in a process that dies after a call or a time, where one is given."""
        ended = self.order(
            {"flow": flow, "run": run, "call": call, "nth": nth, "seconds": seconds, "folder": str(self.folder)}
        )
        self.kills += ended.killed
        return ended

    def repair(self) -> list[Finding]:
        """Reconcile, and make sure that nothing is left over and all is as it must be."""
        from tasks.news import untold
        from tasks.reconcile import reconcile

        found = reconcile(settings=self.settings, ledger=self.ledger, now=datetime.now(UTC), minutes=0)
        assert [str(finding) for finding in found if finding.outcome == "left"] == []
        assert [notice.text for notice in untold(self.ledger)] == []
        self.check()
        return found

    def check(self) -> None:
        """One champion, which is the newest release; no version twice, none without objects; no answer asked again."""
        from tasks.candidate import the_open_candidate
        from tasks.objects import flaws_of
        from tasks.register import aliased, all_versions

        self.ledger.verify(self.store.records("releases/"))
        numbers = {v.tags["corrigenda.candidate"]: str(v.version) for v in all_versions(self.settings)}
        assert len(numbers) == len(all_versions(self.settings)), "a candidate has two versions"
        for candidate in numbers:
            assert flaws_of(candidate, self.store, flaw=self.store.flaw) == []
        releases = self.ledger.releases()
        assert {s.key: s.state for s in self.ledger.standings("candidate") if s.state in ("approved", "promoted")} == {
            release.candidate: "promoted" for release in releases
        }
        newest = {"champion": releases[-1], "previous": releases[-2] if releases[1:] else None} if releases else {}
        expected = {alias: numbers[release.candidate] for alias, release in newest.items() if release}
        assert aliased(self.settings) == expected
        waiting = the_open_candidate(self.ledger)
        if waiting and waiting.key in self.answered:
            assert not self.review_of(waiting.key).state.is_paused(), "somebody is asked twice"

    def review_of(self, candidate: str) -> FlowRun:
        """The one run that goes on about a candidate."""
        from tasks.reviews import review_runs

        (run,) = [run for run in review_runs(candidate) if not run.state.is_final()]
        return run

    def step(self, candidate: str, *, call: str = "", nth: int = 1, seconds: float = 0) -> Ended | None:
        """Answer an open candidate's review if it waits, or else run it, perhaps to its death."""
        from tasks.reviews import answer

        run = self.review_of(candidate)
        if run.state.is_paused():
            assert candidate not in self.answered, "somebody is asked twice"
            answer(run.id, {"decision": "approve", **self.somebody(), "strike": "", "comment": "fine"})
            self.answered.add(candidate)
            return None
        return self.run("review", run=str(run.id), call=call, nth=nth, seconds=seconds)

    def somebody(self) -> dict[str, str]:
        """A reviewer who has not decided yet, and their code, which no other decision has used."""
        name = f"grace {len(self.answered)}"
        self.trusted.enrol(name, "reviewer")
        return {"reviewer": name, "code": TOTP(self.trusted.secrets[name]).now()}

    def ask(self, candidate: str) -> None:
        """Let a candidate's review go its way until it has an answer, which its run has yet to read."""
        for _ in steps():
            if candidate in self.answered:
                break
            self.step(candidate)

    def decide(self, candidate: str) -> None:
        """Let a candidate's review go its way to the end."""
        for _ in steps():
            if self.ledger.standing("candidate", candidate).state != "opened":
                break
            ended = self.step(candidate)
            assert ended is None or not ended.failed
        assert [event["kind"] for event in self.ledger.history("candidate", candidate)].count("approved") == 1

    def again(self, candidate: str) -> str:
        """Open a candidate of the same objects on the newest release, with a review."""
        from editors.digests import digest_of
        from tasks.candidate import Candidate, open_candidate
        from tasks.register import Registered, registry
        from tasks.reviews import start_review

        manifest = self.store.manifest(candidate) | {"parent": self.ledger.head().candidate, "new": []}
        digest = digest_of(manifest)
        self.editor.put_record(f"candidates/{digest}.json", manifest)
        version = registry(self.settings).create_model_version(
            self.settings.registered_model, source="s3://none/model", tags={"corrigenda.candidate": digest}
        )
        registered = Registered(version=str(version.version), run="run", experiment="0")
        open_candidate(Candidate(digest=digest, manifest=manifest, registered=registered), self.ledger)
        start_review(digest)
        return digest


@pytest.fixture
def world(trusted, tiny_platform, no_promoter, take_away, driver, tmp_path) -> World:
    """The promoter's view; whatever an editor does is done with an editor's credentials."""
    from tasks.ledger import Ledger
    from tasks.runs import mark_dead_runs
    from tasks.store import Store

    take_away("releases/")  # of other tests, with other ledgers
    ledger = Ledger(tiny_platform.database_url)
    mark_dead_runs(ledger, now=datetime.now(UTC), minutes=0)
    settings = trusted.promoter
    common = {name: os.environ[name] for name in os.environ if name.startswith(("CORRIGENDA_", "MLFLOW_", "PREFECT_"))}
    environments = {"refresh": common, "review": common | trusted.promoters}

    def order(what: dict[str, Any]) -> Ended:
        driver.stdin.write(json.dumps(what | {"environment": environments[what["flow"]]}) + "\n")
        driver.stdin.flush()
        return Ended(**json.loads(driver.stdout.readline()))

    return World(
        settings=settings,
        trusted=trusted,
        ledger=ledger,
        store=Store(settings),
        editor=Store(tiny_platform),
        order=order,
        folder=tmp_path,
    )
