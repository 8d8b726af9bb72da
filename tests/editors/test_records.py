import json
from pathlib import Path

import pytest

from editors.errors import RecordFileError
from editors.records import Neighbour, read_records, without_contradictions

DATA = Path(__file__).parents[3] / "shared" / "data"

FULL = {
    "case_id": 7,
    "requested_rewrite": {
        "prompt": "The capital of {} is",
        "subject": "France",
        "relation_id": "P36",
        "target_new": {"str": "Rome"},
        "target_true": {"str": "Paris"},
    },
    "paraphrase_prompts": ["France's capital is", "The seat of France's government is"],
    "neighborhood_prompts": ["The largest city of France is"],
}
SIMPLE = {
    "case_id": 8,
    "prompt": "The capital of France is",
    "subject": "France",
    "target_new": "Rome",
    "ground_truth": "Paris",
    "rephrase_prompt": "France's capital is",
    "locality_prompt": "The capital of Italy is",
    "locality_ground_truth": "Rome",
}
ZSRE = {
    "subject": "France",
    "src": "What is the capital of France?",
    "rephrase": "Which city is France's capital?",
    "alt": "Rome",
    "answers": ["Paris"],
    "loc": "nq question: who leads boeing",
    "loc_ans": "Kelly Ortberg",
}


def written(folder: Path, *records: object) -> Path:
    file = folder / "records.jsonl"
    file.write_text("\n\n".join(json.dumps(record) for record in records), encoding="utf-8")
    return file


def test_each_shape_is_known_by_its_fields(tmp_path):
    full, simple, zsre = read_records(written(tmp_path, FULL, SIMPLE, ZSRE))
    assert full.fact.filled == simple.fact.filled == "The capital of France is"
    assert zsre.fact.prompt == "What is the capital of {}?"
    assert [record.fact.prior for record in (full, simple, zsre)] == ["Paris", "Paris", None]
    assert [len(record.paraphrases) for record in (full, simple, zsre)] == [2, 1, 1]
    assert len({record.fact.id for record in (full, simple, zsre)}) == 3


def test_a_neighbour_carries_the_answer_that_is_right_there(tmp_path):
    full, simple, zsre = read_records(written(tmp_path, FULL, SIMPLE, ZSRE))
    assert full.neighbours == (Neighbour(prompt="The largest city of France is", answer="Paris"),)
    assert simple.neighbours == (Neighbour(prompt="The capital of Italy is", answer="Rome"),)
    assert zsre.neighbours == (Neighbour(prompt="nq question: who leads boeing", answer="Kelly Ortberg"),)


def test_a_limit_stops_before_what_follows_is_read(tmp_path):
    file = written(tmp_path, FULL, {"broken": 1})
    assert len(read_records(file, limit=1)) == 1


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (
            FULL | {"requested_rewrite": FULL["requested_rewrite"] | {"target_new": {}}},
            "requested_rewrite.target_new.str: a",
        ),
        (FULL | {"requested_rewrite": "France"}, "requested_rewrite.target_true.str: a text is needed, got null"),
        (FULL | {"paraphrase_prompts": "one"}, "paraphrase_prompts: a list of texts is needed, got"),
        (FULL | {"neighborhood_prompts": [3]}, "neighborhood_prompts: a list of texts"),
        (SIMPLE | {"subject": "Spain"}, "prompt: the subject 'Spain' is not in"),
        (SIMPLE | {"ground_truth": "Rome"}, "fact case 8: target and prior are both 'Rome'"),
        (ZSRE | {"alt": " "}, "alt: a text is needed"),
        ({"question": "?"}, "no known shape: it has question; CounterFact has requested_rewrite"),
        ([], "a record is a JSON object, got list"),
    ],
)
def test_what_is_no_record_is_refused_by_line_and_field(tmp_path, record, problem):
    with pytest.raises(RecordFileError) as caught:
        read_records(written(tmp_path, FULL, record))
    assert str(caught.value).startswith(f"{tmp_path / 'records.jsonl'}, line 3: {problem}")


@pytest.mark.parametrize(
    ("content", "problem"), [(b"{", "not JSON"), (b"\xff\n", "byte 1 is not UTF-8"), (b"\n", "no record")]
)
def test_what_is_no_json_is_refused(tmp_path, content, problem):
    file = tmp_path / "records.jsonl"
    file.write_bytes(content)
    with pytest.raises(RecordFileError, match=f"line 1: .*{problem}"):
        read_records(file)


def test_of_two_records_that_contradict_each_other_the_first_one_is_kept(tmp_path):
    other = SIMPLE | {"case_id": 9, "target_new": "Bern"}
    kept, left_out = without_contradictions(read_records(written(tmp_path, SIMPLE, other, FULL)))
    assert [record.fact.id for record in kept] == ["case 8", "case 7"]
    assert left_out == ["case 9 contradicts case 8: 'The capital of France is' is 'Bern' and 'Rome'"]


@pytest.mark.parametrize(
    ("name", "records", "neighbours"),
    [("counterfact_full", 563, 10), ("counterfact_simple", 4000, 1), ("zsre_mend_1k", 410, 1)],
)
def test_the_published_files_are_read_whole(name, records, neighbours):
    file = DATA / f"{name}.jsonl"
    if not file.is_file():
        pytest.skip(f"{file} is not on this machine")
    found = read_records(file)
    assert len(found) == records
    assert all(len(record.neighbours) == neighbours for record in found)
