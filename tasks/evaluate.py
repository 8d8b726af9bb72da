"""Evaluate: what is asked of the base, of the release in production and of the patched model, and what they answer.

The questions come from the corrections themselves: their prompts (efficacy, and retention for those released earlier),
their paraphrases (generalization) and their neighbours (specificity); from the facts that are withdrawn (absence); and
from those that are protected. What is measured are patches as they were stored, applied to the base. A report has no
clock times in it, so the same edit gives the same report.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from editors.decoding import Progress
from editors.expectation import divergence
from editors.models import load_model
from editors.patch import Patch, applied
from editors.scoring import Perplexity, Probe, ProbeScore, perplexity, score
from tasks.base import Base
from tasks.collect import Batch
from tasks.corrections import Correction
from tasks.edit import Edit
from tasks.measures import measure
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
    text: Perplexity


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
        progress: told of prompts.
    """
    probes = [*_probes(new, earlier, withdrawn), *_protected(protected)]
    relations = {(False, c.id): c.relation for c in (*new, *earlier, *withdrawn)}
    relations |= {(True, c.id): c.relation for c in protected}  # it may have the id of a correction

    def measured(patch: Patch) -> Measured:
        with applied(model, patch, base=base_digest):
            return Measured(
                scores=score(model, tokenizer, probes, progress=progress), text=perplexity(model, held_text)
            )

    before, after = measured(Patch(base=base_digest)), measured(patch)
    served = None if parent is None else measured(parent) if parent.deltas else before
    models = {"before": before, "parent": served, "after": after}
    said = [compared(model, before.scores, each.scores) if each else [None] * len(probes) for each in models.values()]
    answers = tuple(
        Answer(
            correction=probe.fact,
            relation=relations[probe.kind == "protected", probe.fact],
            kind=probe.kind,
            prompt=probe.prompt,
            target=probe.target,
            before=was,
            parent=production,
            after=now,
        )
        for probe, was, production, now in zip(probes, *said, strict=True)
    )
    return Report(base=base_digest, patch=patch.digest, metrics=_metrics(answers, models), answers=answers)


def _probes(
    new: Sequence[Correction], earlier: Sequence[Correction], withdrawn: Sequence[Correction] = ()
) -> list[Probe]:
    """The questions, each once, in a fixed order; a neighbour that names an edited subject is no neighbour."""
    subjects = [c.subject.casefold() for c in (*new, *earlier)]
    probes = [_own(c, "efficacy", c.fact().filled) for c in new]
    probes += [_own(c, "generalization", prompt) for c in new for prompt in c.paraphrases]
    probes += [_own(c, "retention", c.fact().filled) for c in earlier]
    probes += [_own(c, "absence", prompt) for c in withdrawn for prompt in (c.fact().filled, *c.paraphrases)]
    asked: set[str] = set()
    for correction in (*new, *earlier, *withdrawn):
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


def _protected(protected: Sequence[Correction]) -> list[Probe]:
    return [_own(c, "protected", prompt) for c in protected for prompt in (c.fact().filled, *c.paraphrases)]


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
    """Every metric, in the order of METRICS."""
    texts = {name: each.text for name, each in models.items() if each}
    values = {name: texts[name].value if name in texts else None for name in models}
    ratios = {name: value and value / texts["before"].value for name, value in values.items()}
    tokens = texts["after"].tokens
    return {
        name: measure(name, [answer for answer in answers if answer.kind == name.partition(".")[0]])
        for name in METRICS
        if not name.startswith(OVER_TEXT)
    } | {
        "regression.perplexity": Metric.model_validate(values | {"count": tokens}),
        "regression.perplexity_ratio": Metric.model_validate(ratios | {"count": tokens}),
    }


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
    model, tokenizer = load_model(base.folder, device=settings.device)
    return evaluate(
        model,
        tokenizer,
        patch=Patch.load(edit.patch.path, expected=edit.patch.sha256),
        parent=parent,
        base_digest=base.digest,
        new=(*batch.new, *batch.returning),
        earlier=batch.earlier,
        withdrawn=batch.withdrawn,
        protected=batch.protected,
        held_text=json.loads(edit.ingredients.held.read()),
        progress=logged(get_run_logger()),
    )
