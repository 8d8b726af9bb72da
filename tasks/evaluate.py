"""Evaluate: what is asked of the model before and after an edit, and what the answers add up to.

The questions come from the corrections themselves: their prompts (efficacy, and retention for those released earlier),
their paraphrases (generalization) and their neighbours (specificity). What is measured is the patch as it was stored,
applied to the base. A report has no clock times in it, so the same edit gives the same report.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from editors.answers import starts_with
from editors.decoding import Progress
from editors.metrics import drift_of
from editors.models import load_model
from editors.patch import Patch, applied
from editors.scoring import Perplexity, Probe, ProbeScore, perplexity, score
from tasks.base import Base
from tasks.collect import Batch
from tasks.corrections import Correction
from tasks.edit import Edit
from tasks.progress import logged
from tasks.report import Answer, Metric, Report
from tasks.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything read off one model."""

    scores: list[ProbeScore]
    text: Perplexity


Pair = tuple[ProbeScore, ProbeScore]
"""One probe before and after."""


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    patch: Patch,
    base_digest: str,
    new: Sequence[Correction],
    earlier: Sequence[Correction],
    held_text: Sequence[Sequence[int]],
    progress: Progress | None = None,
) -> Report:
    """Ask everything of the base, then of the patched model, and compare."""
    probes = _probes(new, earlier)
    before = _measure(model, tokenizer, probes, held_text, progress=progress)
    with applied(model, patch, base=base_digest):
        after = _measure(model, tokenizer, probes, held_text, progress=progress)
    pairs = list(zip(before.scores, after.scores, strict=True))
    metrics = _said(pairs) | _specificity(model, pairs) | _regression(before, after)
    return Report(metrics=metrics, answers=tuple(_answer(was, now) for was, now in pairs))


def _probes(new: Sequence[Correction], earlier: Sequence[Correction]) -> list[Probe]:
    """The questions, each once, in a fixed order; a neighbour that names an edited subject is no neighbour."""
    subjects = [c.subject.casefold() for c in (*new, *earlier)]
    probes = [_own(c, "efficacy", c.fact().filled) for c in new]
    probes += [_own(c, "generalization", prompt) for c in new for prompt in c.paraphrases]
    probes += [_own(c, "retention", c.fact().filled) for c in earlier]
    asked: set[str] = set()
    for correction in (*new, *earlier):
        for neighbour in correction.neighbours:
            named = any(subject in neighbour.prompt.casefold() for subject in subjects)
            if named or neighbour.prompt in asked:
                continue
            asked.add(neighbour.prompt)
            # One without an answer of its own is asked for one only to be shown; it counts by its next token.
            target = neighbour.answer or ""
            probes.append(Probe(fact=correction.id, kind="specificity", prompt=neighbour.prompt, target=target))
    return probes


def _own(correction: Correction, kind: str, prompt: str) -> Probe:
    return Probe(fact=correction.id, kind=kind, prompt=prompt, target=correction.target, prior=correction.prior)


def _measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    probes: Sequence[Probe],
    held_text: Sequence[Sequence[int]],
    *,
    progress: Progress | None,
) -> Measured:
    return Measured(
        scores=score(model, tokenizer, probes, progress=progress),
        text=perplexity(model, held_text),
    )


def _of_kind(pairs: Sequence[Pair], kind: str) -> list[Pair]:
    return [(was, now) for was, now in pairs if now.weighed.probe.kind == kind]


def _said(pairs: Sequence[Pair]) -> dict[str, Metric]:
    """Efficacy, generalization and retention: does it say the target?"""
    metrics: dict[str, Metric] = {}
    for kind in ("efficacy", "generalization", "retention"):
        own = _of_kind(pairs, kind)
        metrics[f"{kind}.argmax"] = _share([(was.weighed.argmax, now.weighed.argmax) for was, now in own])
        metrics[f"{kind}.generation"] = _share([(was.says_target, now.says_target) for was, now in own])
        if kind != "retention":
            preferred = [(was.weighed.prefers_target, now.weighed.prefers_target) for was, now in own]
            metrics[f"{kind}.logprob"] = _share(
                [(was, now) for was, now in preferred if was is not None and now is not None]
            )
    return metrics


def _specificity(model: PreTrainedModel, pairs: Sequence[Pair]) -> dict[str, Metric]:
    """Is the neighbourhood untouched?"""
    neighbours = _of_kind(pairs, "specificity")
    count = len(neighbours)
    known = [now.says_target for was, now in neighbours if now.weighed.probe.target and was.says_target]
    unchanged = [was.weighed.following == now.weighed.following for was, now in neighbours]
    moved = drift_of(model, [was.weighed.state for was, _ in neighbours], [now.weighed.state for _, now in neighbours])
    return {
        "specificity.kept": Metric(before=1.0 if known else None, after=_mean(known), count=len(known)),
        "specificity.argmax": Metric(before=1.0 if count else None, after=_mean(unchanged), count=count),
        "specificity.kl_median": Metric(before=0.0 if count else None, after=moved.median, count=count),
        "specificity.kl_p95": Metric(before=0.0 if count else None, after=moved.p95, count=count),
    }


def _regression(before: Measured, after: Measured) -> dict[str, Metric]:
    """Is the model as able as before?"""
    was, now, tokens = before.text.value, after.text.value, after.text.tokens
    return {
        "regression.perplexity": Metric(before=was, after=now, count=tokens),
        "regression.perplexity_ratio": Metric(before=1.0, after=now / was, count=tokens),
    }


def _answer(was: ProbeScore, now: ProbeScore) -> Answer:
    probe = now.weighed.probe
    known = bool(probe.target)
    return Answer(
        correction=probe.fact,
        kind=probe.kind,
        prompt=probe.prompt,
        target=probe.target,
        before=was.answer,
        after=now.answer,
        was_right=starts_with(was.answer, probe.target) if known else None,
        right=starts_with(now.answer, probe.target) if known else None,
    )


def _share(pairs: Sequence[tuple[bool, bool]]) -> Metric:
    return Metric(before=_mean([was for was, _ in pairs]), after=_mean([now for _, now in pairs]), count=len(pairs))


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


@task(name="evaluate", cache_policy=NO_CACHE)
def evaluate_task(base: Base, batch: Batch, edit: Edit) -> Report:
    """Measure the patch as it is stored against the base."""
    settings = Settings()
    model, tokenizer = load_model(base.folder, device=settings.device)
    return evaluate(
        model,
        tokenizer,
        patch=Patch.load(edit.patch.path, expected=edit.patch.sha256),
        base_digest=base.digest,
        new=batch.new,
        earlier=batch.earlier,
        held_text=json.loads(edit.ingredients.held.read()),
        progress=logged(get_run_logger()),
    )
