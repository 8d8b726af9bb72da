from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import datetime, timedelta
from threading import Thread
from uuid import uuid4

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

from flows.cli import app
from governance.lifecycle import Event
from tasks import notices
from tasks.automation import NAME, ensure_automation
from tasks.errors import NoticeError
from tasks.notices import pass_on_left, resend, tell
from tasks.prefect_api import prefect_client
from tasks.webhook import deliver
from tests.conftest import until

pytestmark = pytest.mark.stack

SECRET = "a secret of some length"
DIGEST = "c" * 64


@pytest.fixture
def hooked(ledger, receiver, monkeypatch):
    """A ledger with an open candidate, and a webhook that is tried three times in short order."""
    monkeypatch.setenv("CORRIGENDA_WEBHOOK_URL", receiver.url)
    monkeypatch.setenv("CORRIGENDA_WEBHOOK_SECRET", SECRET)
    monkeypatch.setattr(notices, "deliver", lambda body, **more: deliver(body, **more, delays=(0.05, 0.05)))
    ledger.append([candidate("opened", leaving=[])])
    return ledger


def candidate(kind: str, **data) -> Event:
    return Event(entity="candidate", key=DIGEST, kind=kind, actor="refresh", data=data)


def settled(ledger, number: int = 1) -> list[str]:
    """How each of so many notices ended."""

    def ended():
        found = ledger.standings("notice", states=["sent", "failed"])
        return found if len(found) == number else None

    return [f"{s.state}: {s.reason}" for s in until(ended)]


def events_of(resource: str) -> list[dict]:
    """What Prefect's server knows of a resource."""
    with prefect_client() as client:
        question = {"filter": {"resource": {"id": [resource]}, "order": "ASC"}, "limit": 50}
        return client._client.post("/events/filter", json=question).json()["events"]


def test_a_notice_is_sent_and_recorded(hooked, receiver):
    tell("approved", candidate=DIGEST, text="grace approved it", ledger=hooked, data={"comment": "fine"})
    assert settled(hooked) == [f"sent: {receiver.url.removesuffix('/secret-path')} answered 204 (attempt 1)"]
    body = json.loads(receiver.got[0][1])
    assert (body["kind"], body["candidate"], body["text"]) == ("approved", DIGEST, "grace approved it")
    assert body["data"] == {"comment": "fine"} and body["id"] == hooked.standings("notice")[0].key


def test_a_slow_receiver_holds_nobody_up(hooked, receiver):
    receiver.seconds = 2.0
    began = time.monotonic()
    tell("approved", candidate=DIGEST, text="t", ledger=hooked)
    assert time.monotonic() - began < 1.5
    assert [s.state for s in hooked.standings("notice")] == ["due"]
    assert settled(hooked)[0].startswith("sent")


def test_a_failing_receiver_is_recorded_and_sent_to_again_on_demand(hooked, receiver):
    receiver.statuses = [500, 500, 500, 204]
    tell("rejected", candidate=DIGEST, text="t", ledger=hooked)
    assert settled(hooked)[0].endswith("answered 500 (attempt 3)")
    assert [s.state for s in resend(hooked)] == ["sent"]
    assert len({body for _, body, _ in receiver.got}) == 1
    assert resend(hooked) == []


def test_a_notice_of_a_killed_process_stays_due_until_it_is_sent_again(hooked, receiver, monkeypatch):
    monkeypatch.setattr(notices, "Thread", DeadThread)
    tell("approved", candidate=DIGEST, text="t", ledger=hooked)
    assert [s.state for s in hooked.standings("notice")] == ["due"] and not receiver.got
    monkeypatch.setattr(notices, "Thread", Thread)
    recorded = hooked.standings("notice")[0].at
    pass_on_left(hooked, before=recorded - timedelta(seconds=1))
    assert not receiver.got, "its process may be at it"
    pass_on_left(hooked, before=recorded)
    assert settled(hooked)[0].startswith("sent") and len(receiver.got) == 1


class DeadThread:
    """One that never gets to run."""

    def __init__(self, **how): ...

    def start(self): ...

    def join(self, seconds): ...


def test_a_flow_that_runs_again_tells_nothing_twice_but_a_candidate_opened_again_is_told(hooked, receiver):
    for _ in range(3):
        tell("candidate-ready", candidate=DIGEST, text="waits", ledger=hooked)
    assert len(settled(hooked)) == 1
    hooked.append([candidate("replaced"), candidate("opened", leaving=[])])
    tell("candidate-ready", candidate=DIGEST, text="waits", ledger=hooked)
    assert len(settled(hooked, 2)) == 2 and len(receiver.got) == 2


def test_what_is_found_each_hour_is_told_once_a_day(hooked, monkeypatch):
    for _ in range(2):
        tell("found", text="an alias was moved by hand", ledger=hooked)
    tell("found", text="an object is missing", ledger=hooked)
    assert len(settled(hooked, 2)) == 2
    monkeypatch.setattr(notices, "datetime", Tomorrow)
    tell("found", text="an object is missing", ledger=hooked)
    assert len(settled(hooked, 3)) == 3


class Tomorrow(datetime):
    """A clock that is a day ahead."""

    @classmethod
    def now(cls, zone):
        return datetime.now(zone) + timedelta(days=1)


def test_a_ledger_that_is_away_fails_nobody(hooked, stack, monkeypatch, caplog):
    from tasks.ledger import Ledger

    away = Ledger("postgresql+psycopg2://postgres@/nowhere?host=/nonexistent")
    tell("approved", candidate=DIGEST, text="t", ledger=away)
    assert "approved of cccccccccccc could not be told: the ledger's database" in caplog.text
    assert not hooked.standings("notice")


def test_without_a_webhook_it_is_told_in_prefect_alone(ledger):
    ledger.append([candidate("opened")])
    tell("approved", candidate=DIGEST, text="to Prefect alone", ledger=ledger)
    assert settled(ledger) == ["sent: Prefect has it as an event"]
    until(lambda: [e for e in events_of(f"corrigenda.candidate.{DIGEST}") if "Prefect alone" in str(e["payload"])])


def test_what_prefect_did_not_take_is_sent_again_and_kept_there_once(ledger):
    digest = uuid4().hex * 2
    ledger.append([Event(entity="candidate", key=digest, kind="opened", actor="refresh")])
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        tell("approved", candidate=digest, text="t", ledger=ledger)
        (how,) = settled(ledger)
    assert how.startswith("failed: the Prefect server at http://127.0.0.1:9/api doesn't answer")
    assert [s.state for s in resend(ledger)] == ["sent"] and resend(ledger) == []
    (notice,) = ledger.standings("notice")
    notices._emit(notice.content["notice"])
    (event,) = until(lambda: events_of(f"corrigenda.candidate.{digest}"))
    assert event["id"] == notice.key


PROCESS = """
import sys
from tasks.ledger import Ledger
from tasks.notices import tell
tell("approved", candidate="c" * 64, text="from a process that ends at once", ledger=Ledger(sys.argv[1]))
"""


def test_a_process_that_ends_at_once_still_tells_both_ways(hooked, ledger_url, receiver):
    receiver.seconds, receiver.statuses = 1.0, [503, 204]
    subprocess.run([sys.executable, "-c", PROCESS, ledger_url], env=dict(os.environ), check=True, timeout=300)
    assert settled(hooked)[0].endswith("answered 204 (attempt 2)")
    told = until(
        lambda: [e for e in events_of(f"corrigenda.candidate.{DIGEST}") if "ends at once" in str(e["payload"])]
    )
    assert told[0]["event"] == "corrigenda.approved"


def test_the_list_shows_what_was_sent_and_what_failed(hooked, receiver, ledger_url, monkeypatch):
    monkeypatch.setenv("CORRIGENDA_DATABASE_URL", ledger_url)
    receiver.statuses = [404, 204]
    tell("approved", candidate=DIGEST, text="first", ledger=hooked)
    settled(hooked)
    tell("promoted", candidate=DIGEST, text="second", ledger=hooked)
    settled(hooked, 2)
    shown = CliRunner().invoke(app, ["notices"], env={"COLUMNS": "200"}).output
    rows = [[cell.strip() for cell in line.split("│")[2:-1]] for line in shown.splitlines() if "UTC" in line]
    host = receiver.url.removesuffix("/secret-path")
    assert rows == [
        ["approved", "failed", f"{host} answered 404 (attempt 1)", "first"],
        ["promoted", "sent", f"{host} answered 204 (attempt 1)", "second"],
    ]


def test_the_automation_is_made_once_and_kept_as_people_changed_it(stack):
    with prefect_client() as client:
        (found,) = client.read_automations_by_name(NAME)  # of 'corrigenda up'
        assert ensure_automation(client) == str(found.id)
        assert client.read_automations_by_name(NAME) == [found]
        with pytest.raises(NoticeError, match="no block 'slack-webhook/nobody'"):
            ensure_automation(client, block="slack-webhook/nobody")


def test_an_event_fires_the_automation_which_notifies_through_a_block(ledger, receiver):
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    digest = uuid4().hex * 2
    name = f"people-{digest[:8]}"
    block = CustomWebhookNotificationBlock(
        name="people", url=receiver.url, json_data={"subject": "{{subject}}", "body": "{{body}}"}
    )
    block.save(name)
    with prefect_client() as client:
        ensure_automation(client, block=f"custom-webhook/{name}")
    time.sleep(10)  # the server reads its automations again every second or so
    ledger.append([Event(entity="candidate", key=digest, kind="opened", actor="refresh")])
    tell("candidate-ready", candidate=digest, text="{{ 7 * 7 }} waits for you", ledger=ledger)
    until(lambda: receiver.got)
    shown = json.loads(receiver.got[0][1])
    assert shown == {"subject": "Corrigenda: candidate-ready", "body": "{{ 7 * 7 }} waits for you"}
    (event,) = until(lambda: events_of(f"corrigenda.candidate.{digest}"))  # stored some seconds after it fires
    assert event["event"] == "corrigenda.candidate-ready" and event["payload"]["candidate"] == digest
