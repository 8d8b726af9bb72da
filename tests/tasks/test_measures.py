from __future__ import annotations

import pytest

from editors.intervals import wilson
from tasks.measures import measure
from tasks.report import Answer, Said


def answer(before: Said, after: Said, *, fact="c1", parent: Said | None = None) -> Answer:
    return Answer(
        correction=fact,
        relation="r",
        kind="k",
        prompt="p",
        target="t",
        before=before,
        parent=parent or before,
        after=after,
    )


def said(**marks) -> Said:
    return Said(text="", **marks)


def test_a_share_is_over_prompts_and_its_interval_over_facts():
    answers = [answer(said(argmax=False), said(argmax=number > 0), fact=f"c{number}") for number in range(12)]
    found = measure("efficacy.argmax", answers)
    assert (found.before, found.after, found.count, found.misses) == (0, pytest.approx(11 / 12), 12, 1)
    assert (found.low, found.high) == wilson(11, 12)


def test_a_prompt_without_a_prior_does_not_count_for_probability():
    answers = [answer(said(logprob=False), said(logprob=True)), answer(said(), said(), fact="c2")]
    assert measure("efficacy.logprob", answers).count == 1


def test_kept_counts_what_the_base_got_right():
    right, wrong = said(generation=True), said(generation=False)
    answers = [answer(right, right), answer(right, wrong, fact="c2"), answer(wrong, right, fact="c3")]
    found = measure("specificity.kept", answers)
    assert (found.before, found.after, found.count, found.misses) == (1, 0.5, 2, 1)


def test_how_far_neighbours_moved_is_a_quantile_with_its_interval():
    answers = [answer(said(kl=0.0), said(kl=float(number)), fact=f"c{number}") for number in range(11)]
    found = measure("specificity.kl_median", answers)
    assert (found.before, found.parent, found.after, found.misses) == (0, 0, 5, None)
    assert found.low < 5 < found.high


def test_nothing_asked_has_no_number():
    found = measure("efficacy.argmax", [])
    assert (found.before, found.after, found.count, found.low) == (None, None, 0, None)
