"""A benchmark of one method on one base: edit records in, ask everything, compare with the unedited model.

The records may come in rounds. "From the base", each round edits all records so far into the base, as this project
does it. "Sequential", each round edits the new records into the model that the rounds before left, with the second
moments of the base, as the literature calls lifelong editing. Afterwards the model is what it was, bit for bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.decoding import Progress
from editors.digests import digest_of
from editors.errors import InvalidConfigError
from editors.material import Material
from editors.measuring import Measured, measure
from editors.metrics import Drift, Metric, drift, metrics
from editors.patch import Patch, applied
from editors.records import Record, without_contradictions
from editors.registry import Config, edit
from editors.scoring import Perplexity
from editors.stopwatch import Stopwatch

EVALUATION = "evaluation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round did to the model.

    Attributes:
        facts: edited in so far, all of which are asked.
        edited: by this round's own edit.
        patch: its digest.
        metrics: of the unedited and the edited model.
        text: perplexity of the edited model on the held rows.
        drift: from the unedited model at the neighbours.
        seconds: by stage of the edit, and of the evaluation of all facts so far.
    """

    facts: int
    edited: int
    patch: str
    metrics: tuple[Metric, ...]
    text: Perplexity
    drift: Drift
    seconds: Mapping[str, float]

    def metric(self, name: str, how: str) -> Metric:
        """Return one metric by its name and how it is measured."""
        return next(metric for metric in self.metrics if (metric.name, metric.how) == (name, how))


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkReport:
    """What a benchmark found.

    Attributes:
        unedited: perplexity of the unedited model on the held rows.
        seconds: that asking the unedited model about all records took.
        rounds: in their order; the last one holds all records.
        left_out: records that contradict an earlier one, and how.
    """

    unedited: Perplexity
    seconds: float
    rounds: tuple[Round, ...]
    left_out: tuple[str, ...]


def run(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    records: Sequence[Record],
    *,
    config: Config,
    material: Material,
    held: Sequence[Sequence[int]],
    rounds: int = 1,
    sequential: bool = False,
    progress: Progress | None = None,
) -> BenchmarkReport:
    """Edit records into a model, round by round, and measure it after each.

    Args:
        model: the base; it is given back as it was.
        tokenizer: its own.
        records: what to edit and ask; one that contradicts an earlier one is left out.
        config: the settings of a method in EDITORS.
        material: of the base.
        held: token rows for perplexity that nothing else was made from.
        rounds: into how many parts the records are divided, in their order.
        sequential: edit each part into the edited model, instead of all parts so far into the base.
        progress: told of everything that takes long.

    Raises:
        InvalidConfigError: there are fewer records than rounds.
        EditorError: whatever the method refuses.
    """
    kept, left_out = without_contradictions(records)
    stopwatch = Stopwatch()
    with stopwatch.stage(EVALUATION):
        before = measure(model, tokenizer, kept, held=held, progress=progress)
    done: list[Round] = []
    with ExitStack() as patches:
        base = material.base
        for start, end in pairwise(_ends(len(kept), rounds)):
            if not sequential:
                patches.close()
                start, base = 0, material.base
            facts = [record.fact for record in kept[start:end]]
            given = dataclasses.replace(material, base=base)
            watch = Stopwatch()
            with watch.stages(progress) as told:
                patch = edit(model, tokenizer, facts, config=config, material=given, progress=told)
            patches.enter_context(applied(model, patch, base=base))
            base = digest_of([base, patch.digest])
            with watch.stage(EVALUATION):
                after = measure(model, tokenizer, kept[:end], held=held, progress=progress)
            done.append(_round(model, patch, before.first(end), after, edited=len(facts), seconds=watch.seconds))
    return BenchmarkReport(
        unedited=before.text,
        seconds=stopwatch.seconds[EVALUATION],
        rounds=tuple(done),
        left_out=tuple(left_out),
    )


def _ends(records: int, rounds: int) -> list[int]:
    """Where the rounds end, 0 first: parts that differ by one record at most."""
    if not 1 <= rounds <= records:
        raise InvalidConfigError(f"{records} records can't be divided into {rounds} rounds; ask for 1 to {records}")
    return [records * part // rounds for part in range(rounds + 1)]


def _round(
    model: PreTrainedModel,
    patch: Patch,
    before: Measured,
    after: Measured,
    *,
    edited: int,
    seconds: Mapping[str, float],
) -> Round:
    return Round(
        facts=len(after.answers),
        edited=edited,
        patch=patch.digest,
        metrics=tuple(metrics(before, after)),
        text=after.text,
        drift=drift(model, before, after),
        seconds=seconds,
    )
