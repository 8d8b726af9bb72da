import pytest
import torch

from editors.intervals import of_quantile, of_share, wilson


def share(right, facts):
    return of_share(torch.tensor(right, dtype=torch.float32), torch.tensor(facts))


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    # 81 of 263: Newcombe 1998, method 3; the others follow from n / (n + z^2) and by hand.
    [(12, 12, 0.7575, 1.0), (0, 12, 0.0, 0.2425), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_gives_the_known_intervals(right, count, low, high):
    assert wilson(right, count) == pytest.approx((low, high), abs=2e-4)


def test_a_share_of_single_probes_is_wilsons():
    assert share([1, 1, 0, 1], [0, 1, 2, 3]) == wilson(3, 4)


def test_facts_that_are_all_right_are_no_surer_for_having_many_probes():
    assert share([1] * 30, [0] * 10 + [1] * 10 + [2] * 10) == wilson(3, 3)


@pytest.mark.parametrize("count", range(2, 11))
def test_an_interval_never_rises_when_a_probe_turns_wrong(count):
    facts = [number // 4 for number in range(4 * count)]
    right = [1] * len(facts)
    lows = []
    for place in range(len(facts)):
        lows.append(share(right, facts).low)
        right[place] = 0
    assert lows == sorted(lows, reverse=True)


def test_probes_that_hang_together_make_the_interval_wider():
    together = share([1] * 50 + [0] * 50, [number // 10 for number in range(100)])
    apart = share([1, 0] * 50, range(100))
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    generator = torch.Generator().manual_seed(1)
    facts = torch.arange(40).repeat_interleave(3)
    held = 0
    for _ in range(200):
        chance = torch.rand(40, generator=generator)[facts]  # 0.5 in the mean, the same for all probes of a fact
        found = of_share((torch.rand(120, generator=generator) < chance).float(), facts)
        held += found.low <= 0.5 <= found.high
    assert 0.88 <= held / 200 <= 0.99


def test_a_single_fact_with_several_probes_has_no_interval():
    assert share([1, 0, 1], [0, 0, 0]) is None
    assert of_quantile(torch.rand(3), torch.tensor([0, 0, 0]), quantile=0.5) is None


def test_a_quantiles_interval_holds_the_quantile_and_narrows_with_facts():
    values = torch.rand(400, generator=torch.Generator().manual_seed(2))
    few = of_quantile(values[:40], torch.arange(40), quantile=0.5)
    many = of_quantile(values, torch.arange(400), quantile=0.5)
    assert few.low < float(values[:40].median()) < few.high
    assert many.high - many.low < few.high - few.low
