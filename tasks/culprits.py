"""Culprits: which new facts are to blame for a failed gate, by numbers and trials, and why in words.

First those without which others are right again (search.py), then those that still fail by themselves. So a fact that
another one keeps from being said is not blamed for it. Whatever is found is proven, and is all that is set aside: the
rest is solved, evaluated and gated anew.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.batch import Subjects, by_subject
from editors.joint import Joint, Value, solved_sites
from editors.material import Material
from editors.models import load_model
from tasks.base import Base, editor_of
from tasks.collect import Batch
from tasks.companions import facts_of
from tasks.edit import Edit, configs_of, kept_values, material_of, recipes_of
from tasks.families import alone, asked_about, owners
from tasks.harm import OF_OTHERS, Harm, Trial
from tasks.policy import Policy
from tasks.report import Answer, Record, Report
from tasks.retries import WHILE_AWAY
from tasks.screen import Screened, by_suspicion, screen
from tasks.search import Found, search
from tasks.settings import Settings
from tasks.store import Store
from tasks.trials import Bench

NOBODY = (
    "no trial can tell who is to blame: the bounds that are missed hold by their estimate, on too few prompts, or are "
    "measured over text"
)
ELSEWHERE = "the gate fails without the new facts too; see the earlier facts, those that leave, and the base"
SPENT = "no trial is left to tell who is to blame; the next refresh goes on, and CORRIGENDA_CULPRIT_TRIALS allows more"
KINDS = {"specificity": ("neighbour", "neighbours"), "protected": ("protected fact", "protected facts")}


class Culprit(Record):
    """A fact that is to blame.

    Attributes:
        correction: its id.
        reason: in words.
        measured: what that is known by: the screen, the prompts that failed, and what the trial without it mended.
    """

    correction: str
    reason: str
    measured: dict[str, Any]


class Culprits(Record):
    """What was found out about a failed gate.

    Attributes:
        found: the facts to blame.
        trials: how many were made.
        why: no fact is to blame; empty where some are.
        innocent: whether the gate fails for something else, as far as is known, so that no fact may be set aside.
    """

    found: tuple[Culprit, ...]
    trials: int
    why: str = ""
    innocent: bool = False

    @property
    def ids(self) -> list[str]:
        """The ids of the facts to blame."""
        return [culprit.correction for culprit in self.found]


def find_culprits(
    harm: Harm, bench: Bench, subjects: Subjects, *, screened: Mapping[str, Screened], enough: float, budget: int
) -> Culprits:
    """Find the new facts that are to blame for a failed gate.

    Args:
        harm: what fails.
        bench: where trials are made.
        subjects: all facts of the patch, by subject.
        screened: what is known of each subject without a trial.
        enough: a value whose loss is below this says its targets.
        budget: trials, at most.
    """
    ids = asked_about(subjects)
    made: dict[frozenset[str], Trial] = {frozenset(): Trial()}

    def trial(names: frozenset[str]) -> Trial:
        if names not in made:
            corrections = frozenset(id for name in names for id in ids[name])
            made[names] = bench.without(names | alone(corrections, subjects), corrections=corrections)
        return made[names]

    found = search(
        [name for name in _suspects(screened, subjects) if harm.new.intersection(ids[name])],
        gain=lambda names: harm.gain(trial(names)),
        passes=lambda names: harm.passes(trial(names), also=harm.unsaid(trial(names))),
        budget=max(budget - 1, 0),  # one is kept for the last question
    )
    harmful = [
        _harmful(id, name, harm=harm, trial=_proof(name, found, made), found=found, screened=screened[name])
        for name in found.culprits
        for id in ids[name]
        if id in harm.new
    ]
    left = harm.unsaid(made[frozenset(found.culprits)])
    about = {id: name for name, own in ids.items() for id in own}
    unsaid = [
        _unsaid(id, metrics, harm=harm, screened=screened[about[id]], enough=enough) for id, metrics in left.items()
    ]
    if culprits := (*harmful, *unsaid):
        return Culprits(found=culprits, trials=found.trials)
    if not budget:
        return Culprits(found=(), trials=0, why=SPENT, innocent=True)
    everyone = frozenset(name for name, own in ids.items() if harm.new.intersection(own))
    innocent = not harm.passes(trial(everyone))
    trials = len(made) - 1
    return Culprits(found=(), trials=trials, why=ELSEWHERE if innocent else _nobody(trials), innocent=innocent)


def blame(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    batch: Batch,
    values: Mapping[str, Value],
    harm: Harm,
    config: Joint,
    material: Material,
    held_text: Sequence[Sequence[int]],
    budget: int,
) -> Culprits:
    """Screen the facts of a batch, and find those that are to blame for a failed gate.

    Args:
        model: the base; its weights are as before afterwards.
        tokenizer: its own.
        batch: the facts of the patch.
        values: of their subjects, as the patch was solved with them.
        harm: what fails.
        config: the editor's settings.
        material: of the base.
        held_text: token rows for perplexity.
        budget: trials, at most.
    """
    facts = facts_of(batch.facts)
    subjects = by_subject(facts)
    sites = solved_sites(model, values, config=config, material=material)
    failing = {name: sum(len(harm.own(id)) for id in owners(own)) for name, own in subjects.items()}
    screened = screen(
        model,
        tokenizer,
        subjects,
        values=values,
        sites=sites,
        failing=failing,
        config=config,
        material=material,
    )
    bench = Bench.of(
        model,
        tokenizer,
        base=material.base,
        sites=sites,
        subjects=sorted(subjects),
        harm=harm,
        facts=facts,
        held_text=held_text,
    )
    return find_culprits(harm, bench, subjects, screened=screened, enough=config.values.enough, budget=budget)


def _suspects(screened: Mapping[str, Screened], subjects: Subjects) -> list[str]:
    """The subjects of corrections, the most suspicious first; a companion's falls on its correction's."""
    mains = {id: name for name, ids in asked_about(subjects).items() for id in ids}
    ranked = (mains[id] for name in by_suspicion(screened) for id in sorted(owners(subjects[name])))
    return list(dict.fromkeys(ranked))


def _proof(name: str, found: Found, made: Mapping[frozenset[str], Trial]) -> Trial:
    """The trial that shows what one does: that without it, or without the group that it is part of."""
    return made[frozenset(found.culprits if name in found.together else {name})]


def _harmful(id: str, name: str, *, harm: Harm, trial: Trial, found: Found, screened: Screened) -> Culprit:
    mended = harm.mended(trial)
    others = [other for other in found.together if other != name] if name in found.together else []
    company = f"together with {', '.join(map(repr, others))} " if others else ""
    share = f"{len(mended)} of the {len(harm.places)} prompts that fail"
    does = (
        f"takes the answers of {_counted(mended)}: without it they are right again ({share})"
        if mended
        else "makes ordinary text less likely"
    )
    reason = company + does
    measured = {"mended": len(mended), "gain": harm.gain(trial), "together_with": others}
    return Culprit(correction=id, reason=reason, measured=_measured(harm, screened) | measured)


def _unsaid(id: str, metrics: Sequence[str], *, harm: Harm, screened: Screened, enough: float) -> Culprit:
    ways = ", ".join(metric.partition(".")[2] for metric in metrics if metric.startswith("efficacy."))
    others = ", ".join(metric for metric in metrics if not metric.startswith("efficacy."))
    parts = [
        f"is not said after the edit ({ways})" if ways else "",
        f"fails in {others}" if others else "",
        f"its value ends with a loss of {screened.loss:.2f}, and {enough:g} would do" if screened.loss > enough else "",
        *(f"{answer.prompt!r} is answered {answer.after.text!r}" for answer in harm.own(id)[:1]),
    ]
    reason = "; ".join(part for part in parts if part)
    return Culprit(correction=id, reason=reason, measured=_measured(harm, screened) | {"missed": list(metrics)})


def _measured(harm: Harm, screened: Screened) -> dict[str, Any]:
    bounds = [bound.metric for bound in harm.bounds]
    return {"bounds": bounds, "failing": len(harm.places), "screen": screened.model_dump(mode="json")}


def _counted(answers: Collection[Answer]) -> str:
    """Answers in words: those of neighbours and protected facts, and the other facts that are asked about."""
    kinds = Counter(answer.kind for answer in answers if answer.kind in OF_OTHERS)
    facts = len({answer.correction for answer in answers if answer.kind not in OF_OTHERS})
    words = [f"{count} {KINDS[kind][count > 1]}" for kind, count in sorted(kinds.items())]
    words += [f"{facts} other {'facts' if facts > 1 else 'fact'}"] if facts else []
    return " and ".join(words)


def _nobody(trials: int) -> str:
    return f"in {trials} trials no single one of them, and no group, was found to do the harm"


@task(name="find culprits", **WHILE_AWAY, cache_policy=NO_CACHE)
def culprits_task(base: Base, batch: Batch, edit: Edit, report: Report, policy: Policy, *, budget: int) -> Culprits:
    """Find the new facts that are to blame for a failed gate; the log says how many trials it took."""
    harm = Harm(report=report, policy=policy, new=frozenset(c.id for c in batch.new))
    if not harm.bounds:
        return Culprits(found=(), trials=0, why=NOBODY)
    found = _find(base, batch, edit, harm, budget=budget, settings=Settings())
    get_run_logger().info(
        "%d of %d new facts are to blame, by %d trials of at most %d%s",
        *(len(found.found), len(batch.new), found.trials, budget),
        "".join(f"; {culprit.correction} {culprit.reason}" for culprit in found.found),
    )
    return found


def _find(base: Base, batch: Batch, edit: Edit, harm: Harm, *, budget: int, settings: Settings) -> Culprits:
    """Bring the edit back as it was solved, and look at it."""
    config, ingredients = editor_of(settings), edit.ingredients
    subjects = by_subject(facts_of(batch.facts))
    configs = configs_of(subjects, batch, config)
    recipes = recipes_of(subjects, base=base, ingredients=ingredients, configs=configs)
    files = kept_values(base, settings=settings, store=Store(settings)).find(recipes)
    return blame(
        *load_model(base.folder, device=settings.device),
        batch=batch,
        values={subject: Value.load(file.path, expected=file.sha256) for subject, file in files.items()},
        harm=harm,
        config=config,
        material=material_of(base, ingredients),
        held_text=json.loads(ingredients.held.read()),
        budget=budget,
    )
