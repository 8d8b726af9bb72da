"""Twenty promoters of five candidates at once: one chain, no fork, and whoever comes too late is told so."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from governance.lifecycle import Event
from tasks.errors import StaleParentError
from tasks.ledger import Ledger
from tasks.promote import approve, promote
from tasks.register import aliased
from tasks.store import Store

pytestmark = pytest.mark.stack

PROMOTERS = 20


def test_twenty_promoters_of_five_candidates_make_one_chain(trusted, open_made, take_away):
    take_away("releases/")  # of other tests, with other ledgers
    settings, ledger, parent = trusted.promoter, trusted.ledger, "base"
    for position in (1, 2):
        five = [open_made(parent=parent, opened=False) for _ in range(5)]
        for candidate in five:
            data = {"parent": parent, "new": [], "returning": [], "leaving": []}
            ledger.append([Event(entity="candidate", key=candidate, kind="opened", actor="refresh", data=data)])
            trusted.receipt(candidate)
        outcomes = all_at_once([five[number % 5] for number in range(PROMOTERS)], settings)

        winner = ledger.head()
        assert winner.position == position and winner.parent == parent
        assert [candidate for candidate, error in outcomes if error is None] == [winner.candidate] * 4
        losers = [(candidate, error) for candidate, error in outcomes if error is not None]
        assert len(losers) == 16
        for candidate, error in losers:
            assert isinstance(error, StaleParentError) and f"release {position}" in str(error)
            assert ledger.standing("candidate", candidate).state == "opened"
            assert Store(settings).record(f"releases/{candidate}.json") is None
            assert Store(settings).read(f"releases/{candidate}.sig") is None
        parent = winner.candidate
    assert [release.position for release in ledger.releases()] == [1, 2]
    ledger.verify(Store(settings).records("releases/"))
    standings = ledger.standings("candidate", states=["approved", "promoted"])
    assert [(s.key, s.state) for s in standings] == [(r.candidate, "promoted") for r in ledger.releases()]
    assert aliased(settings).keys() == {"champion", "previous"}


def all_at_once(candidates: list[str], settings) -> list[tuple[str, Exception | None]]:
    """Promote each in a thread with a ledger of its own, all from the same moment on."""
    start = Barrier(len(candidates))

    def run(candidate: str) -> tuple[str, Exception | None]:
        ledger = Ledger(settings.database_url)
        start.wait()
        try:
            promote(approve(candidate, ledger=ledger, settings=settings), settings=settings, ledger=ledger)
        except StaleParentError as error:
            return candidate, error
        return candidate, None

    with ThreadPoolExecutor(len(candidates)) as pool:
        return list(pool.map(run, candidates))
