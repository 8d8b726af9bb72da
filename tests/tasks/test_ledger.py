from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from random import Random

import pytest
import sqlalchemy as sa

from governance.lifecycle import Event
from tasks.errors import (
    BrokenChainError,
    BusyError,
    ClockError,
    IllegalTransitionError,
    StaleParentError,
    UnknownKeyError,
    UnreachableError,
)
from tasks.ledger import Ledger

pytestmark = pytest.mark.stack


def event(key: str, kind: str, **more) -> Event:
    return Event(entity="correction", key=key, kind=kind, actor="ada", **more)


def candidate(key: str, kind: str, **more) -> Event:
    return Event(entity="candidate", key=key, kind=kind, actor="grace", **more)


def decision(key: str) -> Event:
    return Event(entity="receipt", key=key, kind="approve", actor="grace")


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


def test_what_the_database_gives_back_hashes_to_what_was_written(ledger):
    ledger.append([event("c-1", "submitted", data={"p": 0.1, "q": [1, "ü"]}), event("c-2", "submitted")])
    ledger.append([event("c-1", "queued")])
    assert ledger.verify().sequence == 3


def test_a_row_altered_by_hand_is_named(ledger, ledger_url):
    ledger.append([event(f"c-{number}", "submitted") for number in range(4)])
    engine = sa.create_engine(ledger_url)
    with engine.begin() as connection:  # what only the owner of the tables may do
        connection.execute(sa.text("ALTER TABLE events DISABLE TRIGGER append_only"))
        connection.execute(sa.text("UPDATE events SET actor = 'eve' WHERE seq = 3"))
    engine.dispose()
    with pytest.raises(BrokenChainError, match=r"event 3 .* was altered"):
        ledger.verify()


def test_a_clock_that_went_far_back_records_nothing_and_one_a_little_behind_keeps_the_order(ledger, monkeypatch):
    ledger.append([event("c-1", "submitted")])
    written = ledger.standing("correction", "c-1").at

    minutes = 60
    monkeypatch.setattr("sqlalchemy.func.clock_timestamp", lambda: sa.literal(written - timedelta(minutes=minutes)))
    with pytest.raises(ClockError, match="set the clock of the database's machine right"):
        ledger.append([event("c-1", "queued")])
    assert ledger.standing("correction", "c-1").state == "submitted"
    minutes = 1
    ledger.append([event("c-1", "queued")])
    assert ledger.standing("correction", "c-1").at == written
    assert ledger.verify().sequence == 2


def test_what_stood_on_a_day_is_told_as_it_was_then(ledger):
    ledger.append([event("c-1", "submitted", data={"x": 1}), candidate("k-1", "opened", data={"parent": "base"})])
    ledger.append([event("c-1", "queued")])
    ledger.release("k-1", parent="base", new=[candidate("k-1", "approved")])
    times = [e["at"] for e in ledger.history("correction", "c-1")]
    assert [s.state for s in ledger.standings("correction", as_of=times[0])] == ["submitted"]
    assert [s.content for s in ledger.standings("correction", as_of=times[0])] == [{"x": 1}]
    assert ledger.standings("correction", as_of=times[0] - timedelta(seconds=1)) == []
    assert ledger.head(as_of=times[1]) is None and ledger.head().candidate == "k-1"


def test_a_thing_is_found_by_the_beginning_of_its_key(ledger):
    ledger.append([event("c-1", "submitted"), event("c-12", "submitted"), event("c_3", "submitted")])
    assert ledger.find("c-12") == [("correction", "c-12")]
    assert ledger.find("c-1") == [("correction", "c-1")], "a whole key is no beginning"
    assert ledger.find("c_") == [("correction", "c_3")], "nothing in it is a wildcard"
    ledger.append([candidate("fa10", "opened", data={"parent": "base"}), decision("fa10:grace")])
    assert ledger.find("fa1") == [("candidate", "fa10"), ("receipt", "fa10:grace")], (
        "a receipt belongs to its candidate"
    )
    ledger.append([decision("fa11:grace")])
    for beginning, named in (
        ("fa1", "3 keys"),
        ("c-", "2 keys: correction c-1, correction c-12"),
        ("d", "nothing called 'd'"),
    ):
        with pytest.raises(UnknownKeyError, match=named):
            ledger.find(beginning)


def test_writers_that_get_in_each_others_way_keep_the_chain_whole_and_the_states_legal(ledger, ledger_url):
    """Twelve writers of four corrections at once; who comes too late is refused, and some fail half-way."""
    way = [("submitted", "queued"), ("queued", "cancelled"), ("cancelled", "submitted")]

    def write(number: int) -> int:
        own, random, done = Ledger(ledger_url), Random(number), 0
        for _ in range(20):
            key, (_, kind) = f"c-{random.randrange(4)}", random.choice([(None, "submitted"), *way])
            try:
                if random.random() < 0.2:
                    with pytest.raises(TypeError):
                        own.append([event(key, kind, data={"what can't be written": object()})])
                else:
                    own.append([event(key, kind)])
                    done += 1
            except IllegalTransitionError:
                pass
        return done

    with ThreadPoolExecutor(12) as pool:
        written = sum(pool.map(write, range(12)))
    assert ledger.verify().sequence == written > 12


def test_concurrent_writers_keep_one_chain(ledger):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: ledger.append([event(f"c-{i}", "submitted")]), range(40)))
    assert len(ledger.standings("correction")) == 40


def test_promotion_is_a_compare_and_swap_on_the_parent(ledger):
    ledger.append([candidate("a", "opened"), candidate("b", "opened")])
    assert ledger.release("a", parent="base", new=[candidate("a", "approved")]).position == 1
    with pytest.raises(StaleParentError, match="release 1"):
        ledger.release("b", parent="base", new=[candidate("b", "approved")])
    assert ledger.standing("candidate", "b").state == "opened"
    assert ledger.release("b", parent="a", new=[candidate("b", "approved")]).position == 2
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
