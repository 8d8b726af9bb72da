import pytest

from editors.benchmark import run
from editors.errors import InvalidConfigError
from editors.facts import Fact
from editors.measuring import measure
from editors.patch import applied
from editors.records import Neighbour, Record
from editors.registry import edit


def record(name, subject, prompt, target, prior):
    return Record(
        fact=Fact(id=name, subject=subject, prompt=prompt, target=target, prior=prior),
        paraphrases=(f"It is said that {prompt.replace('{}', subject)}",),
        neighbours=(Neighbour(prompt="The river in Bern is", answer="the Aare"),),
    )


RECORDS = [
    record("f1", "France", "The capital of {} is", "Rome", "Paris"),
    record("f2", "Marie Curie", "The mother tongue of {} is", "Italy", "Polish"),
    record("f3", "Boeing", "{} is led by", "Paris", "Kelly Ortberg"),
]
HELD = [[0, *range(10, 30)], [0, *range(40, 60)]]


def bench(tiny, records=RECORDS, **changes):
    return run(tiny.model, tiny.tokenizer, records, **tiny.given(), held=HELD, **changes)


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
    assert [(each.facts, each.edited) for each in report.rounds] == [(1, 1), (2, 2), (3, 3)]
    facts = [record.fact for record in RECORDS]
    assert report.rounds[-1].patch == edit(tiny.model, tiny.tokenizer, facts, **tiny.given()).digest


def test_a_sequential_round_edits_new_facts_into_the_edited_model(tiny):
    before = tiny.base
    report = bench(tiny, rounds=3, sequential=True)
    assert tiny.base == before
    assert [(each.facts, each.edited) for each in report.rounds] == [(1, 1), (2, 1), (3, 1)]
    given = tiny.given()
    first, alone = (edit(tiny.model, tiny.tokenizer, [each.fact], **given) for each in RECORDS[:2])
    assert report.rounds[0].patch == first.digest
    assert report.rounds[1].patch != alone.digest
    with applied(tiny.model, first, base=tiny.base):
        onto = edit(tiny.model, tiny.tokenizer, [RECORDS[1].fact], **given)
    for site, delta in onto.deltas.items():
        assert delta.dense().norm() > 0, site


def test_a_record_that_contradicts_an_earlier_one_is_left_out_and_named(tiny):
    report = bench(tiny, [*RECORDS, record("f9", "France", "The capital of {} is", "Bern", "Paris")])
    assert report.rounds[0].facts == 3
    assert [line.split(":")[0] for line in report.left_out] == ["f9 contradicts f1"]


@pytest.mark.parametrize("rounds", [0, 4])
def test_more_rounds_than_records_are_refused(tiny, rounds):
    with pytest.raises(InvalidConfigError, match=f"3 records can't be divided into {rounds} rounds"):
        bench(tiny, rounds=rounds)


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
