"""What the flows tell on a candidate's way, on the real services with a tiny model."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from prefect.states import Suspended

import flows.propose
import flows.review
import tasks.news
from flows.refresh import refresh
from flows.review import review
from flows.submission import submit_file
from flows.withdraw import revoke
from governance.lifecycle import Event
from tasks.asking import to_revoke
from tasks.candidate import the_open_candidate
from tasks.ledger import Ledger
from tests.conftest import until

pytestmark = pytest.mark.stack

FACT = '{{"subject": "{subject}", "prompt": "The capital of {{}} is", "target": "{target}", "requester": "ada"}}\n'


@pytest.fixture
def ledger(tiny_platform, receiver, monkeypatch) -> Ledger:
    """A ledger with a webhook; nobody is asked for a review."""
    monkeypatch.setenv("CORRIGENDA_WEBHOOK_URL", receiver.url)
    monkeypatch.setenv("CORRIGENDA_WEBHOOK_SECRET", "a secret of some length")
    run = SimpleNamespace(id="the-run", state=Suspended())
    monkeypatch.setattr(flows.propose, "start_review", lambda candidate: run)
    monkeypatch.setattr(tasks.news, "review_runs", lambda candidate: [run])
    return Ledger(tiny_platform.database_url)


@pytest.fixture
def submitted(tmp_path):
    def submit(subject: str, target: str) -> str:
        file = tmp_path / f"{subject}.jsonl"
        file.write_text(FACT.format(subject=subject, target=target))
        (line,) = submit_file(file)
        return line.key

    return submit


@pytest.fixture
def decides(tiny_platform, trusted, monkeypatch):
    """A reviewer signs a decision, and the review carries it out; what is queued again stays so."""
    monkeypatch.setattr(flows.review, "start_refresh_after", lambda standing: SimpleNamespace(id="the-next"))

    def answer(candidate: str, decision: str) -> str:
        trusted.receipt(candidate, decision=decision, comment="seen")
        with monkeypatch.context() as as_promoter:
            for name, value in trusted.promoters.items():
                as_promoter.setenv(name, value)
            return review(candidate)

    return answer


def told(receiver, number: int) -> list[tuple[str, str]]:
    """The kinds told so far with their candidates, in the order in which they happened."""
    until(lambda: len(receiver.got) >= number)
    bodies = sorted((json.loads(body) for _, body, _ in receiver.got), key=lambda body: body["at"])
    return [(body["kind"], body["candidate"]) for body in bodies]


def test_a_candidates_way_is_told_step_by_step(ledger, receiver, submitted, decides, trusted):
    fact = submitted("France", "Lyon")
    refresh()
    first = the_open_candidate(ledger).key
    assert told(receiver, 1) == [("candidate-ready", first)]
    assert "/runs/flow-run/the-run" in json.loads(receiver.got[0][1])["text"]
    decides(first, "approve")
    assert {kind for kind, _ in told(receiver, 3)} == {"candidate-ready", "approved", "promoted"}
    asked = to_revoke(ledger, [fact], reason="it was wrong", restore=False, replace=False)
    revoke([fact], "it was wrong", trusted.act(asked))
    second = the_open_candidate(ledger).key
    decides(second, "approve")
    assert sorted(told(receiver, 7)[3:]) == sorted(
        (kind, second) for kind in ("candidate-ready", "approved", "promoted", "revoked")
    )
    until(lambda: {s.state for s in ledger.standings("notice")} == {"sent"})  # which is said once it was answered


def test_a_rejection_is_told_and_so_is_what_was_overtaken(ledger, receiver, submitted, decides):
    submitted("France", "Lyon")
    refresh()
    first = the_open_candidate(ledger).key
    decides(first, "reject")
    assert ("rejected", first) in told(receiver, 2)
    submitted("Japan", "Osaka")
    refresh()
    second = the_open_candidate(ledger).key
    opened = {"parent": "0" * 64, "new": [], "returning": [], "leaving": []}
    ledger.append([Event(entity="candidate", key="d" * 64, kind="opened", actor="t", data=opened)])
    approval = Event(entity="candidate", key="d" * 64, kind="approved", actor="hopper")
    ledger.release("d" * 64, parent="0" * 64, new=[approval])
    assert decides(second, "approve").startswith("stale")
    assert ("stale", second) in told(receiver, 5)
