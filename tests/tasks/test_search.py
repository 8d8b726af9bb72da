"""Whom a search finds, with harm that is made up."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.search import Found, search

NAMES = [f"s{number:02}" for number in range(20)]


def shares(harm: dict[str, float]) -> Callable[[frozenset[str]], float]:
    """Everyone does a share of the harm, and it adds up."""
    return lambda without: sum(harm.get(name, 0.0) for name in without)


def found(gain, *, suspects=NAMES, budget: int = 40) -> Found:
    return search(suspects, gain=gain, passes=lambda without: gain(without) > 0.99, budget=budget)


@given(st.sets(st.sampled_from(NAMES), min_size=1, max_size=4), st.permutations(NAMES))
def test_those_who_do_all_the_harm_are_found_in_any_order_of_suspicion(planted, order):
    harm = dict.fromkeys(planted, 1 / len(planted))
    assert set(found(shares(harm), suspects=order).culprits) == planted


def test_who_does_most_harm_comes_first():
    assert found(shares({"s04": 0.3, "s11": 0.7})).culprits == ("s11", "s04")


def test_where_all_do_the_same_harm_nobody_is_to_blame():
    assert found(shares(dict.fromkeys(NAMES, 1 / 20))).culprits == ()


def test_a_second_one_who_takes_nothing_more_off_is_left_in():
    assert found(lambda without: float(bool(without & {"s03", "s09"}))).culprits == ("s03",)


@given(st.sets(st.sampled_from(NAMES[:4]), min_size=2, max_size=3))
def test_a_group_is_found_where_nobody_alone_takes_harm_off_and_nobody_else_is_in_it(planted):
    group = found(lambda without: float(planted <= without), budget=60)
    assert set(group.culprits) == set(group.together) == planted


def test_one_who_helps_alone_and_two_who_help_together_are_all_found():
    both = found(lambda without: 0.5 * ("s10" in without) + 0.5 * ({"s00", "s01"} <= without))
    assert (both.culprits, both.together) == (("s10", "s00", "s01"), ("s00", "s01"))


@given(budget=st.integers(0, 50), seed=st.randoms(use_true_random=False))
def test_no_search_makes_more_trials_than_its_budget_or_counts_one_twice(budget, seed):
    made: dict[frozenset[str], float] = {}

    def gain(without):
        return made.setdefault(without, seed.random()) if without else 0.0

    assert found(gain, budget=budget).trials == len(made) <= budget


def test_nobody_is_blamed_without_a_trial():
    assert found(shares({"s00": 1.0}), budget=0) == Found(culprits=(), trials=0)


@pytest.mark.parametrize("suspects", [[], ["s00"]])
def test_few_suspects_are_no_special_case(suspects):
    assert found(shares({"s00": 1.0}), suspects=suspects).culprits == tuple(suspects)
