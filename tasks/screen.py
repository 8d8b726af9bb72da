"""Screen: what is known of each subject of an edit without a trial, and who is suspected first.

A subject is the unit of a value, so its facts share these numbers. They cost one pass over the facts and some algebra.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.batch import Subjects
from editors.collisions import closest
from editors.joint import Joint, Value
from editors.layouts import read_weight
from editors.leverage import SolvedSite
from editors.material import Material
from editors.values import losses
from tasks.report import Record

MEASURES = ("failing", "named", "loss", "size", "leverage", "collision", "disturbance")


class Screened(Record):
    """What is known of one subject without a trial.

    Attributes:
        failing: prompts about its facts that fail in the bounds that are missed.
        named: facts about other subjects whose prompts it stands in, as "president" may: its key is met there too.
        loss: what its value ends with.
        size: its injections, in lengths of what the sites write there without them.
        leverage: how much of what is written at its key is its own, at the site where that is most.
        collision: the largest cosine of its key with another subject's, at the site where that is largest.
        nearest: that subject.
        disturbance: the share of the patch's change at ordinary keys that goes without it, where that is most.
    """

    failing: int
    named: int
    loss: float
    size: float
    leverage: float
    collision: float
    nearest: str
    disturbance: float


def screen(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    subjects: Subjects,
    *,
    values: Mapping[str, Value],
    sites: Mapping[str, SolvedSite],
    failing: Mapping[str, int],
    config: Joint,
    material: Material,
) -> dict[str, Screened]:
    """Return what is known of each subject.

    Args:
        model: the base.
        tokenizer: its own.
        subjects: the facts of each.
        values: of each.
        sites: their solve, subjects sorted.
        failing: of each subject, how many prompts about it fail.
        config: the editor's settings.
        material: of the base.
    """
    names = sorted(subjects)
    injections = torch.stack([values[name].injections for name in names])
    keys = torch.stack([values[name].keys for name in names])
    written = torch.stack(
        [keys[:, place] @ read_weight(model, site).double().cpu().T for place, site in enumerate(sites)], dim=1
    )
    ends = losses(
        model,
        tokenizer,
        {name: subjects[name] for name in names},
        injections,
        layers=config.layers,
        contexts=material.contexts,
        settings=config.values,
    )
    sizes = injections.norm(dim=(1, 2)) / written.norm(dim=(1, 2))
    leverage = torch.stack([site.leverage() for site in sites.values()]).amax(0)
    disturbance = torch.stack([site.disturbance() for site in sites.values()]).amax(0)
    near = [closest(keys[:, place]) for place in range(len(sites))]
    cosines, at = torch.stack([cosine for cosine, _ in near]).max(0)
    return {
        name: Screened(
            failing=failing.get(name, 0),
            named=_named(name, subjects),
            loss=float(ends[place]),
            size=float(sizes[place]),
            leverage=float(leverage[place]),
            collision=float(cosines[place]),
            nearest=names[near[int(at[place])][1][place]] if len(names) > 1 else "",
            disturbance=float(disturbance[place]),
        )
        for place, name in enumerate(names)
    }


def by_suspicion(screened: Mapping[str, Screened]) -> list[str]:
    """The subjects, those first that lead in one of the measures; among equals, those that lead in more.

    Whoever shares a number with others does not lead them.
    """
    ranks: dict[str, list[int]] = {name: [] for name in screened}
    for measure in MEASURES:
        numbers = sorted(getattr(each, measure) for each in screened.values())
        for name, each in screened.items():
            ranks[name].append(len(numbers) - 1 - bisect_left(numbers, getattr(each, measure)))
    return sorted(ranks, key=lambda name: (min(ranks[name]), sum(ranks[name]), name))


def _named(name: str, subjects: Subjects) -> int:
    others = (fact for other, facts in subjects.items() if other != name for fact in facts)
    return sum(name.casefold() in fact.filled.casefold() for fact in others)
