from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from editors.digests import digest_of
from tasks.errors import BusyError, IllegalTransitionError, StaleParentError, UnknownKeyError, UnreachableError
from tasks.ledger import GENESIS, Event, Ledger, events

pytestmark = pytest.mark.stack


@pytest.fixture
def ledger(ledger_url) -> Ledger:
    ledger = Ledger(ledger_url)
    ledger.migrate()
    return ledger


def event(key: str, kind: str, **more) -> Event:
    return Event(entity="correction", key=key, kind=kind, actor="ada", **more)


def test_state_is_the_newest_event_and_content_the_submission(ledger):
    ledger.append([event("c-1", "submitted", data={"x": 1}), event("c-1", "queued", reason="fine")])
    standing = ledger.standing("correction", "c-1")
    assert (standing.state, standing.reason, standing.content) == ("queued", "fine", {"x": 1})


def test_an_illegal_transition_appends_nothing_of_its_batch(ledger):
    with pytest.raises(IllegalTransitionError, match="'c-2' is unknown, so it can't become 'released'"):
        ledger.append([event("c-1", "submitted"), event("c-2", "released")])
    assert ledger.standings("correction") == []


def test_an_unknown_key_is_named(ledger):
    with pytest.raises(UnknownKeyError, match="no correction 'c-9'"):
        ledger.standing("correction", "c-9")


@pytest.mark.parametrize(
    "statement",
    ["UPDATE events SET actor = 'eve'", "DELETE FROM events", "TRUNCATE events CASCADE", "DELETE FROM releases"],
)
def test_the_database_refuses_to_rewrite_history(ledger, ledger_url, statement):
    ledger.append([event("c-1", "submitted")])
    engine = sa.create_engine(ledger_url)
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()
    assert ledger.standing("correction", "c-1").actor == "ada"


def test_each_event_carries_the_digest_of_the_one_before_and_of_itself(ledger, ledger_url):
    ledger.append([event("c-1", "submitted", data={"p": 0.1, "q": [1, "ü"]}), event("c-2", "submitted")])
    ledger.append([event("c-1", "queued")])
    engine = sa.create_engine(ledger_url)
    with engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(sa.select(events).order_by(events.c.seq)).mappings()]
    engine.dispose()
    previous = GENESIS
    for row in rows:
        digest = row.pop("digest")
        assert row["previous"] == previous
        assert digest_of(row | {"at": row["at"].isoformat()}) == digest
        previous = digest
    assert len(rows) == 3


def test_concurrent_writers_keep_one_chain(ledger):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: ledger.append([event(f"c-{i}", "submitted")]), range(40)))
    assert len(ledger.standings("correction")) == 40


def test_promotion_is_a_compare_and_swap_on_the_parent(ledger):
    def opened(key):
        return Event(entity="candidate", key=key, kind="opened", actor="x")

    def approved(key):
        return Event(entity="candidate", key=key, kind="approved", actor="x")

    ledger.append([opened("a"), opened("b")])
    assert ledger.release("a", parent="base", new=[approved("a")]).position == 1
    with pytest.raises(StaleParentError, match="release 1"):
        ledger.release("b", parent="base", new=[approved("b")])
    assert ledger.standing("candidate", "b").state == "opened"
    assert ledger.release("b", parent="a", new=[approved("b")]).position == 2
    assert ledger.head().candidate == "b"


def test_one_refresh_at_a_time(ledger, ledger_url):
    with ledger.refresh_lock(), pytest.raises(BusyError), Ledger(ledger_url).refresh_lock():
        pass
    with Ledger(ledger_url).refresh_lock():
        pass


def test_migrating_twice_is_harmless(ledger):
    ledger.append([event("c-1", "submitted")])
    ledger.migrate()
    assert ledger.standing("correction", "c-1").state == "submitted"


def test_a_database_that_is_away_is_named_with_the_way_out():
    away = Ledger("postgresql+psycopg2://nobody@127.0.0.1:1/nowhere")
    with pytest.raises(UnreachableError, match="corrigenda status"):
        away.head()


def test_no_database_at_all_says_how_to_get_one():
    with pytest.raises(UnreachableError, match="corrigenda up"):
        Ledger("")
