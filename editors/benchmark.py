"""A benchmark of one method on one base: edit records in, ask about them, compare with the unedited model.

The records may come in rounds. "From the base", each round edits all records so far into the base, as this project
does it; with `joint`, a round optimises the values of its new facts alone, and solves for all. "Sequential", each
round edits the new records into the model that the rounds before left, with the second moments of the base, as the
literature calls lifelong editing. Afterwards the model is what it was, bit for bit.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors import joint
from editors.batch import by_subject
from editors.decoding import Progress
from editors.digests import digest_of
from editors.errors import InvalidConfigError
from editors.facts import Fact
from editors.joint import Joint, Value
from editors.material import Material
from editors.measuring import Measured, measure
from editors.metrics import Drift, Metric, drift, metrics
from editors.patch import Patch, applied
from editors.records import without_contradictions
from editors.registry import Config, edit
from editors.scoring import Perplexity
from editors.shapes import Record
from editors.stopwatch import Stopwatch

EVALUATION = "evaluation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which records are edited in which round, and which of them are asked about.

    Attributes:
        records: what is edited, in this order.
        ends: where each round ends, 0 first; the rounds differ by one record at most.
        asked: places of the records that are asked about, in ascending order, once they are edited in.
        left_out: records that contradict an earlier one, and how.
    """

    records: tuple[Record, ...]
    ends: tuple[int, ...]
    asked: tuple[int, ...]
    left_out: tuple[str, ...]

    @classmethod
    def of(cls, records: Sequence[Record], *, rounds: int = 1, asked: int | None = None) -> Plan:
        """Divide records into rounds.

        Args:
            records: what to edit and ask; one that contradicts an earlier one is left out.
            rounds: how many.
            asked: ask about at most so many of the records, evenly spread; about all where it is None.

        Raises:
            InvalidConfigError: there are fewer records than rounds, or none would be asked about.
        """
        kept, left_out = without_contradictions(records)
        if not 1 <= rounds <= len(kept):
            raise InvalidConfigError(
                f"{len(kept)} records can't be divided into {rounds} rounds; ask for 1 to {len(kept)}"
            )
        if asked is not None and asked < 1:
            raise InvalidConfigError(f"{asked} records can't be asked about; ask for 1 or more")
        step = 1 if asked is None else -(-len(kept) // asked)
        return cls(
            records=tuple(kept),
            ends=tuple(len(kept) * part // rounds for part in range(rounds + 1)),
            asked=tuple(range(0, len(kept), step)),
            left_out=tuple(left_out),
        )

    def asked_until(self, end: int) -> list[Record]:
        """Return the records that are asked about, of the first few."""
        return [self.records[place] for place in self.asked[: bisect_left(self.asked, end)]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round did to the model.

    Attributes:
        facts: edited in so far.
        new: facts that came with this round.
        asked: records that were asked about.
        patch: its digest.
        metrics: of the unedited and the edited model.
        text: perplexity of the edited model on the held rows.
        drift: from the unedited model at the neighbours.
        seconds: by stage of the edit, and of the evaluation.
    """

    facts: int
    new: int
    asked: int
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
        seconds: that asking the unedited model took.
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
    plan: Plan,
    *,
    config: Config,
    material: Material,
    held: Sequence[Sequence[int]],
    sequential: bool = False,
    values: Mapping[tuple[Fact, ...], Value] | None = None,
    progress: Progress | None = None,
) -> BenchmarkReport:
    """Edit records into a model, round by round, and measure it after each.

    Args:
        model: the base; it is given back as it was.
        tokenizer: its own.
        plan: what to edit and ask.
        config: the settings of a method in EDITORS.
        material: of the base.
        held: token rows for perplexity that nothing else was made from.
        sequential: edit each round into the edited model, instead of all rounds so far into the base.
        values: of `joint` on the base, by a subject's facts; those are not optimised again.
        progress: told of everything that takes long.

    Raises:
        EditorError: whatever the method refuses.
    """
    stopwatch = Stopwatch()
    with stopwatch.stage(EVALUATION):
        before = measure(model, tokenizer, plan.asked_until(len(plan.records)), held=held, progress=progress)
    known = dict(values or {})
    done: list[Round] = []
    with ExitStack() as patches:
        base = material.base
        for start, end in pairwise(plan.ends):
            facts = [record.fact for record in plan.records[start if sequential else 0 : end]]
            watch = Stopwatch()
            with watch.stages(progress) as told:
                if sequential:
                    now = dataclasses.replace(material, base=base)
                    patch = edit(model, tokenizer, facts, config=config, material=now, progress=told)
                else:
                    patches.close()
                    base = material.base
                    patch = _edit_again(
                        model, tokenizer, facts, config=config, material=material, known=known, progress=told
                    )
            patches.enter_context(applied(model, patch, base=base))
            base = digest_of([base, patch.digest])
            with watch.stage(EVALUATION):
                after = measure(model, tokenizer, plan.asked_until(end), held=held, progress=progress)
            done.append(_round(model, patch, before, after, facts=end, new=end - start, seconds=watch.seconds))
    return BenchmarkReport(
        unedited=before.text,
        seconds=stopwatch.seconds[EVALUATION],
        rounds=tuple(done),
        left_out=plan.left_out,
    )


def _edit_again(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    facts: Sequence[Fact],
    *,
    config: Config,
    material: Material,
    known: dict[tuple[Fact, ...], Value],
    progress: Progress,
) -> Patch:
    """Edit all facts into the base; values are optimised for subjects whose facts are others than before, and noted."""
    if not isinstance(config, Joint):
        return edit(model, tokenizer, facts, config=config, material=material, progress=progress)
    subjects = {subject: tuple(own) for subject, own in by_subject(facts).items()}
    missing = {subject: own for subject, own in subjects.items() if own not in known}
    found = joint.values_of(model, tokenizer, missing, config=config, material=material, progress=progress)
    known.update((missing[subject], value) for subject, value in found.items())
    values = {subject: known[own] for subject, own in subjects.items()}
    return joint.solve(model, values, config=config, material=material, progress=progress)


def _round(
    model: PreTrainedModel,
    patch: Patch,
    before: Measured,
    after: Measured,
    *,
    facts: int,
    new: int,
    seconds: Mapping[str, float],
) -> Round:
    asked = len(after.answers)
    before = before.first(asked)
    return Round(
        facts=facts,
        new=new,
        asked=asked,
        patch=patch.digest,
        metrics=tuple(metrics(before, after)),
        text=after.text,
        drift=drift(model, before, after),
        seconds=seconds,
    )
