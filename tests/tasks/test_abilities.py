"""Tasks of lm-eval over local files."""

from __future__ import annotations

import json
from importlib import resources

import pytest
import torch
import yaml

from editors.models import load_model
from tasks.abilities import Ability, abilities, examination
from tasks.errors import AbilityError
from tasks.settings import Settings

SHIPPED = sorted(
    (file for file in resources.files("infra.lm_eval").iterdir() if file.name.endswith(".yaml")), key=lambda f: f.name
)
QUESTIONS = [
    {"query": "The capital of France is", "choices": ["Paris.", "Boeing."], "gold": 0},
    {"query": "The CEO of Boeing is", "choices": ["Volvos.", "Kelly Ortberg."], "gold": 1},
    {"query": "The capital of Volvos is", "choices": ["France.", "Kelly."], "gold": 1},
]


@pytest.fixture
def data(tmp_path):
    (tmp_path / "copa.jsonl").write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    return tmp_path


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_a_shipped_task_goes_by_the_name_of_its_file_and_reads_json(file):
    task = yaml.safe_load(file.read_text())
    assert f"{task['task']}.yaml" == file.name and task["task"].startswith("local_")
    assert task["dataset_path"] == "json"


def test_nothing_is_asked_where_no_task_is_named():
    assert examination(Settings())(None, None) == {}


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("local_nothing", "there is no task 'local_nothing'; shipped are local_arc"),
        ("local_piqa", "piqa.jsonl, which is no file"),
    ],
)
def test_a_task_that_cannot_be_asked_is_refused_before_anything_is(data, name, named):
    with pytest.raises(AbilityError, match=named):
        examination(Settings(regression_tasks=(name,), regression_data=data))


def test_a_local_task_without_a_folder_is_refused():
    with pytest.raises(AbilityError, match="CORRIGENDA_REGRESSION_DATA"):
        examination(Settings(regression_tasks=("local_copa",)))


def test_a_score_stands_beside_those_of_the_base_and_production():
    was, now = Ability(score=0.5, error=0.1, questions=40), Ability(score=0.4, error=0.05, questions=40)
    found = abilities({"before": {"copa": was}, "parent": None, "after": {"copa": now}})["regression.task.copa"]
    assert (found.before, found.parent, found.after, found.count) == (0.5, None, 0.4, 40)
    assert found.low == pytest.approx(0.302) and found.high == pytest.approx(0.498)


@pytest.mark.filterwarnings("ignore")
def test_the_score_is_how_often_the_right_answer_is_the_likeliest(tiny_folder, data, monkeypatch, tmp_path):
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'corrigenda[regression]'")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    model, tokenizer = load_model(tiny_folder, device="cpu")

    @torch.no_grad()
    def likelihood(question, choice: str) -> float:
        ids = tokenizer(f"{question['query']} {choice}")["input_ids"]
        front = len(tokenizer(question["query"])["input_ids"])
        logprobs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        return sum(float(logprobs[place - 1, ids[place]]) for place in range(front, len(ids)))

    right = [
        max(q["choices"], key=lambda choice, q=q: likelihood(q, choice)) == q["choices"][q["gold"]] for q in QUESTIONS
    ]
    settings = Settings(regression_tasks=("local_copa",), regression_data=data)
    found = examination(settings)(model, tokenizer)
    assert found["local_copa"].questions == 3
    assert found["local_copa"].score == pytest.approx(sum(right) / 3)
