"""Locating from a terminal: where a fact is in the base, for one prompt or on average over facts that it knows.

A suggestion asks the editor instead of the traces: which layer, written alone, serves the facts best.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.decoding import Progress
from editors.digests import sha256_file
from editors.joint import Joint
from editors.layouts import depth_of
from editors.models import load_model, weights_digest
from editors.recall import known_facts
from editors.records import read_records, without_contradictions
from editors.roles import ROLES, average, one_of_each
from editors.sweeping import Sweep, sweep
from editors.tracing import Question, Tracing, trace
from tasks.base import base_folder
from tasks.draw import draw_average, draw_trace
from tasks.known_facts import read_facts
from tasks.material import prepared_here, recipe_of
from tasks.settings import Settings
from tasks.sweeps import ROLE, MlpTrace, draw_sweep, keep_sweep, read_mlp_trace
from tasks.traces import keep_average, keep_trace

STRONGEST = 5  # sites of each kind that are shown
NEIGHBOURS = 4  # of each record that a sweep asks


def locate_prompt(console: Console, question: Question, *, settings: Tracing, out: Path | None) -> None:
    """Trace one prompt, show its strongest sites, and keep trace.json and trace.png in a folder."""
    model, tokenizer = _base(console)
    with console.status("tracing") as status:
        (found,) = trace(model, tokenizer, [question], settings=settings, progress=_told(status.update))
    if out:
        keep_trace(out / "trace.json", found, settings)
        draw_trace(out / "trace.png", found)
    console.print(_chances(f"P({found.answer.strip()})", found.clean, found.corrupted), highlight=False)
    table = Table("kind", "layer", "token", "indirect effect")
    for kind, effects in found.effects.items():
        for layer, token in _strongest(effects):
            marked = found.tokens[token] + ("*" if token in found.subject else "")
            table.add_row(kind, str(found.layers[layer]), escape(marked), f"{float(effects[layer, token]):+.3f}")
    console.print(table)
    _where(console, out, "trace")


def locate_facts(console: Console, file: Path, *, limit: int, settings: Tracing, out: Path | None) -> None:
    """Average traces over the first facts of a file that the base knows; keep trace.json and trace.png in a folder.

    Of each prompt one token in each role is traced.
    """
    facts = read_facts(file)
    model, tokenizer = _base(console)
    with console.status("asking") as status:
        told = _told(status.update)
        known = known_facts(model, tokenizer, facts, limit=limit, progress=told)
        questions = [Question(prompt=fact.filled, subject=fact.subject) for fact in known]
        traces = trace(model, tokenizer, questions, settings=settings, choose=one_of_each, progress=told)
        found = average(traces, seed=settings.seed)
    if out:
        keep_average(out / "trace.json", found, settings)
        draw_average(out / "trace.png", found)
    console.print(_chances(f"{found.facts} known facts: P(answer)", found.clean, found.corrupted), highlight=False)
    table = Table("kind", "layer", "token", "facts", "mean indirect effect", "95 % interval")
    for kind, effects in found.effects.items():
        for role, layer in _strongest(effects.mean.nan_to_num(float("-inf"))):
            low, high = float(effects.low[role, layer]), float(effects.high[role, layer])
            mean, count = f"{float(effects.mean[role, layer]):+.3f}", str(found.counts[role])
            table.add_row(kind, str(found.layers[layer]), ROLES[role], count, mean, f"{low:+.3f} to {high:+.3f}")
    console.print(table)
    _where(console, out, "trace")


def suggest_layers(
    console: Console, file: Path, *, limit: int, every: int, seed: int, traces: Path | None, out: Path | None
) -> None:
    """Rank layers by what an edit at each alone does, and show how far a trace foresaw it.

    It keeps suggest.json and suggest.png in a folder.
    """
    settings = Settings(seed=seed)
    records, _ = without_contradictions(read_records(file, limit=limit))
    asked = [dataclasses.replace(record, neighbours=record.neighbours[:NEIGHBOURS]) for record in records]
    folder = _folder(console, settings)
    model, tokenizer = load_model(folder, device=settings.device)
    layers = tuple(range(0, depth_of(model) - 1, every))  # nothing reads what the last layer writes at a subject
    mlp_trace = read_mlp_trace(traces, layers=layers) if traces else None
    config = Joint(layers=layers)
    recipe = recipe_of(config, base=weights_digest(folder), settings=settings)
    with console.status("preparing") as status:
        told = _told(status.update)
        prepared = prepared_here(recipe, lambda: (model, tokenizer), settings=settings, progress=told)
        found = sweep(model, tokenizer, asked, layers=layers, config=config, material=prepared.material, progress=told)
    setting = {"data": file.name, "data_sha256": sha256_file(file), "neighbours": NEIGHBOURS}
    setting |= {"config": dataclasses.asdict(config), "material": recipe.to_record()}
    if out:
        keep_sweep(out / "suggest.json", found, setting=setting, trace=mlp_trace)
        draw_sweep(out / "suggest.png", found, mlp_trace)
    _show_sweep(console, found, mlp_trace)
    _where(console, out, "suggest")


def _show_sweep(console: Console, found: Sweep, trace: MlpTrace | None) -> None:
    table = Table("layer", *found.unedited, "KL, median", "KL, 95th percentile", "MLP trace")
    for trial in found.ranked():
        kl = ["-" if value is None else f"{value:.4f}" for value in (trial.drift.median, trial.drift.p95)]
        effect = trace.effects.get(trial.layer) if trace else None
        shares = [f"{100 * share:.1f}" for share in trial.shares.values()]
        table.add_row(str(trial.layer), *shares, *kl, "-" if effect is None else f"{effect:+.3f}")
    table.add_section()
    table.add_row("unedited", *(f"{100 * share:.1f}" for share in found.unedited.values()), "0", "0", "")
    console.print(table)
    console.print(f"{found.facts} facts at once, {found.prompts} prompts after each edit", highlight=False)
    if trace:
        foretold = trace.foretells(found)
        over = f"over {foretold.layers} layers: {foretold.correlation:+.2f}"
        console.print(f"rank correlation of score and MLP trace at the {ROLE} {over}", highlight=False)
    console.print(
        "several layers share the work: try some around the best with CORRIGENDA_LAYERS='[...]' corrigenda benchmark",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _base(console: Console) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    settings = Settings()
    return load_model(_folder(console, settings), device=settings.device)


def _folder(console: Console, settings: Settings) -> Path:
    return base_folder(settings, report=lambda line: console.print(f"  {escape(line)}", highlight=False))


def _told(update: Callable[[str], object]) -> Progress:
    def progress(what: str, done: int, total: int) -> None:
        update(f"{what}: {done} of {total}")

    return progress


def _strongest(effects: Tensor) -> list[tuple[int, int]]:
    """The places of the largest numbers, as row and column."""
    places = effects.flatten().topk(min(STRONGEST, effects.numel())).indices.tolist()
    return [divmod(place, effects.shape[1]) for place in places]


def _chances(what: str, clean: float, corrupted: float) -> str:
    return f"{escape(what)} is {clean:.3f}, and {corrupted:.3f} with the subject hidden by noise"


def _where(console: Console, out: Path | None, name: str) -> None:
    if out:
        console.print(f"{escape(str(out / name))}.json and {name}.png", highlight=False)
