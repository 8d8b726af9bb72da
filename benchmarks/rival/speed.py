"""Seconds of v* a fact on both sides, and how like the vectors are."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.rival.bench import Bench
from benchmarks.rival.counting import Counted, counted
from benchmarks.rival.jobs import HPARAMS, RivalValue
from benchmarks.rival.units import published_hparams
from editors.batch import by_subject
from editors.facts import Fact
from editors.joint import Joint, values_of
from editors.memit import Memit
from editors.tokens import opening
from editors.values import ValueSettings, optimise_injections

SAME = ValueSettings(steps=19, clamp=0.75, enough=0.05, ending="")
"""The published code stops at a loss of 0.05, and puts no full stop behind a target."""


def own_settings(bench: Bench, facts: Sequence[Fact]) -> dict[str, Any]:
    """Seconds of v* a fact: the published code at its own settings, ours at our defaults."""
    folder = bench.cache / "own"
    for fact in facts:
        (folder / f"{fact.id}.npz").unlink(missing_ok=True)
    rival = bench.rival.values(facts, folder, console=bench.console)
    subjects, joint, memit = by_subject(facts), Joint(), Memit()
    given = bench.material(joint)
    ours = {
        "joint": counted(lambda: values_of(bench.model, bench.tokenizer, subjects, config=joint, material=given)),
        "memit": counted(
            lambda: optimise_injections(
                bench.model,
                bench.tokenizer,
                subjects,
                layers=memit.layers[-1:],
                contexts=bench.material(memit).contexts,
                settings=memit.values,
            )
        ),
    }
    return {"published": figures(rival)} | {name: ratio(each, rival) for name, each in ours.items()}


def same_maths(bench: Bench, facts: Sequence[Fact]) -> dict[str, Any]:
    """Seconds of v* a fact and how like the vectors are, with one optimisation on both sides."""
    model, tokenizer = bench.model, bench.tokenizer
    facts = [fact for own in by_subject(facts).values() for fact in own]
    layer, contexts = HPARAMS["layers"][-1], bench.prepared.material.contexts
    told = partial(published_hparams, model, tokenizer, layer=layer, contexts=contexts, settings=SAME)
    folder = bench.cache / "same"
    shutil.rmtree(folder, ignore_errors=True)
    rival = bench.rival.values(
        facts,
        folder,
        console=bench.console,
        hparams={fact.id: told(fact) for fact in facts},
        contexts=contexts,
        front=opening(tokenizer),
    )
    ours = counted(
        lambda: optimise_injections(
            model, tokenizer, by_subject(facts), layers=[layer], contexts=contexts, settings=SAME
        )
    )
    theirs = torch.stack([value.injection for value in rival])
    cosines = torch.nn.functional.cosine_similarity(ours.found[:, 0], theirs, dim=1)
    return {
        "published": figures(rival),
        "ours": ratio(ours, rival),
        "cosine": {"least": float(cosines.min()), "median": float(cosines.median())},
    }


def figures(values: Sequence[RivalValue]) -> dict[str, float]:
    """Of one fact, on average."""
    return {
        "seconds": sum(value.seconds for value in values) / len(values),
        "processor seconds": sum(value.processor for value in values) / len(values),
        "steps run": sum(value.steps for value in values) / len(values),
        "facts": len(values),
    }


def ratio(ours: Counted, rival: Sequence[RivalValue]) -> dict[str, float]:
    """Of one fact, on average, and how many times faster that is than the published code."""
    theirs, count = figures(rival), len(rival)
    return {
        "reached": count * theirs["seconds"] / ours.seconds,
        "reached in processor time": count * theirs["processor seconds"] / ours.processor,
        "seconds": ours.seconds / count,
        "processor seconds": ours.processor / count,
        "steps run": ours.steps / count,
    }
