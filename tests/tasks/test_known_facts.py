import json

import pytest

from editors.facts import Fact
from tasks.known_facts import FactsFileError, read_facts

LINE = {
    "known_id": 7,
    "subject": "Bern",
    "prompt": "The river in Bern is the",
    "attribute": "Aare",
    "relation_id": "P1",
}


def written(tmp_path, *lines):
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_a_line_is_a_fact_about_the_subject_in_its_prompt(tmp_path):
    path = written(tmp_path, LINE, "", LINE | {"prompt": "Bern is in"})
    assert read_facts(path) == [
        Fact(id="1", subject="Bern", prompt="The river in {} is the", target="Aare"),
        Fact(id="3", subject="Bern", prompt="{} is in", target="Aare"),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2: Invalid JSON"),
        ({"subject": "Bern", "prompt": "Bern is in"}, "line 2: Field required"),
        (LINE | {"subject": "Basel"}, "line 2: 'Basel' is not in 'The river in Bern is the'"),
        (LINE | {"subject": ""}, "line 2: String should have at least 1 character"),
        (LINE | {"attribute": " "}, "line 2: .* the target is empty"),
        (LINE | {"prompt": "Bern {} is in"}, "line 2: .* has 2 places"),
    ],
)
def test_a_line_that_is_no_fact_is_named(tmp_path, line, reason):
    with pytest.raises(FactsFileError, match=reason):
        read_facts(written(tmp_path, LINE, line))


def test_a_file_without_facts_is_refused(tmp_path):
    with pytest.raises(FactsFileError, match="holds no fact"):
        read_facts(written(tmp_path, ""))
    with pytest.raises(FactsFileError, match="cannot be read"):
        read_facts(tmp_path / "missing.jsonl")
