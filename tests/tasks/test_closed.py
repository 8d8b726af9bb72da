"""What only closed candidates consist of is marked for the bucket's rule, and nothing else ever is."""

from __future__ import annotations

import os

import pytest

from editors.digests import digest_of
from governance.lifecycle import TRANSITIONS, Event
from infra.rules import lifecycle
from tasks.closed import CLOSED, EXPIRES, OWN, mark_closed
from tasks.ledger import Ledger
from tasks.locks import MARK, mark_of
from tasks.objects import EVIDENCE
from tasks.store import Store

pytestmark = pytest.mark.stack


class House:
    """A ledger and a store with candidates of made-up objects."""

    def __init__(self, ledger: Ledger, as_role) -> None:
        self.ledger, self.store, self._editor = ledger, Store(as_role("promoter")), Store(as_role("editor"))

    def candidate(self, *ends: str, **shared: str) -> dict[str, str]:
        """Opens a candidate, lets it end, and returns the digests of its objects, its own under `digest`."""
        content = os.urandom(8)
        blobs = {each: self._editor.put(content + each.encode()).sha256 for each in EVIDENCE} | shared
        manifest = {"format": 1, "base_files": [], **blobs}
        digest = digest_of(manifest)
        self._editor.put_record(f"candidates/{digest}.json", manifest)
        self.tell(digest, "opened", *ends)
        return blobs | {"digest": digest}

    def tell(self, candidate: str, *kinds: str) -> None:
        for kind in kinds:
            self.ledger.append([Event(entity="candidate", key=candidate, kind=kind, actor="grace")])

    def marks(self, candidate: dict[str, str]) -> set[str]:
        return {name for name in EVIDENCE if mark_of(f"blobs/{candidate[name]}", store=self.store) == EXPIRES}

    def keep(self) -> list[str]:
        return mark_closed(self.ledger, self.store)


@pytest.fixture
def house(bucket, as_role):
    import sqlalchemy as sa

    url = sa.make_url(bucket.owner_url("corrigenda"))
    name = f"test_{os.urandom(6).hex()}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    ledger = Ledger(url.set(database=name).render_as_string(hide_password=False))
    ledger.migrate()
    return House(ledger, as_role)


@pytest.mark.parametrize("end", sorted(CLOSED))
def test_what_a_closed_candidate_alone_consists_of_is_marked_once(house, end):
    closed = house.candidate(end)
    assert sorted(house.keep()) == sorted(f"blobs/{closed[name]}" for name in OWN)
    assert house.marks(closed) == set(OWN)
    assert house.keep() == []


def test_what_another_candidate_names_too_is_not_marked(house):
    released = house.candidate("approved", "promoted")
    closed = house.candidate("rejected", patch=released["patch"])
    waiting = house.candidate(corrections=closed["corrections"])
    house.keep()
    assert house.marks(released) == house.marks(waiting) == set()
    assert house.marks(closed) == {"report"}


def test_a_candidate_that_is_opened_again_loses_its_marks(house):
    candidate = house.candidate("replaced")
    house.keep()
    house.tell(candidate["digest"], "opened")
    assert house.marks(candidate) == set(OWN)
    assert house.keep() == [] and house.marks(candidate) == set()
    house.tell(candidate["digest"], "rejected")
    assert len(house.keep()) == len(OWN)


def test_an_open_candidate_loses_the_marks_of_what_it_shares_with_a_closed_one(house):
    closed = house.candidate("rejected")
    house.keep()
    waiting = house.candidate(report=closed["report"])
    assert house.marks(waiting) == {"report"}
    house.keep()
    assert house.marks(waiting) == set() and house.marks(closed) == {"patch", "corrections"}


def test_the_bucket_lets_expire_what_is_marked_so_and_nothing_else():
    expiring = [rule for rule in lifecycle()["Rules"] if "Expiration" in rule or "NoncurrentVersionExpiration" in rule]
    assert [rule["Filter"] for rule in expiring] == [{"Tag": {"Key": MARK, "Value": EXPIRES}}]


def test_every_end_of_a_candidate_but_its_release_closes_it():
    assert CLOSED | {"opened", "approved", "promoted"} == TRANSITIONS["candidate"].keys()
