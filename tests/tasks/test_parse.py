"""Files of corrections: every line has its own fate and number, and a bad one never costs a good one."""

import json
import time
from pathlib import Path

import pytest

from tasks.parse import MAX_LINE_BYTES, MAX_YAML_BYTES, CorrectionFileError, parse_file

EXAMPLES = Path(__file__).parents[2] / "examples"
GOOD = '{"subject": "Boeing", "prompt": "The CEO of {} is", "target": "Kelly Ortberg"}'


@pytest.fixture
def parse(tmp_path):
    def write_and_parse(content: str | bytes, name: str = "file.jsonl"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return parse_file(path)

    return write_and_parse


def problem_of(line) -> str:
    assert line.correction is None
    (problem,) = line.problems
    return problem


@pytest.mark.parametrize(
    "bad",
    [
        b'{"subject": "Bo',
        b"[1]",
        b"\xff\xfe",
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b"[" * 90_000,
        b"x" * (MAX_LINE_BYTES + 1),
        b"1" * 5_000,
        b"\0",
    ],
    ids=lambda bad: repr(bad[:12]),
)
def test_one_bad_line_loses_no_other(parse, bad):
    lines = parse(b"\n".join([GOOD.encode(), bad, GOOD.encode()]))
    assert [line.number for line in lines] == [1, 2, 3]
    assert lines[0].correction == lines[2].correction is not None
    assert problem_of(lines[1])
    assert "\0" not in lines[1].text


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"subject": "Bo', "the line is not JSON: Unterminated string starting at column 13"),
        ("[1]", "the record must be an object, got a list"),
        ('{"target": NaN}', "the line holds NaN, which is not JSON"),
        ('{"target": "a", "target": "b"}', "the field 'target' is given twice; keep one"),
        ("x" * 100_001, "the record has 100,001 bytes; at most 100,000 are allowed"),
        ("[" * 90_000, "the record is nested too deeply"),
    ],
)
def test_reason_says_what_is_wrong_with_the_line(parse, line, says):
    assert problem_of(parse(line)[0]) == says


def test_byte_order_mark_and_blank_lines_are_no_matter(parse):
    (line,) = parse(b"\xef\xbb\xbf\r\n\n" + GOOD.encode() + b"\r\n\n")
    assert (line.number, line.text, line.problems) == (3, GOOD, ())


def test_an_id_given_to_other_content_is_refused_and_names_the_first_line(parse):
    records = [{**json.loads(GOOD), "id": "x", "target": target} for target in ("a", "a", "b")]
    lines = parse("\n".join(map(json.dumps, records)))
    assert lines[0].correction == lines[1].correction
    assert problem_of(lines[2]) == "id 'x' is taken by line 1 with other content; choose another"


@pytest.mark.parametrize("name", ["corrections.csv", "corrections.yaml", "corrections.jsonl", "thirteenth.jsonl"])
def test_example_files_are_accepted_whole(name):
    lines = parse_file(EXAMPLES / name)
    assert lines
    assert all(line.correction for line in lines), [line.problems for line in lines]


def test_twelve_examples_give_evidence_paraphrases_and_answered_neighbours():
    corrections = [line.correction for line in parse_file(EXAMPLES / "corrections.jsonl")]
    assert len(corrections) == 12
    for correction in corrections:
        assert correction is not None
        assert not correction.prompt.startswith("{}")
        assert correction.prior and correction.reason and correction.requester and correction.effective
        assert all(item.kind == "address" for item in correction.evidence) and correction.evidence
        assert len(correction.paraphrases) >= 2
        assert len(correction.neighbours) >= 3 and all(item.answer for item in correction.neighbours)


# CSV


def test_csv_lists_are_json_or_separated_by_semicolons(parse):
    header = "subject,prompt,target,aliases,neighbours,multi_valued,inverse,prior\n"
    row = "Chad,The capital of {} is,N'Djamena,"
    row += '"a; b ;","[{""prompt"": ""x; y""}]",TRUE,"{""prompt"": ""{} is in"", ""target"": ""t""}",\n'
    correction = parse(header + row, "file.csv")[0].correction
    assert correction.aliases == ("a", "b")
    assert correction.neighbours[0].prompt == "x; y"
    assert (correction.multi_valued, correction.inverse.target, correction.prior) == (True, "t", None)


def test_csv_takes_consequences_and_portability_as_json(parse):
    head = "subject,prompt,target,consequences,portability\nChad,The capital of {} is,N'Djamena,"
    head += '"[{""subject"": ""a"", ""prompt"": ""{} is"", ""target"": ""b""}]",'
    correction = parse(head + '"[{""prompt"": ""x"", ""answer"": ""y""}]"\n', "file.csv")[0].correction
    assert (correction.consequences[0].target, correction.portability[0].answer) == ("b", "y")
    (line,) = parse(head + "x; y\n", "file.csv")
    assert line.problems[0] == "portability[1] must be an object, got text"


def test_csv_line_with_an_open_quote_does_not_swallow_the_rest(parse):
    lines = parse('subject,prompt,target\n"Chad,The capital of {} is,x\nChad,The capital of {} is,x\n', "file.csv")
    assert [line.number for line in lines] == [2, 3]
    assert problem_of(lines[0]).startswith("the line is not CSV: ")
    assert lines[1].correction


def test_csv_line_with_too_many_cells_is_refused(parse):
    (line,) = parse("subject,prompt,target\nChad,The capital of {} is,x,y\n", "file.csv")
    assert problem_of(line).startswith("the line has 4 cells, the header 3")


@pytest.mark.parametrize("header", ["", "a;b\n", "subject;prompt;target\n", "subject,subject\n", '"subject\n', "\xff"])
def test_csv_with_a_broken_header_is_refused_whole(parse, header):
    with pytest.raises(CorrectionFileError, match="its header"):
        parse(header.encode("latin-1"), "file.csv")


# YAML


def test_yaml_items_are_numbered_by_line_and_fail_alone(parse):
    good = "- subject: Chad\n  prompt: The capital of {} is\n  target: N'Djamena\n"
    bad = ["- x: [", "- subject: a\n  subject: b", "- &a [*a]", "- !!python/name:os.system", "- " + "[" * 5000]
    text = "\n".join(["# ours", "---", good.strip(), *bad, good])
    lines = parse(text, "file.yaml")
    assert [line.number for line in lines] == [3, 6, 7, 9, 10, 11, 12]
    assert lines[0].correction == lines[-1].correction is not None
    reasons = [problem_of(line) for line in lines[1:-1]]
    assert reasons[0].startswith("the item is not YAML: ")
    assert reasons[1] == "the field 'subject' is given twice; keep one"
    assert reasons[2] == "the item uses a YAML alias (*name); write the value out"
    assert "could not determine a constructor" in reasons[3]


def test_yaml_list_may_be_indented_and_dates_and_booleans_typed(parse):
    text = "  -\n    subject: Norway\n    prompt: A code of {} is\n    target: 'NO'\n    effective: 2025-02-03\n"
    assert parse(text, "file.yml")[0].correction.effective.isoformat() == "2025-02-03T00:00:00+00:00"
    assert problem_of(parse(text.replace("'NO'", "NO"), "file.yml")[0]) == (
        "target must be text, got true or false; put it in quotes"
    )


def test_yaml_that_is_no_list_is_refused_whole(parse):
    with pytest.raises(CorrectionFileError, match="is not a list"):
        parse("subject: a\n", "file.yaml")


# Files


def test_file_that_cannot_be_read_says_why(tmp_path, parse):
    with pytest.raises(CorrectionFileError, match="does not exist"):
        parse_file(tmp_path / "missing.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(CorrectionFileError, match="is not a file"):
        parse_file(tmp_path / "folder.jsonl")
    with pytest.raises(CorrectionFileError, match=r"unknown suffix '\.txt'; use \.jsonl"):
        parse("", "file.txt")
    with pytest.raises(CorrectionFileError, match="at most 4,194,304 are allowed"):
        parse(b" " * (MAX_YAML_BYTES + 1), "file.yaml")


def test_a_hundred_thousand_lines_take_seconds(parse):
    lines = "\n".join(GOOD.replace("Boeing", f"Company {number}") for number in range(100_000))
    start = time.monotonic()
    assert all(line.correction for line in parse(lines))
    assert time.monotonic() - start < 60


def test_a_request_of_100_mb_is_refused_unread_and_is_read_without_the_check(tmp_path, monkeypatch):
    file = tmp_path / "huge.jsonl"
    with file.open("wb") as huge:
        huge.truncate(100_000_000)
    with pytest.raises(CorrectionFileError, match=r"has 100,000,000 bytes; at most 67,108,864"):
        parse_file(file)
    monkeypatch.setattr("tasks.parse._check_size", lambda path: None)
    (line,) = parse_file(file)
    assert problem_of(line).startswith("the record has 100,000,000 bytes")
