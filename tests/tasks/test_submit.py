from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.submission import submit_file
from tasks.ledger import Ledger
from tasks.store import Store
from tasks.submit import sign_submission
from tasks.submit import submit as enter

pytestmark = pytest.mark.stack

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def record(**changes) -> dict:
    return {"subject": "France", "prompt": "The capital of {} is", "target": "Lyon", "requester": "ada"} | changes


@pytest.fixture
def submit(tiny_platform, tmp_path):
    def write_and_submit(*records, name="file.jsonl"):
        file = tmp_path / name
        file.write_text("\n".join(json.dumps(r) if isinstance(r, dict) else r for r in records) + "\n")
        return submit_file(file)

    return write_and_submit


@pytest.fixture
def ledger(tiny_platform) -> Ledger:
    return Ledger(tiny_platform.database_url)


def test_submitting_twice_changes_nothing(submit, ledger):
    first = submit(record(id="a"))
    again = submit(record(id="a"))
    assert [line.fate for line in (*first, *again)] == ["queued", "unchanged"]
    assert len(ledger.history("correction", "a")) == 2


def test_what_an_intake_left_behind_when_it_died_is_taken_in_the_next_time(submit, ledger, tiny_platform, tmp_path):
    file = tmp_path / "file.jsonl"
    file.write_text(json.dumps(record(id="a")))
    signed = sign_submission(file, by="ada", settings=tiny_platform)
    enter(file, submission=signed, ledger=ledger, store=Store(tiny_platform), settings=tiny_platform)
    assert ledger.standing("correction", "a").state == "submitted"
    assert [line.fate for line in submit(record(id="a"))] == ["queued"]


def test_a_refused_line_is_kept_with_its_text_and_reason(submit, ledger):
    lines = submit(record(id="a"), '{"subject": ', record(id="b", target=""))
    assert [line.fate for line in lines] == ["queued", "refused", "refused"]
    kept = ledger.standings("correction", states=["refused"])
    assert [standing.data["line"] for standing in kept] == [2, 3]
    assert kept[0].data["text"] == '{"subject": '


def test_an_id_in_use_is_not_taken_over(submit):
    submit(record(id="a"))
    (line,) = submit(record(id="a", target="Nice"))
    assert line.fate == "refused" and "belongs to another correction, which is queued" in line.reasons[0]


def test_a_contradiction_with_what_is_queued_is_explained(submit):
    submit(record(id="a"))
    (line,) = submit(record(id="b", target="Nice"))
    assert line.fate == "refused" and "contradicts a" in line.reasons[0]


def test_what_waits_cannot_be_superseded_yet(submit):
    submit(record(id="a"))
    (line,) = submit(record(id="b", target="Nice", supersedes="a"))
    assert line.fate == "refused" and any("only queued" in reason for reason in line.reasons)


def test_evidence_files_are_kept_by_their_digest(submit, ledger, tiny_platform, tmp_path):
    (tmp_path / "letter.txt").write_text("The capital has moved.")
    (line,) = submit(record(evidence=["letter.txt"]))
    (evidence,) = ledger.standing("correction", line.key).content["correction"]["evidence"]
    assert Store(tiny_platform).get(evidence["sha256"]) == b"The capital has moved."


def test_missing_evidence_refuses_the_line_by_name(submit):
    (line,) = submit(record(evidence=["nowhere.txt"]))
    assert line.fate == "refused" and "'nowhere.txt' is no file" in line.reasons[0]


def test_each_broken_example_is_refused_with_a_reason_of_its_own(tiny_platform):
    lines = submit_file(EXAMPLES / "broken.jsonl")
    text = (EXAMPLES / "broken.jsonl").read_text()
    assert len(lines) == sum(bool(line.strip()) for line in text.splitlines())
    assert {line.fate for line in lines} == {"refused"}
    assert all(line.reasons for line in lines)


def test_a_file_of_100_000_corrections_is_taken_whole(tiny_platform, ledger, tmp_path):
    count = 100_000
    file = tmp_path / "many.jsonl"
    with file.open("w") as lines:
        for number in range(count):
            lines.write(
                json.dumps(
                    {"id": f"n{number}", "subject": f"City{number}", "prompt": "The capital of {} is", "target": "Rome"}
                )
                + "\n"
            )
    settled = submit_file(file)
    assert len(settled) == count
    assert {line.fate for line in settled} == {"queued"}
    assert len(ledger.standings("correction", states=["queued"])) == count
