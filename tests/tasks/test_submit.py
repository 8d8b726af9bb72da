from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

import tasks.submit
from editors.digests import sha256_file
from editors.errors import UntrustedError
from flows.submission import submit_file
from governance.acts import ACT, Act, Asked
from governance.envelopes import claimed, new_key, sign, statement
from governance.errors import SpentActError
from governance.lifecycle import Event
from tasks.acts import sign_act
from tasks.errors import IdentityError
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


@pytest.fixture
def file(tmp_path) -> Path:
    """A file that ada is about to submit."""
    file = tmp_path / "file.jsonl"
    file.write_text(json.dumps(record(id="a")))
    return file


def test_the_ledger_keeps_who_signed_beside_whom_the_file_names(file, submit, ledger, tiny_platform):
    file.write_text(json.dumps(record(id="a", requester="somebody else")))
    assert [line.fate for line in submit_file(file, submitter="ADA")] == ["queued"]
    event = ledger.history("correction", "a")[0]
    assert (event["actor"], event["data"]["correction"]["requester"]) == ("ada", "somebody else")
    kept = Store(tiny_platform)
    assert kept.get(event["data"]["sha256"]) == file.read_bytes()
    assert claimed(json.loads(kept.get(event["data"]["submission"])))["predicate"]["by"] == "ADA"


@pytest.mark.parametrize("forgery", ["unsigned", "a stranger", "no requester", "another file", "another act"])
def test_a_submission_not_signed_by_a_requester_enters_nothing_and_does_without_the_check(
    forgery, file, ledger, tiny_platform, tmp_path, monkeypatch
):
    given = {"ledger": ledger, "store": Store(tiny_platform), "settings": tiny_platform}
    with pytest.raises((IdentityError, UntrustedError), match=REFUSALS[forgery]):
        enter(file, submission=forged(forgery, file, tiny_platform), **given)
    assert ledger.standings("correction") == []
    asked = Asked(verb="submit", about={file.name: sha256_file(file)})
    envelope = sign_act(asked, by="ada", settings=tiny_platform)
    ada = Act(asked=asked, by="ada", at=datetime.now(UTC), envelope=envelope)
    monkeypatch.setattr(tasks.submit, "asker", lambda *args, **kwargs: ada)
    assert [line.fate for line in enter(file, submission=forged(forgery, file, tiny_platform), **given)] == [
        "submitted"
    ]


REFUSALS = {
    "unsigned": "is not signed; an administrator enrols you with 'corrigenda people add",
    "a stranger": "'eve' is not enrolled.*corrigenda people add",
    "no requester": "grace is no requester",
    "another file": "signed another act",
    "another act": "signed another act",
}


def forged(how: str, file: Path, settings):
    about = {file.name: sha256_file(file)}
    if how == "a stranger":
        predicate = {"act": "submit", "by": "eve", "at": datetime.now(UTC).isoformat(), "reason": "", "options": {}}
        return sign(statement(ACT, subject=about, predicate=predicate), new_key())
    return {
        "unsigned": lambda: None,
        "no requester": lambda: sign_act(Asked(verb="submit", about=about), by="grace", settings=settings),
        "another file": lambda: sign_act(
            Asked(verb="submit", about={file.name: "e" * 64}), by="ada", settings=settings
        ),
        "another act": lambda: sign_act(Asked(verb="protect", about=about), by="ada", settings=settings),
    }[how]()


def test_a_signature_enters_a_file_once(file, ledger, tiny_platform):
    """After it was cancelled, somebody enters it again with what ada had signed."""
    given = {"ledger": ledger, "store": Store(tiny_platform), "settings": tiny_platform}
    signed = sign_submission(file, by="ada", settings=tiny_platform)
    enter(file, submission=signed, **given)
    ledger.append([Event(entity="correction", key="a", kind="cancelled", actor="ada")])
    with pytest.raises(SpentActError, match="was used already"):
        enter(file, submission=signed, **given)
    assert ledger.standing("correction", "a").state == "cancelled"
    again = sign_submission(file, by="ada", settings=tiny_platform)
    assert [line.fate for line in enter(file, submission=again, **given)] == ["unchanged"], "it stays cancelled"


def test_whoever_has_no_key_is_told_how_to_get_one(file, tiny_platform):
    with pytest.raises(IdentityError, match=r"'eve' has no key at .*corrigenda people add eve --role requester"):
        submit_file(file, submitter="eve")
