"""Values of `joint`, kept as they are optimised: what was interrupted goes on, and larger batches begin with smaller.

Each subject's value is one file under the digest of all that it depends on, beside a record of its sha256 and of
what it took.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.ground import timed
from editors.atomic import write_atomically
from editors.batch import by_subject
from editors.decoding import Progress
from editors.digests import canonical_json, digest_of
from editors.facts import Fact
from editors.joint import Joint, Value, values_of
from tasks.benchmark import PreparedBase
from tasks.machine import peak_memory
from tasks.values import recipe_of

PORTION = 64
"""Subjects that are optimised, then kept, at a time."""

Facts = tuple[Fact, ...]


class Cost(NamedTuple):
    """Seconds of the optimisation, and the high-water mark of the process that did it, in bytes."""

    seconds: float
    peak: int


class StoredValues:
    """The values of one base and one config in a folder."""

    def __init__(self, folder: Path, base: PreparedBase, config: Joint) -> None:
        self._folder = folder
        self._base = base
        self._config = config

    def of(self, facts: Sequence[Fact], *, progress: Progress) -> dict[Facts, Value]:
        """Return the value of each subject by its facts; what is not kept yet is optimised.

        Raises:
            DamagedArtifactError: a file is not as it was written.
        """
        subjects = {subject: tuple(own) for subject, own in by_subject(facts).items()}
        missing = [subject for subject, own in subjects.items() if not self._record(own).is_file()]
        for first in range(0, len(missing), PORTION):
            progress("values to keep", first, len(missing))
            self._optimise({subject: subjects[subject] for subject in missing[first : first + PORTION]}, progress)
        return {own: self._load(own) for own in subjects.values()}

    def count(self, facts: Sequence[Fact]) -> int:
        """Return how many of the subjects' values are kept."""
        return sum(self._record(tuple(own)).is_file() for own in by_subject(facts).values())

    def cost(self, facts: Sequence[Fact]) -> Cost:
        """Return what it took, once, to optimise the values of some facts."""
        records = [self._read(tuple(own)) for own in by_subject(facts).values()]
        return Cost(seconds=sum(each["seconds"] for each in records), peak=max(each["peak"] for each in records))

    def _optimise(self, subjects: Mapping[str, Facts], progress: Progress) -> None:
        base = self._base
        seconds, values = timed(
            lambda: values_of(
                base.model,
                base.tokenizer,
                subjects,
                config=self._config,
                material=base.prepared.material,
                progress=progress,
            )
        )
        for subject, facts in subjects.items():
            record = self._record(facts)
            sha256 = write_atomically(record.with_suffix(".value"), values[subject].to_bytes())
            cost = {"seconds": seconds / len(subjects), "peak": peak_memory(base.model.device)["process"]}
            write_atomically(record, canonical_json({"sha256": sha256, **cost}))

    def _load(self, facts: Facts) -> Value:
        return Value.load(self._record(facts).with_suffix(".value"), expected=self._read(facts)["sha256"])

    def _read(self, facts: Facts) -> dict[str, Any]:
        return json.loads(self._record(facts).read_text(encoding="utf-8"))

    def _record(self, facts: Facts) -> Path:
        contexts = digest_of(list(self._base.prepared.material.contexts))
        recipe = recipe_of(facts, base=self._base.recipe.base, contexts=contexts, config=self._config)
        return self._folder / f"{recipe}.json"
