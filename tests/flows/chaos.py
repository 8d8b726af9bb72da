"""Hundreds of kills: `make chaos`. CHAOS_KILLS and CHAOS_SEED say how many, and repeat a run.

In each round new facts are refreshed, reviewed and promoted, and the flow at work is killed again and again: at first
after each call out that it makes, one after the other, then at random calls and times. After every kill `reconcile`
runs, and everything that must hold is checked. pytest does not collect this file by itself.
"""

from __future__ import annotations

import os
from collections import Counter
from itertools import count
from random import Random

import pytest

from tasks.candidate import the_open_candidate

pytestmark = pytest.mark.stack

KILLS = int(os.environ.get("CHAOS_KILLS", "200"))
SEED = int(os.environ.get("CHAOS_SEED", Random().randrange(1 << 32)))
LONGEST = 6  # seconds until a kill by the clock

Death = dict[str, object]


def test_hundreds_of_kills_are_survived(world, capsys):
    random, deaths = Random(SEED), Deaths()
    with capsys.disabled():
        print(f"\nchaos: {KILLS} kills, seed {SEED}")
    for turn in count():
        if world.kills >= KILLS:
            break
        world.queue(f"Land {turn}")
        while the_open_candidate(world.ledger) is None or random.random() < 0.9:
            deaths.learn("refresh", world.run("refresh", **deaths.next("refresh", random)).calls)
            world.repair()
            if world.kills >= KILLS:
                break
        if the_open_candidate(world.ledger) is None:
            world.run("refresh")
        candidate = the_open_candidate(world.ledger).key
        for _ in range(12):
            if world.ledger.standing("candidate", candidate).state != "opened":
                break
            flow = "promotion" if candidate in world.answered else "review"
            if ended := world.step(candidate, **deaths.next(flow, random)):
                deaths.learn(flow, ended.calls)
                world.repair()
        world.decide(candidate)
        world.repair()
        with capsys.disabled():
            print(f"chaos: {world.kills} kills, {len(world.ledger.releases())} releases", flush=True)
    assert len(world.ledger.releases()) > 0
    with capsys.disabled():
        print(f"chaos: survived {world.kills} kills, seed {SEED}")


class Deaths:
    """Where flows are killed next: after each call that was seen once, then after any, or at some time."""

    def __init__(self) -> None:
        self._due: dict[str, list[Death]] = {"refresh": [], "review": [], "promotion": []}
        self._seen: dict[str, list[Death]] = {"refresh": [], "review": [], "promotion": []}

    def learn(self, flow: str, calls: list[str]) -> None:
        counts: Counter[str] = Counter()
        for call in calls:
            counts[call] += 1
            death: Death = {"call": call, "nth": counts[call]}
            if death not in self._seen[flow]:
                self._seen[flow].append(death)
                self._due[flow].append(death)

    def next(self, flow: str, random: Random) -> Death:
        if self._due[flow]:
            return self._due[flow].pop(0)
        if self._seen[flow] and random.random() < 0.5:
            return random.choice(self._seen[flow])
        return {"seconds": random.uniform(0.05, LONGEST)}
