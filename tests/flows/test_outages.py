"""A service goes away in the middle of a promotion: what was approved is promoted, once."""

from __future__ import annotations

import pytest

import tasks.promote
from corrigenda import RegistryAwayError
from infra.stack import start_part, stop_part
from tasks.errors import UnreachableError
from tasks.promote import promote

pytestmark = pytest.mark.stack


def test_a_store_that_goes_away_in_a_promotion_loses_nothing(world, trusted, open_made, stack, monkeypatch):
    candidate = open_made()
    release = trusted.approve(candidate)
    original = tasks.promote.release_record

    def outage(*args, **kwargs):
        stop_part(stack.home, "s3", report=print)
        return original(*args, **kwargs)

    monkeypatch.setattr(tasks.promote, "release_record", outage)
    try:
        with pytest.raises((UnreachableError, RegistryAwayError)):
            promote(release, settings=world.settings, ledger=world.ledger)
    finally:
        monkeypatch.setattr(tasks.promote, "release_record", original)
        start_part(stack.home, "s3", report=print)
    world.repair()
    assert world.ledger.standing("candidate", candidate).state == "promoted"
