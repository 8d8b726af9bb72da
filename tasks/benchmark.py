"""Benchmark: a method on published records and a base, as one JSON object and a picture.

Unlike a candidate's report it holds clock times and memory: it says what an edit costs, not what may be released.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from editors.artifacts import write_atomically
from editors.benchmark import BenchmarkReport, Plan, Round, run
from editors.decoding import Progress
from editors.digests import canonical_json, sha256_file
from editors.models import load_model, weights_digest
from editors.preparing import Recipe, kept_in, prepare
from editors.records import read_records
from editors.registry import EDITORS
from tasks.machine import machine, peak_memory

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to benchmark.

    Attributes:
        data: a file of records.
        method: a name of EDITORS; its settings are the method's own defaults.
        model: a folder with the base.
        limit: how many records; all where it is None.
        rounds: into how many parts they are divided.
        sequential: edit each part into the edited model.
        asked: ask about at most so many of the records, evenly spread; about all where it is None.
    """

    data: Path
    method: str
    model: Path
    limit: int | None = None
    rounds: int = 1
    sequential: bool = False
    asked: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """What was found, and everything that it depends on."""

    report: BenchmarkReport
    setting: dict[str, Any]
    memory: dict[str, int]

    def to_json(self) -> bytes:
        """The benchmark as canonical JSON."""
        return canonical_json({**asdict(self.report), "setting": self.setting, "peak_memory_bytes": self.memory})


def benchmark(request: Request, *, cache: Path, device: str, progress: Progress) -> Benchmark:
    """Edit records into a base with one method, and measure.

    Args:
        request: what to benchmark.
        cache: a folder in which the base's second moments, contexts and text are kept.
        device: auto, cpu or cuda.
        progress: told of everything that takes long.

    Raises:
        RecordFileError: the data can't be read.
        InvalidConfigError: the records can't be divided into as many rounds; nothing has been loaded yet.
        EditorError: whatever the model or the method refuses.
    """
    records = read_records(request.data, limit=request.limit)
    plan = Plan.of(records, rounds=request.rounds, asked=request.asked)
    model, tokenizer = load_model(request.model, device=device)
    config = EDITORS[request.method].config()
    recipe = Recipe.of(config, base=weights_digest(request.model))
    prepared = kept_in(cache, recipe, lambda wanted: prepare(model, tokenizer, wanted, progress=progress))
    report = run(
        model,
        tokenizer,
        plan,
        config=config,
        material=prepared.material,
        held=prepared.held,
        sequential=request.sequential,
        progress=progress,
    )
    setting = {
        **asdict(request),
        "data": request.data.name,
        "model": request.model.name,
        "data_sha256": sha256_file(request.data),
        "config": asdict(cast(Any, config)),
        "material": asdict(recipe),
        "machine": machine(model.device),
    }
    return Benchmark(report=report, setting=setting, memory=peak_memory(model.device))


def write(found: Benchmark, out: Path) -> list[Path]:
    """Write the report, and beside it a picture where there are several rounds; returns what was written."""
    write_atomically(out, found.to_json())
    if len(found.report.rounds) < 2:
        return [out]
    picture = out.with_suffix(".png")
    draw_rounds(found).savefig(picture, dpi=150)
    return [out, picture]


def draw_rounds(found: Benchmark) -> Figure:
    """Draw score, in the three ways, and perplexity over the facts edited in so far."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rounds = found.report.rounds
    facts = [each.facts for each in rounds]
    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    scores, texts = figure.subplots(1, 2)
    for how in ("logprob", "argmax", "generation"):
        values = [_edited(each, how) for each in rounds]
        if any(value is not None for value in values):
            scores.plot(facts, values, marker="o", label=how)
    scores.set(xlabel="facts", ylabel="score", ylim=(0, 100))
    scores.legend()
    texts.plot(facts, [each.text.value for each in rounds], marker="o", label="edited")
    texts.axhline(found.report.unedited.value, color="grey", linestyle="--", label="unedited")
    texts.set(xlabel="facts", ylabel="perplexity")
    texts.legend()
    how = "each round edits the edited model" if found.setting["sequential"] else "each round edits the base"
    figure.suptitle(f"{found.setting['method']} on {found.setting['data']}: {how}")
    return figure


def _edited(each: Round, how: str) -> float | None:
    edited = each.metric("score", how).edited
    return None if edited is None else 100 * edited.value
