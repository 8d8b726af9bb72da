"""What a refresh does with facts that are to blame, with everything around it made up."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import flows.refresh
from flows.refresh import make_candidate
from tasks.collect import Batch
from tasks.corrections import Correction
from tasks.culprits import Culprit, Culprits
from tasks.errors import GateError

NAMES = ["a", "b", "c", "d"]


def batch_of(names) -> Batch:
    facts = tuple(Correction(id=name, subject=name, prompt="{} is", target="t") for name in names)
    return Batch(new=facts, earlier=(), parent=None)


class Gate:
    """Passes once some facts are out; blames one of them in each round, by ten trials."""

    def __init__(self, *bad: str, blames: bool = True) -> None:
        self.bad, self.blames = bad, blames
        self.budgets: list[int] = []
        self.aside: list[str] = []

    def judge(self, report, policy):
        failing = [c.id for c in report.new if c.id in self.bad]
        return SimpleNamespace(passed=not failing, failure="the gate 'p' fails: efficacy.argmax is 0.5")

    def find(self, base, batch, edit, report, policy, *, budget):
        self.budgets.append(budget)
        bad = [c.id for c in batch.new if c.id in self.bad][:1] if self.blames else []
        found = tuple(Culprit(correction=id, reason="r", measured={}) for id in bad)
        return Culprits(found=found, trials=min(10, budget), why="" if bad else "no single one of them")

    def quarantine(self, batch, culprits, report, verdict, page):
        assert page == "kept", "what is set aside names the page that shows why"
        aside = culprits.ids or [c.id for c in batch.new]
        self.aside += aside
        return batch_of([c.id for c in batch.new if c.id not in aside])


@pytest.fixture
def refresh(monkeypatch):
    def run(gate: Gate, names=NAMES):
        for name, stand_in in {
            "policy_task": lambda name: None,
            "base_task": lambda: None,
            "prepare_task": lambda base: None,
            "edit_task": lambda base, batch, ingredients: None,
            "evaluate_task": lambda base, batch, edit: batch,
            "gate_task": gate.judge,
            "show": lambda batch, report, verdict: "" if verdict.passed else "kept",
            "culprits_task": gate.find,
            "quarantine_task": gate.quarantine,
            "open_candidate_task": lambda base, batch, *rest: [c.id for c in batch.new],
        }.items():
            monkeypatch.setattr(flows.refresh, name, stand_in)
        monkeypatch.setenv("CORRIGENDA_CULPRIT_TRIALS", "25")
        return make_candidate(batch_of(names))

    return run


def test_the_rest_of_a_batch_goes_on_without_its_culprits_and_trials_share_one_budget(refresh):
    gate = Gate("b", "c")
    assert refresh(gate) == ["a", "d"]
    assert (gate.aside, gate.budgets) == (["b", "c"], [25, 15])


def test_a_batch_that_passes_blames_nobody(refresh):
    gate = Gate()
    assert refresh(gate) == NAMES
    assert gate.aside == gate.budgets == []


def test_where_everybody_is_a_culprit_the_refresh_ends_and_says_so(refresh):
    gate = Gate(*NAMES)
    said = r"efficacy\.argmax is 0\.5\. No new fact is left; set aside last: d.*blobs/kept: 'corrigenda page kept FILE'"
    with pytest.raises(GateError, match=said):
        refresh(gate)
    assert gate.aside == NAMES and gate.budgets == [25, 15, 5, 0]


def test_where_nobody_is_found_all_are_set_aside_and_no_later_refresh_fails_on_them_again(refresh):
    gate = Gate("a", blames=False)
    with pytest.raises(GateError, match=r"set aside last: a, b, c, d \(no single one of them\)"):
        refresh(gate)
    assert gate.aside == NAMES
