import pytest

from editors import benchmark, joint
from editors.benchmark import Plan
from editors.errors import InvalidConfigError
from editors.facts import Fact
from editors.measuring import measure
from editors.patch import applied
from editors.registry import edit
from editors.shapes import Question, Record


def record(name, subject, prompt, target, prior):
    return Record(
        fact=Fact(id=name, subject=subject, prompt=prompt, target=target, prior=prior),
        paraphrases=(f"It is said that {prompt.replace('{}', subject)}",),
        neighbours=(Question(prompt="The river in Bern is", answer="the Aare"),),
    )


RECORDS = [
    record("f1", "France", "The capital of {} is", "Rome", "Paris"),
    record("f2", "Marie Curie", "The mother tongue of {} is", "Italy", "Polish"),
    record("f3", "Boeing", "{} is led by", "Paris", "Kelly Ortberg"),
]
HELD = [[0, *range(10, 30)], [0, *range(40, 60)]]


def bench(tiny, records=RECORDS, *, method="memit", rounds=1, asked=None, **changes):
    plan = Plan.of(records, rounds=rounds, asked=asked)
    return benchmark.run(tiny.model, tiny.tokenizer, plan, **tiny.given(method), held=HELD, **changes)


def unlikely(tiny):
    """The records, target and prior changed over where the model prefers the target already."""
    answers = measure(tiny.model, tiny.tokenizer, RECORDS, held=HELD).answers
    return [
        record(fact.id, fact.subject, fact.prompt, fact.prior, fact.target) if own[0].weighed.prefers_target else each
        for each, own in zip(RECORDS, answers, strict=True)
        for fact in [each.fact]
    ]


def test_an_edit_shows_in_the_metrics_and_the_model_is_given_back(tiny):
    before = tiny.base
    report = bench(tiny, unlikely(tiny))
    assert tiny.base == before
    (only,) = report.rounds
    efficacy = only.metric("efficacy", "logprob")
    assert efficacy.unedited and efficacy.edited
    assert efficacy.unedited.value == 0 < efficacy.edited.value
    assert only.drift.median is not None and only.drift.median > 0
    assert only.text.value != report.unedited.value
    assert report.unedited.tokens == 40
    assert {"values", "keys", "solve", "evaluation"} <= only.seconds.keys()


def test_the_unedited_figures_are_the_bases_own(tiny):
    metric = bench(tiny).rounds[0].metric("efficacy", "argmax")
    measured = measure(tiny.model, tiny.tokenizer, RECORDS, held=HELD)
    alone = [own[0].weighed.argmax for own in measured.answers]
    assert metric.unedited and metric.unedited.value == pytest.approx(sum(alone) / len(alone))


def test_the_last_round_from_the_base_is_one_edit_of_everything(tiny):
    report = bench(tiny, rounds=3)
    assert [(each.facts, each.new) for each in report.rounds] == [(1, 1), (2, 1), (3, 1)]
    facts = [record.fact for record in RECORDS]
    assert report.rounds[-1].patch == edit(tiny.model, tiny.tokenizer, facts, **tiny.given()).digest


@pytest.fixture
def optimised(monkeypatch):
    """What `joint` was asked to optimise, call by call, and each value that came out, the last one of a subject."""
    calls, values = [], {}
    values_of = joint.values_of

    def watched(model, tokenizer, subjects, **given):
        calls.append({subject: [fact.id for fact in facts] for subject, facts in subjects.items()})
        values.update(found := values_of(model, tokenizer, subjects, **given))
        return found

    monkeypatch.setattr(joint, "values_of", watched)
    return calls, values


def test_rounds_of_joint_from_the_base_optimise_new_subjects_alone_and_solve_for_all(tiny, optimised):
    calls, values = optimised
    report = bench(tiny, rounds=3, method="joint")
    assert calls == [{"France": ["f1"]}, {"Marie Curie": ["f2"]}, {"Boeing": ["f3"]}]
    assert report.rounds[-1].patch == joint.solve(tiny.model, values, **tiny.given("joint")).digest


def test_a_subject_whose_facts_grew_is_optimised_again(tiny, optimised):
    calls, values = optimised
    more = record("f4", "France", "{} has a river named", "the Aare", "the Seine")
    report = bench(tiny, [*RECORDS[:2], more], rounds=3, method="joint")
    assert calls == [{"France": ["f1"]}, {"Marie Curie": ["f2"]}, {"France": ["f1", "f4"]}]
    assert report.rounds[-1].patch == joint.solve(tiny.model, values, **tiny.given("joint")).digest


def test_values_that_are_given_are_not_optimised(tiny, optimised):
    calls, values = optimised
    first = bench(tiny, rounds=2, method="joint")
    calls.clear()
    given = {(record.fact,): values[record.fact.subject] for record in RECORDS}
    again = bench(tiny, rounds=3, method="joint", values=given)
    assert calls == [{}, {}, {}]
    assert again.rounds[-1].patch == first.rounds[-1].patch


def test_a_sequential_round_edits_new_facts_into_the_edited_model(tiny):
    before = tiny.base
    report = bench(tiny, rounds=3, sequential=True)
    assert tiny.base == before
    assert [(each.facts, each.new) for each in report.rounds] == [(1, 1), (2, 1), (3, 1)]
    given = tiny.given()
    first, alone = (edit(tiny.model, tiny.tokenizer, [each.fact], **given) for each in RECORDS[:2])
    assert report.rounds[0].patch == first.digest
    assert report.rounds[1].patch != alone.digest
    with applied(tiny.model, first, base=tiny.base):
        onto = edit(tiny.model, tiny.tokenizer, [RECORDS[1].fact], **given)
    for site, delta in onto.deltas.items():
        assert delta.dense().norm() > 0, site


def test_a_record_that_contradicts_an_earlier_one_is_left_out_and_named():
    plan = Plan.of([*RECORDS, record("f9", "France", "The capital of {} is", "Bern", "Paris")])
    assert plan.records == tuple(RECORDS)
    assert [line.split(":")[0] for line in plan.left_out] == ["f9 contradicts f1"]


@pytest.mark.parametrize("rounds", [0, 4])
def test_more_rounds_than_records_are_refused(rounds):
    with pytest.raises(InvalidConfigError, match=f"3 records can't be divided into {rounds} rounds"):
        Plan.of(RECORDS, rounds=rounds)


def test_the_records_that_are_asked_about_are_spread_and_never_ahead_of_what_is_edited_in(tiny):
    assert Plan.of(RECORDS * 4, asked=5).asked == (0, 3, 6, 9)
    report = bench(tiny, rounds=3, asked=2)
    assert [(each.facts, each.asked) for each in report.rounds] == [(1, 1), (2, 1), (3, 2)]
    assert report.rounds[-1].metric("efficacy", "argmax").count == 2
    with pytest.raises(InvalidConfigError, match="0 records can't be asked about"):
        Plan.of(RECORDS, asked=0)


def test_an_interrupted_benchmark_gives_the_model_back(tiny):
    before = tiny.base

    def interrupt(what, done, total):
        if what == "layers":
            armed.append(1)
        if armed and what == "scoring":
            raise KeyboardInterrupt

    armed = []
    with pytest.raises(KeyboardInterrupt):
        bench(tiny, rounds=3, sequential=True, progress=interrupt)
    assert tiny.base == before
