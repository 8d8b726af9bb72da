import dataclasses

import pytest
import torch

from editors.errors import InvalidConfigError
from editors.restoring import KINDS
from editors.roles import ROLES, average, by_role, one_of_each, roles_of
from editors.tracing import Question, Trace


def trace_of(length: int, subject: range, *, level: float = 0.0) -> Trace:
    """A trace of two layers whose effects are a level and, behind the point, the token's place."""
    effects = level + torch.arange(length).expand(2, -1) / 100
    return Trace(
        question=Question(prompt="", subject=""),
        tokens=tuple(str(place) for place in range(length)),
        subject=subject,
        answer="",
        clean=0.5,
        corrupted=0.1,
        noise=1.0,
        window=1,
        layers=range(2),
        effects=dict.fromkeys(KINDS, effects),
    )


@pytest.mark.parametrize(
    ("length", "subject", "roles"),
    [
        (10, range(2, 6), [0, 1, 1, 2, 3, 4, 4, 5]),
        (6, range(2, 4), [0, 2, 3, 5]),
        (5, range(2, 3), [2, 3, 5]),
        (4, range(1, 3), [0, 2, 5]),
        (3, range(1, 3), [0, 5]),
        (2, range(1, 2), [5]),
    ],
)
def test_each_token_has_one_role(length, subject, roles):
    assert roles_of(subject, length) == roles


@pytest.mark.parametrize(
    ("length", "subject", "tokens"),
    [
        (12, range(2, 7), [2, 4, 6, 7, 9, 11]),
        (6, range(2, 4), [2, 3, 4, 5]),
        (2, range(1, 2), [1]),
    ],
)
def test_one_token_of_each_role_is_the_middle_one(length, subject, tokens):
    assert one_of_each(subject, length) == tokens


def test_tokens_that_were_not_traced_do_not_count():
    whole = trace_of(12, range(2, 7))
    effects = torch.full((2, 12), float("nan"))
    chosen = one_of_each(whole.subject, 12)
    effects[:, chosen] = whole.effects["mlp"][:, chosen]
    some = dataclasses.replace(whole, effects=dict.fromkeys(KINDS, effects))
    torch.testing.assert_close(by_role(some, "mlp")[:, 0].float(), torch.tensor(chosen) / 100)


def test_the_average_of_one_fact_is_that_facts():
    found = average([trace_of(10, range(2, 6))])
    expected = torch.tensor([0.02, 0.035, 0.05, 0.06, 0.075, 0.09])
    for effects in found.effects.values():
        for values in (effects.mean, effects.low, effects.high):
            torch.testing.assert_close(values.float(), expected[:, None].expand(-1, 2))
    assert (found.facts, found.counts, found.clean, found.corrupted) == (1, (1,) * 6, 0.5, 0.1)


def test_a_fact_counts_once_whatever_its_length():
    short, long = trace_of(6, range(1, 3), level=0.0), trace_of(30, range(1, 3), level=1.0)
    further = ROLES.index("further")
    expected = (by_role(short, "mlp")[further] + by_role(long, "mlp")[further]) / 2
    torch.testing.assert_close(average([short, long]).effects["mlp"].mean[further], expected)


def test_a_role_that_some_facts_lack_is_averaged_over_the_others():
    found = average([trace_of(6, range(2, 3), level=1.0), trace_of(6, range(2, 4))])
    assert found.counts[ROLES.index("first subject token")] == 1
    assert float(found.effects["hidden"].mean[0, 0]) == pytest.approx(0.02)


def test_a_role_that_no_fact_has_is_not_a_number():
    found = average([trace_of(6, range(2, 3))])
    assert found.counts[0] == 0
    assert found.effects["hidden"].mean[0].isnan().all()


def test_an_interval_of_many_facts_is_that_of_a_mean():
    levels = torch.randn(400, generator=torch.Generator().manual_seed(0))
    effects = average([trace_of(6, range(2, 4), level=float(level)) for level in levels]).effects["hidden"]
    half = float(1.96 * levels.std() / 20)
    assert float(effects.high[-1, 0] - effects.mean[-1, 0]) == pytest.approx(half, rel=0.1)
    assert float(effects.mean[-1, 0] - effects.low[-1, 0]) == pytest.approx(half, rel=0.1)


def test_the_same_seed_gives_the_same_interval():
    traces = [trace_of(6, range(2, 4), level=level / 7) for level in range(7)]
    one, same, other = (average(traces, seed=seed).effects["mlp"].low[-1] for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_no_traces_are_refused():
    with pytest.raises(InvalidConfigError, match="the model knows none"):
        average([])


def test_the_order_of_the_facts_makes_no_difference_to_the_mean():
    one, other = trace_of(8, range(2, 4), level=0.2), trace_of(9, range(2, 5), level=0.4)
    forwards, backwards = average([one, other]), average([other, one])
    torch.testing.assert_close(forwards.effects["mlp"].mean, backwards.effects["mlp"].mean, equal_nan=True)
