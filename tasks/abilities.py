"""Abilities: what the models score in tasks of lm-eval, where the settings name some.

A task takes minutes on a CPU, so none is asked by default. Any task of lm-eval will do, and fetches its data as lm-eval
does. Those that are shipped (`infra/lm_eval`, their names begin with "local_") read a file of the folder that
`CORRIGENDA_REGRESSION_DATA` names, and need no network: local_copa reads copa.jsonl.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module, resources
from typing import TYPE_CHECKING, Any

import yaml

from tasks.errors import AbilityError
from tasks.report import OF_TASK, Metric
from tasks.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_SHIPPED = resources.files("infra.lm_eval")
_LOCAL = "local_"
_SCORES = ("acc", "exact_match", "f1", "bleu", "em")
_NORMAL = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Ability:
    """What a model scores in a task, with its standard error, over how many questions."""

    score: float
    error: float
    questions: int


Examination = Callable[["PreTrainedModel", "PreTrainedTokenizerFast"], Mapping[str, Ability]]


def examination(settings: Settings) -> Examination:
    """Return how a model is asked the tasks that the settings name; it asks nothing where they name none.

    Raises:
        AbilityError: a task has no file, or lm-eval is not installed.
    """
    tasks = [_task(name, settings) for name in settings.regression_tasks]
    if tasks:
        _lm_eval()
    return lambda model, tokenizer: _examine(model, tokenizer, tasks, settings.regression_limit) if tasks else {}


def abilities(models: Mapping[str, Mapping[str, Ability] | None]) -> dict[str, Metric]:
    """Return the metric of each task.

    Args:
        models: what "before", "parent" and "after" score; None where a model was not asked.
    """
    after = models["after"]
    assert after is not None, "the patched model is always asked"
    return {
        f"{OF_TASK}{task}": Metric.model_validate(
            {model: scored and scored[task].score for model, scored in models.items()}
            | {
                "low": now.score - _NORMAL * now.error,
                "high": now.score + _NORMAL * now.error,
                "count": now.questions,
            }
        )
        for task, now in after.items()
    }


def _task(name: str, settings: Settings) -> str | dict[str, Any]:
    """A task as lm-eval takes it: by its name, or one of ours with the file that it reads."""
    if not name.startswith(_LOCAL):
        return name
    shipped = {file.name.removesuffix(".yaml"): file for file in _SHIPPED.iterdir() if file.name.endswith(".yaml")}
    if name not in shipped:
        raise AbilityError(f"there is no task {name!r}; shipped are {', '.join(sorted(shipped))}")
    if settings.regression_data is None:
        raise AbilityError(f"{name} reads a local file; set CORRIGENDA_REGRESSION_DATA to the folder that holds it")
    file = settings.regression_data / f"{name.removeprefix(_LOCAL)}.jsonl"
    if not file.is_file():
        raise AbilityError(f"{name} reads {file}, which is no file; see CORRIGENDA_REGRESSION_DATA")
    return yaml.safe_load(shipped[name].read_text(encoding="utf-8")) | {
        "dataset_kwargs": {"data_files": {"test": str(file.resolve())}}
    }


def _examine(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tasks: list[str | dict[str, Any]], limit: int | None
) -> dict[str, Ability]:
    evaluate, wrap = _lm_eval()
    found = evaluate(
        model=wrap(pretrained=model, tokenizer=tokenizer, batch_size=16),
        tasks=tasks,
        limit=limit,
        bootstrap_iters=100,
        log_samples=False,
    )
    asked = sorted(set(found["results"]) & set(found["n-samples"]))  # a group has results of its own, and no questions
    return {name: _ability(found, name) for name in asked}


def _ability(found: Mapping[str, Any], name: str) -> Ability:
    """The first of a task's scores that we know; length-normalised accuracy is another question."""
    result = found["results"][name]
    for key, value in result.items():
        score, _, variant = key.partition(",")
        if score in _SCORES:
            error = result.get(f"{score}_stderr,{variant}")
            questions = found["n-samples"][name]["effective"]
            return Ability(score=value, error=error if isinstance(error, float) else 0.0, questions=questions)
    raise AbilityError(f"of {name} lm-eval reports {sorted(result)}, and none of it is one of {', '.join(_SCORES)}")


def _lm_eval() -> tuple[Any, Any]:
    try:
        harness, models = import_module("lm_eval"), import_module("lm_eval.models.huggingface")
    except ImportError as error:
        raise AbilityError("regression tasks need lm-eval: pip install 'corrigenda[regression]'") from error
    return harness.simple_evaluate, models.HFLM
