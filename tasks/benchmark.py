"""Benchmark: a method on published records and a base, as one JSON object and a picture.

Unlike a candidate's report it holds clock times and memory: it says what an edit costs, not what may be released.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from editors.atomic import write_atomically
from editors.benchmark import BenchmarkReport, Plan, Round, run
from editors.decoding import Progress
from editors.digests import canonical_json, sha256_file
from editors.metrics import HOWS, SCORE, How
from editors.models import load_model, weights_digest
from editors.preparing import Prepared, Recipe
from editors.records import read_records
from editors.registry import EDITORS, Config
from tasks.base import Report, base_folder, editor_of
from tasks.edit import EDITOR
from tasks.machine import machine, peak_memory
from tasks.material import prepared_here, recipe_of
from tasks.settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from editors.facts import Fact
    from editors.joint import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to benchmark.

    Attributes:
        data: a file of records.
        method: a name of EDITORS, at its defaults; `joint` at the layers at which releases of the base are made.
        limit: how many records; all where it is None.
        rounds: into how many parts they are divided.
        sequential: edit each part into the edited model.
        asked: ask about at most so many of the records, evenly spread; about all where it is None.
    """

    data: Path
    method: str
    limit: int | None = None
    rounds: int = 1
    sequential: bool = False
    asked: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedBase:
    """A base that is loaded, with the material for a method and how that was made."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    recipe: Recipe
    prepared: Prepared

    def run(
        self,
        plan: Plan,
        config: Config,
        *,
        sequential: bool = False,
        values: Mapping[tuple[Fact, ...], Value] | None = None,
        progress: Progress,
    ) -> BenchmarkReport:
        """Edit a plan's records in, and ask about them; see `editors.benchmark.run`."""
        return run(
            self.model,
            self.tokenizer,
            plan,
            config=config,
            material=self.prepared.material,
            held=self.prepared.held,
            sequential=sequential,
            values=values,
            progress=progress,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """What was found, and everything that it depends on."""

    report: BenchmarkReport
    setting: dict[str, Any]
    memory: dict[str, int]

    def to_json(self) -> bytes:
        """The benchmark as canonical JSON."""
        return canonical_json({**asdict(self.report), "setting": self.setting, "peak_memory_bytes": self.memory})


def benchmark(
    request: Request, *, settings: Settings, progress: Progress, report: Report = lambda line: None
) -> Benchmark:
    """Edit records into the base that the settings name with one method, and measure.

    Args:
        request: what to benchmark.
        settings: base, device, seed and texts; and where the base's second moments, contexts and text are kept.
        progress: told of everything that takes long.
        report: called with a line for what brings the base to this machine.

    Raises:
        BaseModelError: there is no such base.
        RecordFileError: the data can't be read.
        InvalidConfigError: the records can't be divided into as many rounds; nothing has been loaded yet.
        EditorError: whatever the model or the method refuses.
    """
    records = read_records(request.data, limit=request.limit)
    plan = Plan.of(records, rounds=request.rounds, asked=request.asked)
    config = editor_of(settings) if request.method == EDITOR else EDITORS[request.method].config()
    folder = base_folder(settings, report=report)
    base = prepared_base(folder, config, settings=settings, progress=progress)
    found = base.run(plan, config, sequential=request.sequential, progress=progress)
    setting = {
        **asdict(request),
        "data": request.data.name,
        "model": folder.name,
        "data_sha256": sha256_file(request.data),
        "config": asdict(cast(Any, config)),
        "material": base.recipe.to_record(),
        "machine": machine(base.model.device),
    }
    return Benchmark(report=found, setting=setting, memory=peak_memory(base.model.device))


def prepared_base(folder: Path, config: Config, *, settings: Settings, progress: Progress) -> PreparedBase:
    """Load a base, and make what a method needs beside its weights, or find it on this machine.

    Args:
        folder: with the base.
        config: of the method.
        settings: device, seed and texts; and where what is made is kept.
        progress: told of everything that takes long.

    Raises:
        EditorError: the folder holds no readable model, or one that the method can't edit.
    """
    model, tokenizer = load_model(folder, device=settings.device)
    recipe = recipe_of(config, base=weights_digest(folder), settings=settings)
    prepared = prepared_here(recipe, lambda: (model, tokenizer), settings=settings, progress=progress)
    return PreparedBase(model=model, tokenizer=tokenizer, recipe=recipe, prepared=prepared)


def write(found: Benchmark, out: Path) -> list[Path]:
    """Write the report, and beside it a picture where there are several rounds; returns what was written."""
    write_atomically(out, found.to_json())
    if len(found.report.rounds) < 2:
        return [out]
    picture = out.with_suffix(".png")
    how = "each round edits the edited model" if found.setting["sequential"] else "each round edits the base"
    draw({how: found.report}, title=f"{found.setting['method']} on {found.setting['data']}").savefig(picture, dpi=150)
    return [out, picture]


def draw(reports: Mapping[str, BenchmarkReport], *, title: str) -> Figure:
    """Draw score, in its three ways, perplexity and KL over the facts edited in so far, a line for each report.

    Args:
        reports: of one base, by what tells them apart.
        title: what they have in common.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * (len(HOWS) + 2), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    *scores, texts, moved = figure.subplots(1, len(HOWS) + 2)
    for name, report in reports.items():
        facts = [each.facts for each in report.rounds]
        for axes, how in zip(scores, HOWS, strict=True):
            axes.plot(facts, [percent(each, how) for each in report.rounds], marker="o", label=name)
            axes.set(xlabel="facts", ylabel=f"score by {how}", ylim=(0, 100))
        texts.plot(facts, [each.text.value for each in report.rounds], marker="o", label=name)
        moved.plot(facts, [each.drift.median for each in report.rounds], marker="o", label=name)
    unedited = next(iter(reports.values())).unedited.value
    texts.axhline(unedited, color="grey", linestyle="--", label="unedited")
    texts.set(xlabel="facts", ylabel="perplexity")
    texts.legend()
    moved.set(xlabel="facts", ylabel="KL at neighbours, median, nats")
    figure.suptitle(title)
    return figure


def percent(each: Round, how: How) -> float:
    """Return a round's score in per cent; NaN where it could not be asked that way."""
    edited = each.metric(SCORE, how).edited
    return math.nan if edited is None else 100 * edited.value
