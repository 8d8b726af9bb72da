"""Evaluate: what is asked of the base, of the release in production and of the patched model, and what they answer.

The questions come from the corrections themselves, from the facts that are withdrawn and from those that are protected
(`tasks/probes.py`). What is measured are patches as they were stored, applied to the base. A report has no clock times
in it, so the same edit gives the same report.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from editors.decoding import Progress
from editors.expectation import divergence
from editors.fluency import LENGTH, Written, write
from editors.models import load_model
from editors.patch import Patch, applied
from editors.scoring import Perplexity, Probe, ProbeScore, perplexity, says_targets, score, weigh
from tasks.abilities import Ability, Examination, abilities, examination
from tasks.base import Base
from tasks.blast import blast_radius
from tasks.chat import asked_in_chat, with_chat
from tasks.collect import Batch
from tasks.corrections import Correction
from tasks.edit import Edit
from tasks.fluency import TEXTS, fluency, passages_of, prompts_of
from tasks.measures import measure, perplexities
from tasks.probes import Question, questions_of
from tasks.progress import logged
from tasks.report import METRICS, OVER_TEXT, Answer, Metric, Report, Said
from tasks.retries import WHILE_AWAY
from tasks.settings import Settings
from tasks.store import Store

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything read off one model."""

    scores: list[ProbeScore]
    chat: list[str | None]
    text: Perplexity
    written: list[Written]
    abilities: Mapping[str, Ability]


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    patch: Patch,
    parent: Patch | None,
    base_digest: str,
    new: Sequence[Correction],
    earlier: Sequence[Correction],
    withdrawn: Sequence[Correction] = (),
    protected: Sequence[Correction] = (),
    held_text: Sequence[Sequence[int]],
    ordinary_text: Sequence[Sequence[int]],
    examine: Examination = lambda model, tokenizer: {},
    progress: Progress | None = None,
) -> Report:
    """Ask everything of the base, of the release in production and of the patched model, and compare.

    Args:
        model: the base; its weights are as before afterwards.
        tokenizer: its own.
        patch: what is to be judged.
        parent: the patch of the release in production, the empty one where that is the base; None where it is for
            another base, and can't be asked.
        base_digest: of the base's weights.
        new: corrections that are new in the patch.
        earlier: those that were released before.
        withdrawn: those that were released before, and shall not be said any more.
        protected: facts that must stay as they are.
        held_text: token rows for perplexity.
        ordinary_text: token rows of one length, for the blast radius.
        examine: asks a model the tasks of lm-eval that are set.
        progress: told of prompts.
    """
    asked = questions_of(new, earlier, withdrawn=withdrawn, protected=protected)
    questions = _answerable(model, tokenizer, asked)
    probes = [question.probe for question in questions]
    openings = prompts_of(new)
    measured = partial(
        measure_one,
        model,
        tokenizer,
        base_digest=base_digest,
        probes=probes,
        openings=openings,
        held_text=held_text,
        examine=examine,
        progress=progress,
    )
    before, after = measured(Patch(base=base_digest)), measured(patch)
    served = None if parent is None else measured(parent) if parent.deltas else before
    models = {"before": before, "parent": served, "after": after}
    answers = _answers(model, questions, models, before=before)
    written = {name: each and each.written for name, each in models.items()}
    scored = abilities({name: each and each.abilities for name, each in models.items()})
    blast, worst = blast_radius(model, tokenizer, patch=patch, parent=parent, text=ordinary_text, progress=progress)
    return Report(
        base=base_digest,
        patch=patch.digest,
        metrics=_metrics(answers, models) | fluency(model, written) | blast | scored,
        answers=answers,
        passages=passages_of(openings, written) + worst,
    )


def measure_one(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    patch: Patch,
    *,
    base_digest: str,
    probes: Sequence[Probe],
    openings: Sequence[str],
    held_text: Sequence[Sequence[int]],
    examine: Examination,
    progress: Progress | None,
) -> Measured:
    """Ask everything of the base with a patch."""
    with applied(model, patch, base=base_digest):
        return Measured(
            scores=score(model, tokenizer, probes, progress=progress),
            chat=asked_in_chat(model, tokenizer, probes, progress=progress),
            text=perplexity(model, held_text),
            written=write(model, tokenizer, openings, progress=progress),
            abilities=examine(model, tokenizer),
        )


def _answers(
    model: PreTrainedModel,
    questions: Sequence[Question],
    models: Mapping[str, Measured | None],
    *,
    before: Measured,
) -> tuple[Answer, ...]:
    """What each model said to each question."""
    said = [
        with_chat(compared(model, before.scores, each.scores), questions, each.chat)
        if each
        else [None] * len(questions)
        for each in models.values()
    ]
    return tuple(
        Answer(
            correction=question.probe.fact,
            relation=question.relation,
            kind=question.probe.kind,
            prompt=question.probe.prompt,
            target=question.probe.target,
            made=question.made,
            before=was,
            parent=production,
            after=now,
        )
        for question, was, production, now in zip(questions, *said, strict=True)
    )


def _answerable(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, questions: Sequence[Question]
) -> list[Question]:
    """Leave out the questions for which the base does not know what they take for granted."""
    given = [question.given for question in questions if question.given]
    knows = iter(says_targets(model, tokenizer, weigh(model, tokenizer, given)) if given else ())
    return [question for question in questions if question.given is None or next(knows)]


def compared(model: PreTrainedModel, before: Sequence[ProbeScore], now: Sequence[ProbeScore]) -> list[Said]:
    """What one model made of each probe, beside the base.

    Args:
        model: whose head projects hidden states, which no edit changes.
        before: what the base made of them.
        now: what that model did.
    """
    pairs = list(zip(before, now, strict=True))
    moved = iter(_divergence(model, [pair for pair in pairs if _is_neighbour(pair[0])]))
    return [_neighbour(was, now, next(moved)) if _is_neighbour(was) else _own_answer(was, now) for was, now in pairs]


def _is_neighbour(score: ProbeScore) -> bool:
    return score.weighed.probe.kind == "specificity"


def _divergence(model: PreTrainedModel, pairs: Sequence[tuple[ProbeScore, ProbeScore]]) -> list[float]:
    """How far what follows each prompt has moved, in nats."""
    if not pairs:
        return []
    was, now = (torch.stack([score.weighed.state for score in side]) for side in zip(*pairs, strict=True))
    return divergence(model, was, now).tolist()


def _neighbour(was: ProbeScore, now: ProbeScore, moved: float) -> Said:
    """A neighbour says the right thing where one is known, and counts by its next token."""
    return Said(
        text=now.answer,
        generation=now.says_target if now.weighed.probe.target else None,
        argmax=was.weighed.following == now.weighed.following,
        kl=moved,
    )


def _own_answer(was: ProbeScore, now: ProbeScore) -> Said:
    if now.weighed.probe.kind == "absence":
        return Said(
            text=now.answer,
            generation=was.says_target or not now.says_target,
            rise=now.weighed.target_logprob - was.weighed.target_logprob,
        )
    return Said(
        text=now.answer,
        generation=now.says_target,
        argmax=now.weighed.argmax,
        logprob=now.weighed.prefers_target,
    )


def _metrics(answers: Sequence[Answer], models: Mapping[str, Measured | None]) -> dict[str, Metric]:
    """The metrics of prompts and of held text, in the order of METRICS."""
    return {
        name: measure(name, [answer for answer in answers if answer.kind == name.partition(".")[0]])
        for name in METRICS
        if not name.startswith(OVER_TEXT)
    } | perplexities("regression.perplexity", {name: each and each.text for name, each in models.items()})


def _parent_patch(batch: Batch, base: Base, settings: Settings) -> Patch | None:
    """The patch of the release in production, from the store; none where that release is for another base."""
    if batch.parent is None:
        return Patch(base=base.digest)
    store = Store(settings)
    manifest = store.manifest(batch.parent)
    if manifest["base"] != base.digest:
        return None
    file = store.copy_in(settings.home / "cache" / "patches", manifest["patch"], "safetensors")
    return Patch.load(file.path, expected=file.sha256)


@task(name="evaluate", **WHILE_AWAY, cache_policy=NO_CACHE)
def evaluate_task(base: Base, batch: Batch, edit: Edit) -> Report:
    """Measure the patch as it is stored against the base and the release in production."""
    settings = Settings()
    parent = _parent_patch(batch, base, settings)
    if parent is None:
        get_run_logger().warning("production stands on another base: it is not asked, and bounds from it will fail")
    held_text = json.loads(edit.ingredients.held.read())
    ordinary_text = json.loads(edit.ingredients.ordinary.read())
    new = (*batch.new, *batch.returning)
    prompts = questions_of(new, batch.earlier, withdrawn=batch.withdrawn, protected=batch.protected)
    get_run_logger().info(
        "each of %d models answers %d prompts, reads %d tokens of held text and writes %d texts of %d tokens; "
        "what they change is looked for in %d tokens of ordinary text; tasks of lm-eval: %s",
        3 if parent and parent.deltas else 2,
        len(prompts),
        sum(map(len, held_text)),
        TEXTS,
        LENGTH,
        sum(map(len, ordinary_text)),
        ", ".join(settings.regression_tasks) or "none",
    )
    model, tokenizer = load_model(base.folder, device=settings.device)
    return evaluate(
        model,
        tokenizer,
        patch=Patch.load(edit.patch.path, expected=edit.patch.sha256),
        parent=parent,
        base_digest=base.digest,
        new=new,
        earlier=batch.earlier,
        withdrawn=batch.withdrawn,
        protected=batch.protected,
        held_text=held_text,
        ordinary_text=ordinary_text,
        examine=examination(settings),
        progress=logged(get_run_logger()),
    )
