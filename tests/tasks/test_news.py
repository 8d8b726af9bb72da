"""What happened is told from the ledger, by whoever looks next, once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from governance.lifecycle import Event
from tasks import news
from tasks.collect import events_for
from tasks.ledger import Ledger
from tasks.news import tell_news, untold
from tests.conftest import until

pytestmark = pytest.mark.stack

DIGEST = "c" * 64
OPENED = {"version": "7", "new": ["france"], "returning": [], "leaving": []}


def candidate(kind: str, reason: str = "", digest: str = DIGEST, **data) -> Event:
    return Event(entity="candidate", key=digest, kind=kind, actor="grace", reason=reason, data=data)


def release(ledger: Ledger, **opened) -> None:
    ledger.append([candidate("opened", **OPENED | opened)])
    ledger.release(DIGEST, parent="base", new=[candidate("approved", "seen")])


def promotes(ledger: Ledger, **opened) -> None:
    release(ledger, **opened)
    ledger.append([candidate("promoted")])


def closes(kind: str, reason: str = "because", **data):
    return lambda ledger: ledger.append([candidate("opened", **OPENED), candidate(kind, reason, **data)])


def withdraws(ledger: Ledger) -> None:
    for kind in ("submitted", "queued", "in candidate", "released", "held"):
        ledger.append(events_for(["japan", "italy"], kind, actor="t"))
    ledger.append(events_for(["japan", "italy"], "revoked", actor="ada", reason="wrong"))


LEAVING = [{"id": "boeing", "becomes": "revoked"}, {"id": "paris", "becomes": "expired"}]
HAPPENED = {
    "opened": (lambda ledger: ledger.append([candidate("opened", **OPENED)]), {"candidate-ready": "waits for review"}),
    "approved": (release, {"approved": "approved by grace, as release 1"}),
    "promoted": (promotes, {"approved": "release 1", "promoted": "(version 7) is in production"}),
    "revoked with it": (
        lambda ledger: promotes(ledger, leaving=LEAVING),
        {"approved": "release 1", "promoted": "in production", "revoked": "(version 7): boeing"},
    ),
    "rejected": (closes("rejected"), {"rejected": "rejected by grace"}),
    "struck": (
        closes("struck", struck=["france"]),
        {"rejected": "1 fact of candidate cccccccccccc struck by grace"},
    ),
    "stale": (closes("stale", "production moved"), {"stale": "production moved"}),
    "expired": (closes("expired", "nobody decided"), {"found": "nobody decided"}),
    "revoked at once": (withdraws, {"revoked": "japan, italy"}),
}


@pytest.mark.parametrize(("happens", "expected"), HAPPENED.values(), ids=HAPPENED)
def test_what_nobody_told_is_told_by_whoever_looks_next_and_once(ledger, happens, expected):
    happens(ledger)
    found = untold(ledger)
    assert len(found) == len(expected)
    for notice in found:
        assert expected[notice.kind] in notice.text
    again = untold(ledger)
    assert again == found, "the same by the same names, whoever tells it"
    tell_news(ledger)
    tell_news(ledger)
    assert {s.key for s in ledger.standings("notice")} == {notice.id for notice in found}
    assert untold(ledger) == []
    until(lambda: all(s.state == "sent" for s in ledger.standings("notice")))


def test_a_candidate_that_is_decided_waits_for_nobody_and_one_that_was_overtaken_is_not_in_production(ledger):
    promotes(ledger)
    ledger.append([candidate("opened", digest="d" * 64, **OPENED)])
    ledger.release("d" * 64, parent=DIGEST, new=[candidate("approved", digest="d" * 64)])
    assert [notice.kind for notice in untold(ledger)] == ["approved", "approved"]


def test_a_candidate_that_is_opened_again_is_told_again(ledger):
    ledger.append([candidate("opened", **OPENED)])
    tell_news(ledger)
    ledger.append([candidate("replaced"), candidate("opened", **OPENED)])
    assert [notice.kind for notice in untold(ledger)] == ["candidate-ready"]


def test_what_happened_long_ago_is_no_news(ledger, monkeypatch):
    closes("rejected")(ledger)
    monkeypatch.setattr(news, "OLDEST", timedelta())
    assert untold(ledger) == []
