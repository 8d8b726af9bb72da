import time

import pytest

from editors.stopwatch import Stopwatch


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves when it is told to."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def tick(seconds: float) -> None:
        now[0] += seconds

    return tick


def test_a_stage_takes_what_passes_while_it_is_open_even_when_it_fails(clock):
    watch = Stopwatch()
    for _ in range(2):
        with pytest.raises(RuntimeError), watch.stage("evaluation"):
            clock(2)
            raise RuntimeError
        clock(5)
    assert watch.seconds == {"evaluation": 4}


def test_time_counts_as_the_stage_that_is_told_of_next_and_the_rest_as_rest(clock):
    watch, heard = Stopwatch(), []

    def listen(*what: object) -> None:
        heard.append(what)
        clock(100)  # whoever listens takes time of their own

    with watch.stages(listen) as told:
        for what, seconds in (("steps of the values", 1), ("values", 2), ("keys", 3), ("layers", 4), ("keys", 5)):
            clock(seconds)
            told(what, 1, 1)
        clock(6)
    assert watch.seconds == {"values": 3, "keys": 8, "solve": 4, "rest": 6}
    assert heard[0] == ("steps of the values", 1, 1)
