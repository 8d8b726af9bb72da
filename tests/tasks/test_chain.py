"""Whatever is done to a history behind the ledger's back, verifying it names the first broken link."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.events import EMPTY, Head, digest_of_row
from governance.lifecycle import TRANSITIONS, Event
from tasks.chain import links, verify
from tasks.errors import BrokenChainError

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WAY = ("submitted", "queued", "in candidate", "released")
RELEASE = {"position": 1, "candidate": "k1", "parent": "base", "event": 6}


def correction(key: str, kind: str) -> Event:
    return Event(entity="correction", key=key, kind=kind, actor="ada", reason="why", data={"text": "Zürich", "n": [1]})


def candidate(key: str, kind: str, parent: str = "base") -> Event:
    return Event(entity="candidate", key=key, kind=kind, actor="grace", data={"parent": parent})


@pytest.fixture
def rows():
    """One correction on its way to a release, a minute an event."""
    events = [
        *(correction("c1", kind) for kind in WAY[:2]),
        correction("c2", "submitted"),
        candidate("k1", "opened"),
        correction("c1", "in candidate"),
        candidate("k1", "approved"),
        correction("c1", "released"),
    ]
    head, rows = EMPTY, []
    for minute, event in enumerate(events):
        rows += links([event], head=head, at=NOON + timedelta(minutes=minute))
        head = Head(sequence=rows[-1]["seq"], digest=rows[-1]["digest"], at=rows[-1]["at"])
    return rows


def record(rows, sequence: int = 6):
    digest = rows[sequence - 1]["digest"]
    return RELEASE | {"ledger": {"sequence": sequence, "digest": digest}}


def broken(rows, *, released=(RELEASE,), records=()) -> str:
    with pytest.raises(BrokenChainError) as found:
        verify(rows, released=released, records=records)
    return str(found.value)


def test_a_whole_chain_ends_at_its_newest_event(rows):
    head = verify(rows, released=[RELEASE], records=[record(rows)])
    assert (head.sequence, head.digest, head.at) == (7, rows[-1]["digest"], NOON + timedelta(minutes=6))
    assert verify([], released=[]) == EMPTY


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("actor", "eve"),
        ("reason", ""),
        ("key", "c3"),
        ("kind", "refused"),
        ("data", {"text": "Zurich", "n": [1]}),
        ("at", NOON + timedelta(seconds=150)),
    ],
)
def test_an_altered_event_is_named(rows, name, value):
    rows[2][name] = value
    assert "event 3" in broken(rows) and "was altered" in broken(rows)


def test_an_event_altered_with_its_digest_breaks_the_link_behind_it(rows):
    rows[2]["actor"] = "eve"
    rows[2]["digest"] = digest_of_row(rows[2])
    assert broken(rows).startswith("event 4 (candidate 'k1' 'opened') is no link behind event 3")


def test_an_event_taken_out_is_missed(rows):
    assert "event 3 is missing" in broken(rows[:2] + rows[3:])


def test_a_cut_tail_shows_beside_a_release_in_the_store(rows):
    assert verify(rows[:5], released=[]).sequence == 5, "what was recorded after the newest release can be cut unseen"
    assert "the ledger's tail is cut: release 1" in broken(rows[:5], released=[], records=[record(rows)])


def test_a_history_written_anew_has_another_approval_than_the_store(rows):
    kept = record(rows)
    anew = links([candidate("k1", "opened"), candidate("k1", "approved")], head=EMPTY, at=NOON)
    anew += links([correction(f"c{n}", "submitted") for n in range(5)], head=head_of(anew), at=NOON)
    assert "is not what the ledger has in its place" in broken(anew, released=[RELEASE | {"event": 2}], records=[kept])


def head_of(rows) -> Head:
    return Head(sequence=rows[-1]["seq"], digest=rows[-1]["digest"], at=rows[-1]["at"])


def test_an_event_from_before_the_one_before_it_is_named(rows):
    rows += links([correction("c3", "submitted")], head=head_of(rows), at=NOON)
    assert "event 8" in broken(rows) and "before event 7" in broken(rows)


def test_an_event_that_may_not_follow_is_named(rows):
    rows += links([correction("c2", "released")], head=head_of(rows), at=rows[-1]["at"])
    assert "event 8: correction 'c2' is submitted, so it can't become 'released'" in broken(rows)


@pytest.mark.parametrize(
    ("release", "named"),
    [
        (RELEASE | {"event": 7}, "was never approved"),
        (RELEASE | {"position": 2}, "release 1 is missing"),
        (RELEASE | {"parent": "k0"}, "does not follow on the release before it"),
        (RELEASE | {"candidate": "k9"}, "was never approved"),
    ],
)
def test_a_release_that_the_events_do_not_tell_of_is_named(rows, release, named):
    assert named in broken(rows, released=[release])


def test_a_release_whose_row_was_taken_out_is_missed(rows):
    assert broken(rows, released=[]) == "the release of candidate k1 is missing: event 6 approved it"


@pytest.mark.parametrize(("name", "value"), [("candidate", "evil"), ("position", 2), ("parent", "evil")])
def test_a_forged_record_in_the_store_is_named(rows, name, value):
    assert "is not what the ledger has in its place" in broken(rows, records=[record(rows) | {name: value}])


@pytest.mark.parametrize("record", [{}, {"position": 1, "candidate": "k1", "parent": "base"}, RELEASE | {"ledger": 1}])
def test_what_is_no_record_of_a_release_is_named(rows, record):
    assert "is no record of one" in broken(rows, records=[record])


steps = st.lists(st.tuples(st.sampled_from(["c1", "c2", "c3"]), st.randoms(use_true_random=False)), max_size=30)


@given(steps, st.data())
def test_any_legal_history_is_whole_and_any_change_of_one_event_breaks_it(steps, data):
    anew = {"actor": "eve", "reason": "", "key": "c9", "data": {}, "at": NOON + timedelta(hours=1), "seq": 99}
    states: dict[str, str | None] = {}
    events = []
    for key, random in steps:
        legal = [kind for kind, allowed in TRANSITIONS["correction"].items() if states.get(key) in allowed]
        if legal:
            states[key] = random.choice(sorted(legal))
            events.append(correction(key, states[key]))
    rows = links(events, head=EMPTY, at=NOON)
    assert verify(rows, released=[]).sequence == len(rows)
    if rows:
        place = data.draw(st.integers(0, len(rows) - 1))
        name = data.draw(st.sampled_from(sorted(anew)))
        rows[place][name] = anew[name]
        assert f"event {place + 1} " in broken(rows, released=[])
