"""Events are read back from their lines as the ledger had them, and what is no event is named by its line."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from editors.digests import digest_of
from editors.errors import UnprovenError
from governance.events import EMPTY, GENESIS, digest_of_row, flaw_of_link, head_of, line_of, read_lines


def row(seq: int = 1, *, previous: str = GENESIS, at: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC), **more) -> dict:
    made = {"seq": seq, "at": at, "entity": "correction", "key": "Zürich", "kind": "submitted", "actor": "ada"}
    made |= {"reason": "", "data": {"text": "→ \u2028", "n": [1, 0.5, None]}, "previous": previous} | more
    return made | {"digest": digest_of_row(made)}


def test_a_line_is_read_back_as_its_row_and_is_the_same_in_any_time_zone(tmp_path):
    first = row()
    second = row(2, previous=first["digest"], at=datetime(2026, 1, 1, 22, tzinfo=timezone(timedelta(hours=9))))
    (tmp_path / "events").write_bytes(line_of(first) + line_of(second))
    assert list(read_lines(tmp_path / "events")) == [first, second]
    in_utc = second | {"at": second["at"].astimezone(UTC)}
    assert line_of(in_utc) == line_of(second) and digest_of_row(in_utc) == second["digest"]


def test_the_digest_is_over_the_line_without_it():
    event = json.loads(line_of(row()))
    digest = event.pop("digest")
    assert digest == digest_of(event)


def test_a_chain_is_followed_and_its_flaws_are_told_in_words():
    first = row()
    second = row(2, previous=first["digest"])
    assert flaw_of_link(first, EMPTY) == "" == flaw_of_link(second, head_of(first))
    assert flaw_of_link(second, EMPTY).startswith("event 1 is missing: behind event 0 comes event 2 (correction")
    assert "is no link behind event 1" in flaw_of_link(row(2), head_of(first))
    assert "was altered" in flaw_of_link(second | {"actor": "eve"}, head_of(first))
    early = row(2, previous=first["digest"], at=first["at"] - timedelta(seconds=1))
    assert "before event 1" in flaw_of_link(early, head_of(first))


@pytest.mark.parametrize(
    "line",
    ["", "[]", "7", "nonsense", '{"seq":1}', "[" * 100_000, '{"at":"2026-01-01","seq":"1"}', '{"at":7}', "\udce4"],
)
def test_a_line_that_is_no_event_is_named_by_its_number(tmp_path, line):
    file = tmp_path / "events.jsonl"
    file.write_bytes(line_of(row()) + line.encode(errors="surrogateescape") + b"\n" + line_of(row()))
    with pytest.raises(UnprovenError, match=r"events\.jsonl: line 2 is no event"):
        list(read_lines(file))


@pytest.mark.parametrize(
    ("text", "other"),
    [
        (b'{"actor":', b'{"actor":"eve","actor":'),
        (b'"seq":1', b'"seq": 1'),
        (b'"seq":1', b'"seq":"1"'),
        (b'"seq":1', b'"more":0,"seq":1'),
        (b"+00:00", b"Z"),
        (b"\n", b""),
    ],
)
def test_an_event_that_is_not_written_as_the_ledger_does_is_refused(tmp_path, text, other):
    """Or a reader who takes the first of two names in a line would read another event than is verified."""
    written = line_of(row())
    assert text in written
    (tmp_path / "events.jsonl").write_bytes(written.replace(text, other))
    with pytest.raises(UnprovenError, match=r"events\.jsonl: line 1 is no event as the ledger writes it"):
        list(read_lines(tmp_path / "events.jsonl"))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UnprovenError, match=r"events\.jsonl is missing"):
        list(read_lines(tmp_path / "events.jsonl"))
