import json
from pathlib import Path

import pytest

from editors.errors import RecordFileError
from editors.records import read_records, without_contradictions
from editors.shapes import Question

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

KNOWEDIT = {
    "case_id": 9,
    "subject": "France",
    "prompt": "The capital of France is",
    "target_new": "Rome",
    "ground_truth": "<|endoftext|>",
    "portability": {"Subject_Aliasing": {"prompt": ["The capital of the Hexagon is"], "ground_truth": ["Rome"]}},
    "locality": {"Relation_Specificity": {"prompt": ["The anthem of France is"], "ground_truth": ["La Marseillaise"]}},
}
MQUAKE = {
    "case_id": 10,
    "requested_rewrite": [
        FULL["requested_rewrite"] | {"question": "What is the capital of France?"},
        {
            "prompt": "The mayor of {} is",
            "subject": "Rome",
            "target_new": {"str": "Anne Hidalgo"},
            "target_true": {"str": "Roberto Gualtieri"},
            "question": "Who is the mayor of Rome?",
        },
    ],
    "questions": ["Who is the mayor of France's capital?"],
    "new_answer": "Anne Hidalgo",
}
HALLUEDIT = {
    "subject": "France",
    "question": "What is the capital of France?",
    "object": "Rome",
    "paraphrased_question": "Which city is France's capital?",
    "reversed_relation_question": "Which country's capital is Rome?",
    "question_2hop": "Which river runs through the capital of France?",
    "answer_2hop": "Tiber",
    "question_3hop": "Into which sea does the river in the capital of France run?",
    "answer_3hop": "Tyrrhenian Sea",
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
    assert full.neighbours == (Question(prompt="The largest city of France is", answer="Paris"),)
    assert simple.neighbours == (Question(prompt="The capital of Italy is", answer="Rome"),)
    assert zsre.neighbours == (Question(prompt="nq question: who leads boeing", answer="Kelly Ortberg"),)


def test_what_follows_and_what_leads_back_is_read_where_a_shape_has_it(tmp_path):
    knowedit, first, second, halluedit = read_records(written(tmp_path, KNOWEDIT, MQUAKE, HALLUEDIT))
    assert knowedit.portability == (Question(prompt="The capital of the Hexagon is", answer="Rome"),)
    assert knowedit.neighbours == (Question(prompt="The anthem of France is", answer="La Marseillaise"),)
    assert knowedit.fact.prior is None
    assert [record.fact.id for record in (first, second)] == ["case 10, hop 1", "case 10, hop 2"]
    assert first.portability == (Question(prompt="Who is the mayor of France's capital?", answer="Anne Hidalgo"),)
    assert second.portability == () and second.fact.prior == "Roberto Gualtieri"
    assert halluedit.inverse == (Question(prompt="Which country's capital is Rome?", answer="France"),)
    assert [each.answer for each in halluedit.portability] == ["Tiber", "Tyrrhenian Sea"]


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
        (KNOWEDIT | {"locality": []}, "locality: an object is needed"),
        (
            KNOWEDIT | {"portability": {"reasoning": "?"}},
            "portability.reasoning: an object with prompt and ground_truth",
        ),
        (
            KNOWEDIT | {"portability": {"reasoning": {"prompt": ["one", "two"], "ground_truth": ["three"]}}},
            "portability.reasoning: 2 prompts have 1 answers",
        ),
        (MQUAKE | {"requested_rewrite": {}}, "requested_rewrite: a list of objects is needed"),
        (HALLUEDIT | {"answer_2hop": 3}, "answer_2hop: a text is needed"),
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
    ("name", "counts"),
    [
        ("counterfact_full", (563, 5630, 0)),
        ("counterfact_simple", (4000, 4000, 0)),
        ("zsre_mend_1k", (410, 410, 0)),
        ("knowedit_wiki_counterfact", (348, 2504, 2044)),
        ("knowedit_zsre", (469, 938, 469)),
        ("knowedit_wikibio", (78, 156, 0)),
        ("mquake_hard", (644, 0, 483)),
        ("halluedit/places_city", (100, 0, 200)),
    ],
)
def test_the_published_files_are_read_whole(name, counts):
    file = DATA / f"{name}.jsonl"
    if not file.is_file():
        pytest.skip(f"{file} is not on this machine")
    found = read_records(file)
    asked = [sum(len(getattr(each, kind)) for each in found) for kind in ("neighbours", "portability")]
    assert (len(found), *asked) == counts
