"""Flows are killed after single calls and at random times, on the real services: `reconcile` puts all of it right.

Whatever dies where: never two champions, never a version without objects, never an approval lost or asked for twice,
never two versions for one candidate. tests/flows/chaos.py does it hundreds of times.
"""

from __future__ import annotations

from random import Random

import pytest

from tasks.candidate import the_open_candidate

pytestmark = pytest.mark.stack

REFRESH = [
    "prefect flow_runs set_state",
    "store candidates",
    "mlflow runs create",
    "mlflow runs outputs",
    "mlflow model-versions create",
    "ledger opened in candidate",
    "ledger finished",
    "prefect deployments create_flow_run",
    "ledger replaced queued",
]
BEFORE_THE_ANSWER = [
    ("prefect flow_runs set_state", 1),
    ("prefect flow_runs set_state", 2),
    ("prefect flow_runs input", 1),
    ("prefect flow_runs input", 2),
]
AFTER_IT = [
    ("prefect flow_runs set_state", 1),
    ("ledger accepted used approve", 1),
    ("ledger release", 1),
    ("store releases", 1),
    ("store releases", 2),
    ("mlflow registered-models alias", 1),
    ("mlflow registered-models alias", 2),
    ("ledger promoted", 1),
    ("prefect flow_runs set_state", 3),
]
"""The second state that is set here is the pause, which Prefect finds behind it."""


@pytest.fixture
def first(world) -> str:
    """A first release, made by the flows without a death."""
    world.queue("France", "Japan")
    world.run("refresh")
    candidate = the_open_candidate(world.ledger).key
    world.decide(candidate)
    world.check()
    return candidate


def test_a_refresh_that_is_killed_after_any_step_leaves_nothing_that_the_next_one_and_reconcile_do_not_put_right(world):
    world.queue("France", "Japan")
    for call in REFRESH:
        assert world.run("refresh", call=call).killed, call
        world.repair()
    world.run("refresh")
    world.repair()
    candidate = the_open_candidate(world.ledger).key
    assert {s.state for s in world.ledger.standings("correction")} == {"in candidate"}
    world.decide(candidate)
    world.check()


def test_a_review_and_a_promotion_that_are_killed_after_any_step_lose_no_approval_and_ask_nobody_twice(world, first):
    candidate = first
    for number, after in enumerate(AFTER_IT):
        candidate = world.again(candidate)
        before = BEFORE_THE_ANSWER[number : number + 1]
        for call, nth in before:
            assert world.step(candidate, call=call, nth=nth).killed, call
            world.repair()
        world.ask(candidate)
        assert world.step(candidate, call=after[0], nth=after[1]).killed, after
        world.repair()
        world.decide(candidate)
        world.repair()
    assert len(world.ledger.releases()) == 1 + len(AFTER_IT)


def test_flows_that_are_killed_at_random_times_leave_nothing_that_reconcile_does_not_put_right(world, first):
    seed = Random().randrange(1 << 32)
    print(f"seed {seed}")
    random = Random(seed)
    world.queue("Italy")
    for _ in range(3):
        world.run("refresh", seconds=random.uniform(0.1, 4))
        world.repair()
    world.run("refresh")
    candidate = the_open_candidate(world.ledger).key
    for _ in range(6):  # where the machine is slow, none of them gets anywhere
        if world.ledger.standing("candidate", candidate).state == "opened":
            world.step(candidate, seconds=random.uniform(0.1, 3))
            world.repair()
    world.decide(candidate)
    assert len(world.ledger.releases()) == 2
