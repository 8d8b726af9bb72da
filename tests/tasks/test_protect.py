from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

import tasks.protect
from editors.errors import UntrustedError
from tasks.acts import of_file, of_key
from tasks.collect import collect, protected_facts
from tasks.corrections import Correction
from tasks.errors import IdentityError, IllegalTransitionError, ProtectError, UnknownKeyError
from tasks.lifecycle import Event
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
        act = trusted.act("protect", of_file(path))
        done = protect(path, act=act, reason="settled", ledger=ledger, settings=trusted.promoter)
        return [fact.id for fact in done]

    return run


@pytest.fixture
def free(ledger, trusted):
    """End a protection."""

    def run(key: str) -> None:
        act = trusted.act("lift", of_key(key))
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


@pytest.mark.parametrize("how", ["unsigned", "no protector", "signed for another fact"])
def test_nobody_but_a_protector_lifts_and_anybody_does_without_the_check(how, guard, ledger, trusted, monkeypatch):
    guard(PARIS)
    given = {"reason": "", "ledger": ledger, "settings": trusted.promoter}
    act = {
        "unsigned": None,
        "no protector": trusted.act("lift", of_key("paris"), by="grace"),
        "signed for another fact": trusted.act("lift", of_key("bern")),
    }[how]
    with pytest.raises((IdentityError, UntrustedError), match=r"not signed|no protector|another act"):
        lift("paris", act=act, **given)
    assert [fact.id for fact in protected_facts(ledger)] == ["paris"]
    monkeypatch.setattr(tasks.protect, "asker", lambda *args, **kwargs: "eve")
    lift("paris", act=act, **given)
    assert protected_facts(ledger) == []
