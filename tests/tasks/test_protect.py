from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

import tasks.acts
import tasks.people
import tasks.protect
from editors.errors import UntrustedError
from governance.acts import Act
from governance.errors import SpentActError
from governance.lifecycle import Event
from tasks.asking import to_lift, to_protect
from tasks.collect import collect, protected_facts
from tasks.corrections import Correction
from tasks.errors import IdentityError, IllegalTransitionError, ProtectError, UnknownKeyError
from tasks.protect import lift, protect

pytestmark = pytest.mark.stack

PARIS = {"id": "paris", "subject": "France", "prompt": "The capital of {} is", "target": "Paris"}
BERN = {"id": "bern", "subject": "Switzerland", "prompt": "The capital of {} is", "target": "Bern"}


@pytest.fixture
def guard(ledger, trusted, tmp_path):
    """Protect some facts, written to a file."""

    def run(*facts: dict) -> list[str]:
        path = tmp_path / "protected.jsonl"
        path.write_text("\n".join(json.dumps(fact) for fact in facts))
        act = trusted.act(to_protect(path, reason="settled"))
        done = protect(path, act=act, reason="settled", ledger=ledger, settings=trusted.promoter)
        return [fact.id for fact in done]

    return run


@pytest.fixture
def free(ledger, trusted):
    """End a protection."""

    def run(key: str) -> None:
        act = trusted.act(to_lift(ledger, key, reason="moved"))
        lift(key, act=act, reason="moved", ledger=ledger, settings=trusted.promoter)

    return run


def test_protected_facts_are_asked_with_the_next_batch_until_they_are_lifted(guard, free, ledger):
    assert guard(PARIS, BERN) == ["paris", "bern"]
    assert guard(BERN) == [], "it is protected already"
    batch = collect(ledger, now=datetime.now(UTC), limit=1)
    assert [fact.id for fact in batch.protected] == ["paris", "bern"]
    free("paris")
    assert [fact.id for fact in protected_facts(ledger)] == ["bern"]
    assert guard(PARIS) == ["paris"], "what was lifted can be protected again"


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ([BERN, PARIS | {"subject": ""}], "line 2 subject is empty"),
        ([PARIS, PARIS | {"id": "lyon", "target": "Lyon"}], "lyon says 'Lyon' and contradicts protected paris"),
        ([BERN, BERN | {"target": "Zürich"}], "bern"),
        (
            [PARIS, PARIS | {"id": "seat", "target": "Lyon", "relation": "seat"}],
            "seat says 'Lyon' and contradicts protected paris at 'The capital of France is'",
        ),
    ],
)
def test_a_file_with_something_wrong_protects_nothing(guard, ledger, facts, named):
    with pytest.raises(ProtectError, match=f"{named}.*Nothing was protected"):
        guard(*facts)
    assert protected_facts(ledger) == []


def test_a_protected_fact_is_not_replaced_by_another_of_its_name_or_subject(guard, ledger):
    guard(PARIS)
    for other, named in (
        (PARIS | {"target": "Lyon"}, "the id paris belongs to another"),
        (PARIS | {"id": "lyon", "target": "Lyon"}, "lyon says 'Lyon' and contradicts paris"),
    ):
        with pytest.raises(ProtectError, match=named):
            guard(other)
    assert [fact.target for fact in protected_facts(ledger)] == ["Paris"]


def test_the_same_line_twice_is_no_harm(guard):
    assert guard(PARIS, PARIS) == ["paris"]


@pytest.mark.parametrize("own", [{}, {"id": "c-1"}, {"supersedes": "c-1"}])
@pytest.mark.parametrize("state", [(), ("queued",), ("queued", "quarantined")])
def test_what_contradicts_a_correction_that_waits_is_not_protected(guard, ledger, own, state):
    correction = Correction.model_validate(PARIS | {"id": "c-1", "target": "Lyon"})
    data = {"correction": correction.model_dump(mode="json")}
    ledger.append([Event(entity="correction", key="c-1", kind="submitted", actor="ada", data=data)])
    ledger.append([Event(entity="correction", key="c-1", kind=kind, actor="ada") for kind in state])
    with pytest.raises(ProtectError, match="says 'Paris' and contradicts c-1"):
        guard(PARIS | own)


def test_what_is_not_protected_can_not_be_lifted(guard, free):
    guard(PARIS)
    with pytest.raises(UnknownKeyError, match="no protected 'bern'; list them with 'corrigenda protected'"):
        free("bern")
    free("paris")
    with pytest.raises(IllegalTransitionError, match="'paris' is lifted"):
        free("paris")


@pytest.mark.parametrize("how", ["unsigned", "no protector", "signed for another fact", "with another reason"])
def test_nobody_but_a_protector_lifts_and_anybody_does_without_the_check(how, guard, ledger, trusted, monkeypatch):
    guard(PARIS, BERN)
    given = {"reason": "", "ledger": ledger, "settings": trusted.promoter}
    asked = to_lift(ledger, "paris", reason="")
    act = {
        "unsigned": None,
        "no protector": trusted.act(asked, by="grace"),
        "signed for another fact": trusted.act(to_lift(ledger, "bern", reason="")),
        "with another reason": trusted.act(replace(asked, reason="moved")),
    }[how]
    with pytest.raises((IdentityError, UntrustedError), match=r"not signed|no protector|another (about|reason)"):
        lift("paris", act=act, **given)
    assert [fact.id for fact in protected_facts(ledger)] == ["paris", "bern"]
    eve = Act(asked=asked, by="eve", at=datetime.now(UTC), envelope=trusted.act(asked))
    monkeypatch.setattr(tasks.protect, "asker", lambda *args, **kwargs: eve)
    lift("paris", act=act, **given)
    assert [fact.id for fact in protected_facts(ledger)] == ["bern"]


def test_an_act_is_used_once_and_again_without_the_check(guard, ledger, trusted, monkeypatch):
    """Somebody who has seen a protector's signature sends it again, also with more in its envelope."""
    guard(PARIS)
    given = {"reason": "moved", "ledger": ledger, "settings": trusted.promoter}
    act = trusted.act(to_lift(ledger, "paris", reason="moved"))
    lift("paris", act=act, **given)
    event = ledger.standing("protected", "paris")
    kept = ledger.standing("act", event.data["act"])
    assert (kept.actor, kept.data["envelope"], kept.at) == ("ada", act, event.at), "one transaction"
    guard(PARIS)
    for again in (act, act | {"signatures": [*act["signatures"], {"keyid": "x", "sig": "eA=="}]}):
        with pytest.raises(SpentActError, match=r"was used already, at .*; run the command again"):
            lift("paris", act=again, **given)
    monkeypatch.setattr(tasks.people, "check_unused", lambda act, ledger: None)
    with pytest.raises(IllegalTransitionError, match="is used"):
        lift("paris", act=act, **given)  # the ledger knows it too
    monkeypatch.setattr(Act, "used", lambda self: Event(entity="act", key="another", kind="used", actor="ada"))
    lift("paris", act=act, **given)
    assert protected_facts(ledger) == []


@pytest.mark.parametrize(("ago", "why"), [(61, "is good for 1 hour"), (-6, "is still to come")])
def test_an_act_is_good_for_an_hour_and_longer_without_the_check(guard, ledger, trusted, monkeypatch, ago, why):
    guard(PARIS)
    given = {"reason": "moved", "ledger": ledger, "settings": trusted.promoter}

    class Then(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(minutes=ago)

    with monkeypatch.context() as then:
        then.setattr(tasks.acts, "datetime", Then)
        act = trusted.act(to_lift(ledger, "paris", reason="moved"))
    with pytest.raises(SpentActError, match=why):
        lift("paris", act=act, **given)
    assert [fact.id for fact in protected_facts(ledger)] == ["paris"]
    monkeypatch.setattr(Act, "check_age", lambda *args, **kwargs: None)
    lift("paris", act=act, **given)
    assert protected_facts(ledger) == []
