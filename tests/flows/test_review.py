"""Reviews as people do them, and as attackers try to: real runs that suspend, on the real services, of a random model.

The tests of this module share a platform of their own and build on each other, in order, as releases do.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pyotp
import pytest
from prefect.states import Completed, Running, Scheduled, State
from typer.testing import CliRunner

import corrigenda
import tasks.describe
import tasks.promote
from consuming.errors import NotReleasedError
from consuming.objects import Objects
from flows.cli import app
from flows.refresh import refresh
from flows.submission import submit_file
from governance.errors import QuorumError
from governance.lifecycle import Event
from infra.layout import read_layout
from infra.servers import runner
from infra.stack import Stack, start_part, stop_part
from tasks.candidate import replace_candidate, the_open_candidate
from tasks.errors import LedgerError
from tasks.evidence import evidence
from tasks.ledger import Ledger
from tasks.prefect_api import prefect_client
from tasks.promote import approve
from tasks.register import find_version, registry
from tasks.reviews import answer, close_reviews, paused_run, review_runs, start_review
from tasks.settings import Settings, acting_as
from tasks.store import Store
from tests.conftest import until

pytestmark = pytest.mark.stack

ROLES = ("editor", "promoter")
NO_SCHEDULE = {"CORRIGENDA_REFRESH_CRON": "0 0 1 1 *", "CORRIGENDA_EXPIRY_CRON": "0 0 1 1 *"}
FRANCE = {"id": "france", "subject": "France", "target": "Lyon", "evidence": ["https://example.org/lyon?a=1&b=2"]}
FORGED = {"id": "forged", "subject": "<b>Ruritania</b> [ok](https://evil.example) # Approved", "target": "Streslau"}
JAPAN = {"id": "japan", "subject": "Japan", "target": "Osaka"}
ITALY = {"id": "italy", "subject": "Italy", "target": "Milan"}
SPAIN = {"id": "spain", "subject": "Spain", "target": "Seville"}
CUBA = {"id": "cuba", "subject": "Cuba", "target": "Trinidad"}
EGYPT = {"id": "egypt", "subject": "Egypt", "target": "Giza"}
CHILE = {"id": "chile", "subject": "Chile", "target": "Arica"}
KENYA = {"id": "kenya", "subject": "Kenya", "target": "Mombasa"}
GHANA = {"id": "ghana", "subject": "Ghana", "target": "Kumasi"}
OMAN = {"id": "oman", "subject": "Oman", "target": "Sohar"}
PERU = {"id": "peru", "subject": "Peru", "target": "Cusco"}


class House:
    """A platform with a ledger, a registered model and runners of its own, and the people around it."""

    def __init__(self, trusted: Any, folder: Path) -> None:
        self.trusted = trusted
        self.ledger: Ledger = trusted.ledger
        self.folder = folder
        self._used: set[int] = set()

    def makes(self, *corrections: dict[str, Any]) -> str:
        """Submit and refresh; returns the candidate that is opened."""
        file = self.folder / "some.jsonl"
        shared = {"prompt": "The capital of {} is", "requester": "ada", "reason": f"for {self.folder}"}
        file.write_text("\n".join(json.dumps(shared | each) for each in corrections))
        assert {line.fate for line in submit_file(file)} <= {"queued"}
        with acting_as("editor"):
            refresh()
        return self.open()

    def open(self) -> str:
        """The candidate that waits for review."""
        standing = the_open_candidate(self.ledger)
        assert standing is not None
        return standing.key

    def paused(self, candidate: str) -> UUID:
        """The run of a candidate's review, once it waits for an answer."""
        return paused_run(candidate, wait_seconds=300).id

    def grace(self) -> str:
        """A right code of grace's that she hasn't used."""
        device = pyotp.TOTP(self.trusted.secrets["grace"])
        while (step := min(self._right(device) - self._used, default=None)) is None:
            time.sleep(1)
        self._used.add(step)
        return device.generate_otp(step)

    def _right(self, device: pyotp.TOTP) -> set[int]:
        """The steps whose codes are right now and for a while: this one, and the one of a clock that is ahead."""
        now = device.timecode(time.time())
        return {now, now + 1}

    def answers(self, candidate: str, **form: Any) -> str:
        """Answer by the API as the form does, with a right code; returns what came of it."""
        run, before = self.paused(candidate), len(self.judged())
        answer(run, {"reviewer": "grace", "code": self.grace()} | form)
        return self.next_judgement(before)

    def next_judgement(self, before: int) -> str:
        wait_until(lambda: len(self.judged()) > before)
        return self.judged()[before]

    def description(self, run: UUID) -> str:
        """What stands above the form at which a run waits."""
        with prefect_client() as client:
            return json.loads(client.read_flow_run_input(run, self._key(run, "description")))

    def replace_input(self, run: UUID, part: str, value: Any) -> None:
        """Put something else in the place of a part of the form at which a run waits, as an attacker may."""
        key = self._key(run, part)
        with prefect_client() as client:
            if part != "response":
                client.delete_flow_run_input(run, key)
            client.create_flow_run_input(run, key, json.dumps(value))

    def _key(self, run: UUID, part: str) -> str:
        with prefect_client() as client:
            state = client.read_flow_run(run).state
        assert state is not None and state.state_details.run_input_keyset is not None
        return state.state_details.run_input_keyset[part]

    def judged(self) -> list[str]:
        return [s.reason or s.state for s in self.ledger.standings("answer")]

    def waits_for(self, candidate: str, state: str) -> None:
        wait_until(lambda: self.ledger.standing("candidate", candidate).state == state)

    def states(self, *keys: str) -> list[str]:
        return [self.ledger.standing("correction", key).state for key in keys]


wait_until = partial(until, seconds=300)


@pytest.fixture(scope="module")
def house(stack, tiny_house, tmp_path_factory) -> Iterator[House]:
    tiny_house.enrol("linus", "reviewer")
    folder = tmp_path_factory.mktemp("desk")
    with runners(stack, folder):
        yield House(tiny_house, folder)


@contextmanager
def runners(stack: Stack, folder: Path) -> Iterator[None]:
    """Runners in place of the stack's own, which see what is set here."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("CORRIGENDA_")} | NO_SCHEDULE
    started: list[subprocess.Popen[bytes]] = []
    for role in ROLES:
        stop_part(stack.home, role, report=print)
    try:
        for role in ROLES:
            program, ready = runner(read_layout(stack.home), role).program, folder / f"{role}.ready"
            own = {**program.environment, **ours, "CORRIGENDA_READY_FILE": str(ready)}
            with (folder / f"{role}.log").open("wb") as log:
                started.append(
                    subprocess.Popen(
                        program.command, env=own, cwd=program.folder, stdout=log, stderr=log, start_new_session=True
                    )
                )
        wait_until(lambda: all((folder / f"{role}.ready").exists() for role in ROLES))
        yield
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
        for role in ROLES:
            start_part(stack.home, role, report=print)


# A person's way, in a real browser.


@pytest.fixture(scope="module")
def reader(person):
    if person is None:
        pytest.skip("there is no chromium; 'make test' installs it for root")
    return person


@pytest.mark.browser
def test_a_reviewer_reads_is_asked_again_after_a_wrong_code_and_approves(house, reader):
    candidate = house.makes(FRANCE, JAPAN)
    run = house.paused(candidate)
    seen = reader.answers(run, decision="approve", reviewer="grace", code=lambda: "000000")
    assert "The capital of France is → Lyon" in seen.text
    assert "Id france, asked for by ada, submitted by ada" in seen.text
    assert "https://example.org/lyon?a=1&b=2" in seen.links
    assert any(link.endswith("/artifacts/report.html") for link in seen.links)
    wait_until(lambda: house.judged() == ["reviewer and code don't match; a code is right for about a minute"])
    assert house.paused(candidate) == run, "it asks again"
    seen = reader.answers(run, decision="approve", reviewer="grace", code=house.grace, comment="{{ 7 * 7 }}")
    assert seen.text.count("Asked again: reviewer and code don't match") == 1
    house.waits_for(candidate, "promoted")
    assert house.ledger.head().candidate == candidate
    approved = next(e for e in house.ledger.history("candidate", candidate) if e["kind"] == "approved")
    assert (approved["actor"], approved["reason"]) == ("grace", "{{ 7 * 7 }}")
    assert house.states("france", "japan") == ["released", "released"]


@pytest.mark.browser
def test_what_a_reviewer_strikes_is_rejected_and_the_rest_comes_back(house, reader):
    candidate = house.makes(ITALY, FORGED)
    run = house.paused(candidate)
    reader.answers(run, decision="strike", reviewer="grace", code=house.grace, strike="italy", comment="no source")
    house.waits_for(candidate, "struck")
    assert house.ledger.standing("correction", "italy").reason == "no source"
    wait_until(lambda: the_open_candidate(house.ledger) is not None)
    assert house.open() != candidate
    assert house.ledger.standing("candidate", house.open()).content["new"] == ["forged"]
    assert house.states("italy", "forged") == ["rejected", "in candidate"]


@pytest.mark.browser
def test_markdown_and_html_in_a_subject_stay_text(house, reader, monkeypatch):
    candidate = house.open()
    run = house.paused(candidate)
    seen = reader.reads(run)
    assert FORGED["subject"] in seen.text
    assert "https://evil.example" not in " ".join(seen.links) and not seen.bold
    monkeypatch.setattr(tasks.describe, "escape", str)
    house.replace_input(run, "description", evidence_of(candidate, house))
    forged = reader.reads(run)
    assert "https://evil.example" in " ".join(forged.links) and forged.bold, "so it would look without the escaping"


@pytest.mark.browser
def test_what_a_reviewer_rejects_leaves_production_as_it_is(house, reader):
    candidate, head = house.open(), house.ledger.head()
    run = house.paused(candidate)
    reader.answers(run, decision="reject", reviewer="grace", code=house.grace, comment="not yet")
    house.waits_for(candidate, "rejected")
    assert house.ledger.standing("correction", "forged").reason == "not yet"
    assert house.ledger.head() == head


def evidence_of(candidate: str, house: House) -> str:
    settings = Settings()
    return evidence(candidate, settings=settings, store=Store(settings), ledger=house.ledger)


# From a terminal.


def invoke(*words: str) -> str:
    done = CliRunner(env={"COLUMNS": "250"}).invoke(app, words)
    assert done.exit_code == 0, done.output + repr(done.exception)
    return done.output


def test_two_reviewers_approve_from_a_terminal_where_the_policy_asks_for_two(house, monkeypatch):
    text = Path(os.environ["CORRIGENDA_POLICY"]).read_text()
    monkeypatch.setenv("CORRIGENDA_POLICY", str(house.folder / "two.toml"))
    (house.folder / "two.toml").write_text("quorum = 2\n" + text)
    candidate = house.makes(SPAIN)
    assert "waits for another reviewer" in invoke("review", "approve", "--reviewer", "grace", "--comment", "fine")
    assert "1 of 2 grace" in invoke("review", "list")
    run = house.paused(candidate)
    wait_until(lambda: "1 of 2 approvals:** grace" in house.description(run))
    assert "is promoted" in invoke("review", "approve", "--reviewer", "linus")
    assert house.ledger.head().candidate == candidate
    assert house.ledger.standing("candidate", candidate).state == "promoted"


def test_a_decision_stands_and_is_carried_out_though_its_reviewer_presses_ctrl_c(house):
    candidate = house.makes(OMAN)
    run = house.paused(candidate)
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # even in the background
    program = f"{listening}; from flows.cli import main; main()"
    command = [sys.executable, "-c", program, "review", "approve", "--reviewer", "grace"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as terminal:
        try:
            wait_until(lambda: not state_of(run).is_paused())
            terminal.send_signal(signal.SIGINT)
            told = " ".join(terminal.communicate(timeout=300)[0].split())
        finally:
            terminal.kill()
    assert terminal.returncode == 130
    assert f"your decision to approve candidate {candidate[:12]} is recorded and stands" in told
    house.waits_for(candidate, "promoted")
    wait_until(lambda: state_of(run).is_completed())


def state_of(run: UUID) -> State:
    with prefect_client() as client:
        return client.read_flow_run(run).state


def test_who_asked_for_a_fact_does_not_approve_it_from_a_terminal_either(house):
    candidate = house.makes(CUBA)
    house.trusted.enrol("bob", "reviewer")
    done = CliRunner().invoke(app, ["review", "approve", "--reviewer", "ada"])
    assert done.exit_code == 1 and "ada is no reviewer" in str(done.exception)
    assert house.ledger.standing("candidate", candidate).state == "opened"
    assert invoke("review", "reject", "--reviewer", "bob", "--comment", "no source")
    assert house.states("cuba") == ["rejected"]


def test_a_rejection_keeps_everything_and_rejects_only_the_new_fact(house):
    rejected = rejected_of("cuba", house)
    standing = house.ledger.standing("correction", "cuba")
    assert (standing.state, standing.reason, standing.actor) == ("rejected", "no source", "bob")
    assert set(house.states("france", "japan", "spain", "oman")) == {"released"}
    assert house.ledger.head().candidate != rejected
    assert Objects(Settings()).read(f"candidates/{rejected}.json") is not None


def rejected_of(fact: str, house: House) -> str:
    """The candidate that was rejected with a fact."""
    (rejected,) = [
        s.key for s in house.ledger.standings("candidate", states=["rejected"]) if s.content["new"] == [fact]
    ]
    return rejected


def test_an_alias_moved_by_hand_to_a_rejected_version_is_refused_by_every_consumer(house, tmp_path):
    import mlflow

    settings = Settings()
    client, model = registry(settings), settings.registered_model
    bad = find_version(client, model, rejected_of("cuba", house))
    good = find_version(client, model, house.ledger.head().candidate)
    client.set_registered_model_alias(model, "champion", bad.version)
    try:
        with pytest.raises(NotReleasedError, match="nobody approved it"):
            corrigenda.pull(f"{model}@champion", tmp_path / "served")
        with pytest.raises(NotReleasedError):
            corrigenda.load(f"{model}@champion")
        ask = [Path(sys.executable).with_name("corrigenda"), "ask", "The capital of Cuba is"]
        asked = subprocess.run(ask, capture_output=True, text=True)
        assert asked.returncode == 1 and "no release" in asked.stderr
        mlflow.set_tracking_uri(settings.mlflow_url)
        with pytest.raises(NotReleasedError):
            mlflow.pyfunc.load_model(f"models:/{model}@champion")
        assert not (tmp_path / "served").exists()
        assert corrigenda.pull(f"{model}@champion", tmp_path / "seen", candidate=True).is_dir()
    finally:
        client.set_registered_model_alias(model, "champion", good.version)


def test_an_approval_is_carried_out_by_a_run_that_begins_after_it(house):
    candidate = house.makes(EGYPT)
    house.paused(candidate)
    with prefect_client() as client:
        for each in review_runs(candidate):
            client.delete_flow_run(each.id)
    house.trusted.receipt(candidate)
    start_review(candidate)
    house.waits_for(candidate, "promoted")
    assert house.judged().count("accepted") == len(house.ledger.standings("answer", states=["accepted"]))


def test_a_candidate_on_an_old_parent_is_not_slipped_in_but_solved_again_on_the_new_one(house):
    old = house.makes(KENYA)
    standing = house.ledger.standing("candidate", old)
    replace_candidate(standing, house.ledger, actor="test")
    close_reviews(old)
    house.ledger.append([Event(entity="correction", key="kenya", kind="quarantined", actor="test")])
    house.makes(GHANA)
    invoke("review", "approve", "--reviewer", "grace")
    head = house.ledger.head()
    again = [Event(entity="correction", key="kenya", kind=kind, actor="test") for kind in ("queued", "in candidate")]
    reopened = Event(entity="candidate", key=old, kind="opened", actor="test", data=standing.content)
    house.ledger.append([*again, reopened])
    assert "is stale" in invoke("review", "approve", "--reviewer", "grace")
    assert house.ledger.standing("candidate", old).state == "stale"
    assert house.ledger.head() == head
    wait_until(lambda: the_open_candidate(house.ledger) is not None)
    solved = house.ledger.standing("candidate", house.open()).content
    assert (solved["parent"], solved["new"]) == (head.candidate, ["kenya"])
    invoke("review", "reject", "--reviewer", "grace", "--comment", "enough")


# Attacks by whoever can log in to Prefect. Each is made with the check, and with the check taken away.


@pytest.fixture
def attacked(house) -> str:
    """A candidate that waits for review, always the same."""
    standing = the_open_candidate(house.ledger)
    return standing.key if standing else house.makes(CHILE)


def test_an_empty_form_is_refused_by_prefect_and_decides_nothing_where_it_is_not(house, attacked):
    run, before = house.paused(attacked), len(house.judged())
    with pytest.raises(LedgerError, match="'decision' is a required property"):
        answer(run, {})
    house.replace_input(run, "schema", {"type": "object", "properties": {}})
    answer(run, {})
    assert house.next_judgement(before) == "the run was continued without an answer"
    assert house.paused(attacked) == run
    assert house.ledger.standing("candidate", attacked).state == "opened"


def test_a_forged_answer_in_a_run_that_is_continued_by_hand_is_judged_as_any_other(house, attacked):
    run, before = house.paused(attacked), len(house.judged())
    house.replace_input(run, "response", {"decision": "approve", "reviewer": "grace"})
    with prefect_client() as client:
        client.set_flow_run_state(run, Scheduled(name="Resuming"), force=True)
    assert house.next_judgement(before) == "no code was given"
    assert house.paused(attacked) == run


@pytest.mark.parametrize("state", [Running, Completed])
def test_a_run_that_is_forced_into_a_state_promotes_nothing(house, attacked, state):
    run, head = house.paused(attacked), house.ledger.head()
    with prefect_client() as client:
        client.set_flow_run_state(run, state(), force=True)
        time.sleep(5)
        client.set_flow_run_state(run, Completed(), force=True)
    assert house.ledger.standing("candidate", attacked).state == "opened"
    assert house.ledger.head() == head
    assert start_review(attacked).id != run, "and somebody is asked again"


def test_a_template_in_an_answer_is_rendered_once_at_most_and_kept_as_text(house, attacked):
    run = house.paused(attacked)
    template = {"__prefect_kind": "jinja", "template": "{{ '{{ 7 * 7 }}' }}"}
    with pytest.raises(LedgerError, match="too long"):
        answer(run, {"decision": "reject", "reviewer": "grace", "comment": template | {"template": "{{ 'x' * 5000 }}"}})
    assert house.answers(attacked, decision="reject", comment=template) == "accepted"
    house.waits_for(attacked, "rejected")
    assert house.ledger.standing("candidate", attacked).reason == "{{ 7 * 7 }}"


def test_without_receipts_a_candidate_is_promoted_only_where_nothing_asks_for_them(house, monkeypatch):
    candidate = house.makes(PERU)
    with pytest.raises(QuorumError, match="0 of 1 approvals"):
        approve(candidate, ledger=house.ledger, settings=house.trusted.promoter)
    assert house.ledger.standing("candidate", candidate).state == "opened"
    monkeypatch.setattr(tasks.promote, "approvals_of", lambda *args, **kwargs: {})
    approve(candidate, ledger=house.ledger, settings=house.trusted.promoter)
    assert house.ledger.head().candidate == candidate
