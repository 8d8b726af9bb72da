"""Who is blamed for a failed gate, in made-up worlds: what each fact breaks is planted, and trials tell the truth."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editors.facts import Fact
from governance.lifecycle import Event
from tasks.candidate import quarantine
from tasks.collect import Batch, Leaving, remaining
from tasks.companions import MARK
from tasks.corrections import Correction
from tasks.culprits import Culprits, find_culprits
from tasks.gate import gate
from tasks.harm import Harm, Trial
from tasks.ledger import Ledger
from tasks.measures import measure
from tasks.policy import Policy
from tasks.report import Answer, Metric, Report, Said
from tasks.screen import Screened
from tasks.store import Store
from tasks.tables import Standing

COUNT = 12
SAID = {"metric": "efficacy.generation", "min": 0.9}
ARGMAX = {"metric": "efficacy.argmax", "min": 0.9}
NEIGHBOURS = {"metric": "specificity.argmax", "min": 0.8}
MOVED = {"metric": "specificity.kl_median", "max": 0.3}
TEXT = {"metric": "regression.perplexity_ratio", "max": 1.05}


@dataclass(frozen=True)
class World:
    """Facts f0 to f11, each with three neighbours, of subjects that are called the same.

    Attributes:
        unlearnable: facts that are never said.
        breaks: the prompts that are wrong as long as a fact is in.
        text: what each fact adds to perplexity.
        earlier: facts that were released before.
    """

    unlearnable: frozenset[str] = frozenset()
    breaks: dict[str, set[str]] = field(default_factory=dict)
    text: dict[str, float] = field(default_factory=dict)
    earlier: frozenset[str] = frozenset()

    @property
    def names(self) -> list[str]:
        return [f"f{number}" for number in range(COUNT)]

    def kind(self, name: str) -> str:
        return "retention" if name in self.earlier else "efficacy"

    def said(self, kind: str, fact: str, prompt: str, without: Collection[str]) -> Said:
        broken = any(prompt in prompts for name, prompts in self.breaks.items() if name not in without)
        right = not broken and not (kind != "specificity" and fact in self.unlearnable)
        if kind == "specificity":
            return Said(text="", argmax=right, kl=0.1 if right else 0.9)
        return Said(text="right" if right else "wrong", argmax=right, generation=right)

    def answer(self, kind: str, fact: str, prompt: str) -> Answer:
        base = Said(text="", argmax=True, kl=0.0) if kind == "specificity" else Said(text="", argmax=False)
        after = self.said(kind, fact, prompt, ())
        same = {"correction": fact, "relation": "r", "kind": kind, "prompt": prompt, "target": "t"}
        return Answer(**same, before=base, parent=base, after=after)

    def report(self, *measured: str) -> Report:
        answers = [self.answer(self.kind(name), name, name) for name in self.names]
        answers += [self.answer("specificity", name, f"{name}-{n}") for name in self.names for n in range(3)]
        asked = [name for name in measured if not name.startswith("regression.")]
        metrics = {name: measure(name, [a for a in answers if a.kind == name.partition(".")[0]]) for name in asked}
        ratio = 1 + sum(self.text.values())
        metrics["regression.perplexity_ratio"] = Metric(before=1.0, parent=1.0, after=ratio, count=2000)
        return Report(base="b", patch="p", metrics=metrics, answers=tuple(answers))

    def harm(self, *bounds: dict) -> Harm:
        new = frozenset(self.names) - self.earlier
        return Harm(
            report=self.report(*(bound["metric"] for bound in bounds)),
            policy=Policy(name="p", gate=bounds, text="p"),
            new=new,
        )


class Bench:
    """Makes trials in a world, and counts them."""

    def __init__(self, world: World, harm: Harm) -> None:
        self.world, self.harm, self.made = world, harm, 0

    def without(self, subjects, *, corrections) -> Trial:
        self.made += 1
        answers = self.harm.report.answers
        said = {
            place: self.world.said(answers[place].kind, answers[place].correction, answers[place].prompt, subjects)
            for place in self.harm.places
        }
        ratio = 1 + sum(more for name, more in self.world.text.items() if name not in subjects)
        text = {"regression.perplexity_ratio": ratio} if self.harm.over_text else {}
        return Trial(without=frozenset(corrections), said=said, text=text)


def blamed(world: World, *bounds: dict, budget: int = 40, companions: dict[str, str] | None = None) -> Culprits:
    harm = world.harm(*bounds)
    bench = Bench(world, harm)
    known = {
        "named": 0,
        "loss": 0.05,
        "size": 1.0,
        "leverage": 0.9,
        "collision": 0.2,
        "nearest": "",
        "disturbance": 0.1,
    }
    screened = {
        name: Screened(failing=len(harm.own(name)), **known | {"loss": 3.0 if name in world.unlearnable else 0.05})
        for name in world.names
    }
    subjects = {name: [Fact(id=name, subject=name, prompt="{} is", target="t")] for name in world.names}
    for subject, owner in (companions or {}).items():
        subjects[subject] = [Fact(id=f"{owner}{MARK}1", subject=subject, prompt="{} is", target="t")]
        screened[subject] = Screened(failing=0, **known)
    found = find_culprits(harm, bench, subjects, screened=screened, enough=0.1, budget=budget)
    assert found.trials == bench.made <= budget
    return found


def neighbours(*names: str) -> set[str]:
    return {f"{name}-{n}" for name in names for n in range(3)}


@settings(max_examples=20)
@given(data=st.data())
def test_exactly_what_cannot_be_learned_and_what_harms_the_others_is_blamed(data):
    order = data.draw(st.permutations([f"f{number}" for number in range(COUNT)]))
    unlearnable, harmful, victims = frozenset(order[:2]), order[2], order[3:6]
    found = blamed(World(unlearnable, {harmful: {*victims, *neighbours(*victims)}}), SAID, NEIGHBOURS)
    assert set(found.ids) == {*unlearnable, harmful}


def test_a_correction_is_blamed_for_what_its_companion_does():
    world = World(breaks={"alias": {"f3", "f4", *neighbours("f5", "f6")}})
    found = blamed(world, SAID, NEIGHBOURS | {"min": 0.9}, companions={"alias": "f2", "consequence": "f7"})
    assert found.ids == ["f2"]


def test_reasons_say_what_a_fact_does():
    world = World(frozenset({"f1"}), {"f2": {"f3", "f4", *neighbours("f5", "f6")}})
    reasons = {
        culprit.correction: culprit.reason for culprit in blamed(world, SAID, ARGMAX, NEIGHBOURS | {"min": 0.9}).found
    }
    assert reasons["f2"].startswith(
        "takes the answers of 6 neighbours and 2 other facts: without it they are right again"
    )
    assert reasons["f1"].startswith(
        "is not said after the edit (generation, argmax); its value ends with a loss of 3.00"
    )


def test_a_fact_whose_own_neighbours_fail_is_not_blamed_for_what_another_one_does():
    found = blamed(World(breaks={"f7": neighbours("f0", "f1", "f2", "f7")}), NEIGHBOURS, MOVED)
    assert found.ids == ["f7"]


def test_two_facts_that_break_the_same_prompts_are_found_as_a_group():
    broken = neighbours("f0", "f1", "f2")
    found = blamed(World(breaks={"f0": broken, "f1": broken}), NEIGHBOURS)
    assert set(found.ids) == {"f0", "f1"}
    assert "together with 'f1'" in found.found[0].reason


def test_a_fact_that_costs_text_is_found_by_text_alone():
    (found,) = blamed(World(text={"f9": 0.2} | dict.fromkeys(["f1", "f2"], 0.01)), TEXT).found
    assert (found.correction, found.reason) == ("f9", "makes ordinary text less likely")


def test_where_everybody_does_a_little_nobody_is_blamed():
    world = World(text={f"f{number}": 0.01 for number in range(COUNT)})
    found = blamed(world, TEXT)
    assert found.ids == [] and "no single one of them" in found.why


def test_a_fact_that_wavers_is_set_aside_and_not_the_one_without_which_it_is_said():
    assert blamed(World(breaks={"f8": {"f3"}}), SAID | {"min": 0.95}).ids == ["f3"]


def test_earlier_facts_are_never_blamed():
    world = World(frozenset({"f0"}), {"f1": neighbours("f2", "f3", "f4")}, earlier=frozenset({"f0", "f1"}))
    retention = {"metric": "retention.argmax", "min": 0.9}
    assert blamed(world, NEIGHBOURS, retention).ids == []


def test_a_bound_for_each_fact_names_its_culprits():
    found = blamed(World(breaks={"f4": neighbours("f4")}), NEIGHBOURS | {"scope": "fact"})
    assert found.ids == ["f4"]


def test_without_trials_those_that_fail_by_themselves_are_still_blamed():
    world = World(frozenset({"f0", "f1"}), {"f2": neighbours("f3", "f4", "f5")})
    found = blamed(world, SAID, NEIGHBOURS, budget=0)
    assert (set(found.ids), found.trials) == ({"f0", "f1"}, 0)


@pytest.mark.parametrize("bound", [{"count": 100}, {"statistic": "confidence"}, {"min": 1, "severity": "warn"}])
def test_a_batch_that_is_too_small_and_a_warning_are_nobodys_fault(bound):
    harm = World(frozenset({"f0"})).harm(SAID | bound)
    assert gate(harm.report, harm.policy).passed == ("severity" in bound)
    assert harm.bounds == ()


def test_what_a_culprit_would_have_superseded_is_back_in_the_rest():
    old, other, gone = (Correction(id=id, subject=id, prompt="{} is", target="x") for id in ("old", "other", "gone"))
    newer = Correction(id="newer", subject="old", prompt="{} is", target="y", supersedes="old")
    good = Correction(id="good", subject="good", prompt="{} is", target="y")
    leaving = [
        Leaving(correction=old, becomes="superseded", reason="superseded by newer", asked_by="refresh"),
        Leaving(correction=gone, becomes="expired", reason="held until yesterday", asked_by="refresh"),
    ]
    batch = Batch(new=(newer, good), earlier=(other,), leaving=tuple(leaving), parent="p")
    left = remaining(batch, ["newer"], now=datetime.now(UTC))
    assert ([c.id for c in left.new], [c.id for c in left.earlier]) == (["good"], ["other", "old"])
    assert [each.correction.id for each in left.leaving] == ["gone"]
    assert remaining(batch, ["good"], now=datetime.now(UTC)) == batch.model_copy(update={"new": (newer,)})


def test_what_a_culprit_would_have_superseded_and_has_ended_still_leaves():
    over = datetime(2020, 1, 1, tzinfo=UTC)
    old = Correction(id="old", subject="old", prompt="{} is", target="x", expires=over)
    newer = Correction(id="newer", subject="old", prompt="{} is", target="y", supersedes="old")
    leaving = Leaving(correction=old, becomes="superseded", reason="superseded by newer", asked_by="refresh")
    left = remaining(Batch(new=(newer,), earlier=(), leaving=(leaving,), parent="p"), ["newer"], now=datetime.now(UTC))
    assert left.earlier == () and [each.becomes for each in left.leaving] == ["expired"]


def test_harm_that_stays_without_the_new_facts_is_nobodys_fault():
    found = blamed(World(text={"something else": 0.5}), TEXT)
    assert found.innocent and "without the new facts too" in found.why
    assert not blamed(World(text=dict.fromkeys(World().names, 0.02)), TEXT).innocent
    assert blamed(World(text={"something else": 0.5}), TEXT, budget=0).innocent


def test_the_one_protected_fact_that_somebody_takes_is_reason_enough():
    world = World(breaks={"f4": {"f7-0"}})
    found = blamed(world, NEIGHBOURS | {"min": 1.0})
    assert found.ids == ["f4"]


@pytest.fixture
def set_aside(tiny_platform):
    """Quarantine what was found of twelve queued facts; returns where all of them stand."""
    ledger = Ledger(tiny_platform.database_url)
    new = tuple(Correction(id=name, subject=name, prompt="{} is", target="t") for name in World().names)
    policy = Policy(name="p", gate=[SAID | {"min": 0.95}], text="p")
    report = World(frozenset({"f1"})).report("efficacy.generation")
    for kind in ("submitted", "queued"):
        data = [{"correction": c.model_dump(mode="json")} if kind == "submitted" else {} for c in new]
        ledger.append(
            [
                Event(entity="correction", key=c.id, kind=kind, actor="ada", data=each)
                for c, each in zip(new, data, strict=True)
            ]
        )

    def quarantined(culprits: Culprits) -> dict[str, Standing]:
        batch, store = Batch(new=new, earlier=(), parent=None), Store(tiny_platform)
        aside = quarantine(batch, culprits, report, gate(report, policy), page="p", ledger=ledger, store=store)
        standings = {standing.key: standing for standing in ledger.standings("correction")}
        assert {key for key, standing in standings.items() if standing.state == "quarantined"} == set(aside)
        return {key: standings[key] for key in aside}

    return quarantined


@pytest.mark.stack
def test_a_culprit_is_set_aside_with_its_reason_and_what_was_measured(set_aside):
    (aside,) = set_aside(blamed(World(frozenset({"f1"})), SAID | {"min": 0.95})).items()
    key, standing = aside
    assert key == "f1" and standing.reason.startswith("is not said after the edit (generation)")
    assert standing.data["screen"]["loss"] == 3.0 and standing.data["trials"] == 12
    assert len(standing.data["report"]) == 64


@pytest.mark.stack
def test_where_nobody_is_to_blame_all_new_facts_are_set_aside_with_the_bounds_that_were_missed(set_aside):
    aside = set_aside(Culprits(found=(), trials=7, why="no single one of them does it"))
    assert set(aside) == set(World().names)
    assert {standing.reason for standing in aside.values()} == {
        "was in a batch of 12 new facts that fails: efficacy.generation is 0.9167, below 0.95; "
        "no single one of them does it"
    }
