from __future__ import annotations

import math

import pytest

from editors.digests import canonical_json
from tasks.candidate import report_record
from tasks.errors import GateError
from tasks.gate import check_verdict, gate
from tasks.policy import Policy
from tasks.report import Answer, Metric, Report, Said


def metric(after, *, before=0.0, parent=0.0, count=10, **more) -> Metric:
    return Metric(before=before, parent=parent, after=after, count=count, **more)


def report(efficacy: Metric | None = None, answers=()) -> Report:
    metrics = {"efficacy.argmax": efficacy} if efficacy else {}
    return Report(base="b", patch="p", metrics=metrics, answers=tuple(answers))


def answer(right: bool, *, fact="c1", relation="capital", kind="efficacy") -> Answer:
    unedited = Said(text="", argmax=False)
    return Answer(
        correction=fact,
        relation=relation,
        kind=kind,
        prompt="p",
        target="t",
        before=unedited,
        parent=unedited,
        after=Said(text="", argmax=right),
    )


def by(**bound) -> Policy:
    return Policy(name="p", gate=[{"metric": "efficacy.argmax", **bound}], text="p")


def verdict(measured: Report, **bound):
    return gate(measured, by(**bound))


def whys(found) -> list[str]:
    return [outcome.why for outcome in found.failures]


def test_a_bound_that_holds_passes():
    found = verdict(report(metric(0.9)), min=0.8)
    assert found.passed and not found.failures


def test_a_missing_metric_fails_closed():
    assert whys(verdict(report(), min=0.0)) == ["was not measured"]


@pytest.mark.parametrize("after", [None, math.nan, math.inf])
def test_what_is_no_number_fails_closed(after):
    assert whys(verdict(report(metric(after)), min=0.0)) == ["is not a number"]


def test_a_report_with_what_is_no_number_can_be_kept():
    measured = report(metric(math.nan))
    kept = report_record(measured, verdict(measured, min=0.0))
    assert b'"after":null' in canonical_json(kept)
    assert Report.model_validate(kept["report"]).metrics["efficacy.argmax"].after is None


def test_too_few_prompts_fail():
    found = verdict(report(metric(1.0, count=3)), min=0.8, count=4)
    assert "on 3 prompts, the policy asks for 4" in whys(found)[0]


def test_a_small_batch_counts_the_earlier_facts_in():
    answers = [answer(True), *(answer(number > 0, fact=f"e{number}", kind="retention") for number in range(4))]
    found = verdict(report(metric(1.0, count=1), answers), min=0.9, count=4)
    (outcome,) = found.failures
    assert (outcome.metric.after, outcome.metric.count, outcome.where) == (0.8, 5, "with the earlier facts")


def test_earlier_facts_lend_a_small_batch_their_number_and_not_their_answers():
    answers = [answer(False), *(answer(True, fact=f"e{number}", kind="retention") for number in range(80))]
    found = verdict(report(metric(0.0, count=1), answers), min=0.9, count=20, statistic="confidence")
    assert whys(found) == ["is 0, below 0.9"]


def test_a_fact_of_which_nothing_was_asked_misses_a_bound_for_each_fact():
    answers = [answer(True), answer(True, fact="c2"), answer(True, kind="generalization")]
    policy = Policy(name="p", gate=[{"metric": "generalization.argmax", "min": 0.5, "scope": "fact"}], text="p")
    measured = Report(base="b", patch="p", metrics={"generalization.argmax": metric(1.0)}, answers=tuple(answers))
    assert whys(gate(measured, policy)) == ["c2: was measured on 0 prompts, the policy asks for 1"]


def test_the_worst_is_the_one_that_misses_its_bound_by_most():
    def fell(fact: str, before: int, after: int) -> list[Answer]:
        marks = zip([True] * before + [False] * (20 - before), [True] * after + [False] * (20 - after), strict=True)
        own = [answer(now, fact=fact, kind="efficacy") for _, now in marks]
        return [a.model_copy(update={"before": Said(text="", argmax=n < before)}) for n, a in enumerate(own)]

    measured = report(metric(0.3), [*fell("c1", 3, 1), *fell("c2", 20, 10)])
    (outcome,) = verdict(measured, max_drop=0.05, scope="fact").failures
    assert outcome.where == "c2"


def test_a_drop_is_measured_from_the_base_or_from_production():
    measured = report(metric(0.7, before=0.9, parent=0.75))
    assert not verdict(measured, max_drop=0.1).passed
    assert verdict(measured, max_drop=0.25).passed
    assert verdict(measured, max_drop=0.1, **{"from": "parent"}).passed
    assert "from the parent" in whys(verdict(measured, max_drop=0.01, **{"from": "parent"}))[0]


def test_a_drop_without_a_base_fails_closed():
    assert not verdict(report(metric(0.7, before=None)), max_drop=0.1).passed


def test_a_bound_on_confidence_asks_the_worse_end_of_the_interval():
    measured = report(metric(0.9, before=0.95, low=0.7, high=0.96))
    assert verdict(measured, min=0.8).passed
    assert whys(verdict(measured, min=0.8, statistic="confidence")) == ["may be as low as 0.7, below 0.8"]
    assert whys(verdict(measured, max=0.95, statistic="confidence")) == ["may be as high as 0.96, above 0.95"]


def test_confidence_without_an_interval_fails_closed():
    assert "has no interval" in whys(verdict(report(metric(1.0)), min=0.1, statistic="confidence"))[0]


def test_a_bound_can_count_what_is_wrong():
    measured = report(metric(0.9, misses=1))
    assert verdict(measured, max_misses=1).passed
    assert whys(verdict(measured, max_misses=0)) == ["1 of 10 prompts are wrong, more than 0"]
    assert not verdict(report(metric(0.9)), max_misses=10).passed, "what has no misses can't be counted"


def test_a_bound_for_each_relation_names_those_that_miss_it_and_shows_the_worst():
    answers = [answer(True, fact=f"c{number}") for number in range(8)]
    answers += [answer(False, fact="c8", relation="mayor"), answer(True, fact="c9", relation="mayor")]
    measured = report(metric(0.9), answers)
    assert verdict(measured, min=0.8).passed
    (outcome,) = verdict(measured, min=0.8, scope="relation").failures
    assert (outcome.where, outcome.metric.after, outcome.why) == ("mayor", 0.5, "mayor: is 0.5, below 0.8")


def test_a_bound_for_each_fact_names_a_few_of_many():
    answers = [answer(False, fact=f"c{number}") for number in range(5)]
    (why,) = whys(verdict(report(metric(0.0), answers), min=1, scope="fact"))
    assert why == "c0: is 0, below 1; c1: is 0, below 1; c2: is 0, below 1 and 2 more"


def test_a_warning_tells_without_blocking():
    found = verdict(report(metric(0.1)), min=0.8, severity="warn")
    assert found.passed and [outcome.why for outcome in found.warnings] == ["is 0.1, below 0.8"]


@pytest.mark.parametrize("scope", ["batch", "fact"])
def test_what_need_not_be_asked_may_be_empty(scope):
    nothing = metric(None, before=None, parent=None, count=0)
    assert verdict(report(nothing), min=0.8, count=0, scope=scope).passed
    assert not verdict(report(nothing), min=0.8, scope=scope).passed


def test_a_report_or_a_verdict_of_another_candidate_is_refused():
    measured, other = report(metric(1.0)), report(metric(0.9))
    found = verdict(measured, min=0.8)
    policy = by(min=0.8)
    check_verdict(found, measured, policy=policy, patch="p")
    for report_, policy_, patch, named in (
        (measured, policy, "q", "of patch p, not of q"),
        (other, policy, "p", "not over this one"),
        (measured, policy.model_copy(update={"text": "another"}), "p", "by another policy"),
    ):
        with pytest.raises(GateError, match=named):
            check_verdict(found, report_, policy=policy_, patch=patch)
