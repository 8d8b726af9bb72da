"""A correction that is queued again with other settings, and what they change."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest

from editors.batch import by_subject
from editors.errors import UntrustedError
from editors.joint import Joint
from governance.acts import Act
from governance.lifecycle import Event
from tasks.asking import to_cancel, to_retry
from tasks.cancel import cancel
from tasks.collect import Batch, corrections_in
from tasks.corrections import Correction, Editing
from tasks.edit import configs_of
from tasks.errors import IdentityError, IllegalTransitionError
from tasks.parse import parse_file
from tasks.retry import retry
from tasks.values import recipe_of

FRANCE = Correction(id="france", subject="France", prompt="The capital of {} is", target="Lyon")


@pytest.fixture
def happened(ledger):
    """Enter what happened to the correction; it begins as submitted and queued."""

    def append(kind, **data):
        ledger.append([Event(entity="correction", key="france", kind=kind, actor="ada", data=data)])

    append("submitted", correction=FRANCE.model_dump(mode="json"), file="f.jsonl")
    append("queued")
    return append


@pytest.fixture
def again(ledger, trusted):
    """Queue it again, as ada asks."""

    def run(**how) -> None:
        asked = to_retry(ledger, "france", **({"reason": "", "editing": None} | how))
        retry(ledger, "france", act=trusted.act(asked), settings=trusted.promoter, **how)

    return run


@pytest.mark.stack
def test_settings_are_kept_as_part_of_the_correction_through_all_that_happens_to_it(ledger, happened, again):
    happened("quarantined", trials=3)
    again(reason="longer", editing=Editing(steps=60, clamp=3))
    happened("quarantined")
    again()
    (queued,) = corrections_in(ledger, "queued")
    assert queued.editing.changes() == {"steps": 60, "clamp": 3.0}
    assert queued.content_digest() == FRANCE.content_digest() and queued.fact() == FRANCE.fact()
    assert ledger.standing("correction", "france").content["file"] == "f.jsonl"
    assert [event["reason"] for event in ledger.history("correction", "france")][3] == "longer"


@pytest.mark.stack
def test_only_what_was_set_aside_is_queued_again(happened, again):
    for state in ("queued", "in candidate", "released"):
        if state != "queued":
            happened(state)
        with pytest.raises(IllegalTransitionError, match=f"is {state}"):
            again()


CHANGES = {
    "retry": (retry, lambda ledger: to_retry(ledger, "france", reason="", editing=None), "queued"),
    "cancel": (cancel, lambda ledger: to_cancel(ledger, "france", reason=""), "cancelled"),
}


@pytest.mark.stack
@pytest.mark.parametrize("verb", CHANGES)
def test_a_correction_is_queued_again_or_cancelled_as_a_requester_signs_and_as_anybody_says_without_the_check(
    ledger, happened, trusted, verb, monkeypatch
):
    happened("quarantined")
    act, asked_of, state = CHANGES[verb]
    asked = asked_of(ledger)
    acts = {
        "is not signed": None,
        "grace is no requester": trusted.act(asked, by="grace"),
        "another reason": trusted.act(dataclasses.replace(asked, reason="other")),
        "another verb": trusted.act(dataclasses.replace(asked, verb="lift")),
    }
    for why, envelope in acts.items():
        with pytest.raises((IdentityError, UntrustedError), match=why):
            act(ledger, "france", act=envelope, settings=trusted.promoter)
    assert ledger.standing("correction", "france").state == "quarantined"
    eve = Act(asked=asked, by="eve", at=datetime.now(UTC), envelope=trusted.act(asked))
    with monkeypatch.context() as unchecked:
        unchecked.setattr(f"tasks.{verb}.asker", lambda *args, **kwargs: eve)
        act(ledger, "france", act=None, settings=trusted.promoter)
    assert (ledger.standing("correction", "france").state, ledger.history("correction", "france")[-1]["actor"]) == (
        state,
        "eve",
    )


def test_each_subject_is_optimised_with_the_settings_of_its_own_facts():
    harder = FRANCE.model_copy(update={"editing": Editing(steps=60)})
    italy = Correction(id="italy", subject="Italy", prompt="The capital of {} is", target="Milan")
    other = Correction(id="zz", subject="France", prompt="{} borders", target="Mali", editing=Editing(clamp=3.0))
    batch = Batch(new=(harder, italy, other), earlier=(), parent=None)
    configs = configs_of(by_subject([c.fact() for c in batch.facts]), batch, Joint())
    assert configs["Italy"] == Joint()
    assert (configs["France"].values.steps, configs["France"].values.clamp) == (60, 3.0)
    assert configs["France"].layers == Joint().layers


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"clamp": 0.0}, {"step_length": 2.0}, {"layers": 3}])
def test_settings_outside_their_range_and_others_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Editing.model_validate(wrong)


def test_a_file_cannot_choose_them(tmp_path):
    file = tmp_path / "some.jsonl"
    file.write_text('{"subject": "France", "prompt": "{} is", "target": "x", "editing": {"steps": 100}}\n')
    (line,) = parse_file(file)
    assert line.correction is None and "corrigenda retry" in line.problems[0]


def test_other_settings_ask_for_another_value():
    harder = dataclasses.replace(Joint(), values=dataclasses.replace(Joint().values, steps=60))
    given = {"base": "b", "contexts": "c"}
    assert recipe_of([FRANCE.fact()], config=harder, **given) != recipe_of([FRANCE.fact()], config=Joint(), **given)
