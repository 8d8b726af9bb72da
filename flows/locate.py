"""Locating from a terminal: where a fact is in the base, for one prompt or on average over facts that it knows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.decoding import Progress
from editors.models import load_model
from editors.recall import known_facts
from editors.roles import ROLES, average
from editors.tracing import Question, Tracing, trace
from tasks.base import base_folder
from tasks.draw import draw_average, draw_trace
from tasks.known_facts import read_facts
from tasks.settings import Settings
from tasks.traces import keep_average, keep_trace

STRONGEST = 5  # sites of each kind that are shown


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
            table.add_row(kind, str(layer), escape(marked), f"{float(effects[layer, token]):+.3f}")
    console.print(table)
    _where(console, out)


def locate_facts(console: Console, file: Path, *, limit: int, settings: Tracing, out: Path | None) -> None:
    """Average traces over the first facts of a file that the base knows; keep trace.json and trace.png in a folder."""
    facts = read_facts(file)
    model, tokenizer = _base(console)
    with console.status("asking") as status:
        told = _told(status.update)
        known = known_facts(model, tokenizer, facts, limit=limit, progress=told)
        questions = [Question(prompt=fact.filled, subject=fact.subject) for fact in known]
        found = average(trace(model, tokenizer, questions, settings=settings, progress=told), seed=settings.seed)
    if out:
        keep_average(out / "trace.json", found, settings)
        draw_average(out / "trace.png", found)
    console.print(_chances(f"{found.facts} known facts: P(answer)", found.clean, found.corrupted), highlight=False)
    table = Table("kind", "layer", "token", "facts", "mean indirect effect", "95 % interval")
    for kind, effects in found.effects.items():
        for role, layer in _strongest(effects.mean.nan_to_num(float("-inf"))):
            low, high = float(effects.low[role, layer]), float(effects.high[role, layer])
            mean, count = f"{float(effects.mean[role, layer]):+.3f}", str(found.counts[role])
            table.add_row(kind, str(layer), ROLES[role], count, mean, f"{low:+.3f} to {high:+.3f}")
    console.print(table)
    _where(console, out)


def _base(console: Console) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    settings = Settings()
    folder = base_folder(settings, report=lambda line: console.print(f"  {escape(line)}", highlight=False))
    return load_model(folder, device=settings.device)


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


def _where(console: Console, out: Path | None) -> None:
    if out:
        console.print(f"{escape(str(out / 'trace.json'))} and trace.png", highlight=False)
