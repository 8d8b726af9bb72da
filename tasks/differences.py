"""What is different between two versions: which facts, how they measured, and what they answer otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consuming.errors import UnknownVersionError
from consuming.objects import Objects
from consuming.settings import ConsumerSettings
from consuming.versions import resolve
from tasks.corrections import Correction, read_corrections
from tasks.report import Metric, Report, report_in
from tasks.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a version is made of, as far as it is compared."""

    candidate: str
    facts: Mapping[str, Correction]
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Otherwise:
    """A prompt that both were asked and that they answer in different words."""

    kind: str
    prompt: str
    one: str
    other: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What the other version has that the first one has not, and the reverse.

    Attributes:
        added, removed: facts, in the order of their ids.
        metrics: by name, of both; None where one did not measure it.
        answers: in the order of the other's report.
    """

    added: Sequence[Correction]
    removed: Sequence[Correction]
    metrics: Mapping[str, tuple[Metric | None, Metric | None]]
    answers: Sequence[Otherwise]


def content_of(name: str, *, settings: ConsumerSettings) -> Content:
    """Read a version from the object store.

    Args:
        name: the number of a release, `model@alias`, `model/number`, or a candidate's digest.
        settings: where the registry is.

    Raises:
        ReleaseError: there is none of that name, or it is no release.
    """
    objects = Objects(settings)
    digest = _released(int(name), Store(settings)) if name.isdecimal() else name
    version = resolve(digest, objects, candidate=False, settings=settings)
    facts = read_corrections(objects.get(version.manifest["corrections"]))
    stored = json.loads(objects.get(version.manifest["report"]))
    return Content(
        candidate=version.candidate,
        facts={fact.id: fact for fact in facts},
        report=report_in(stored, of=name),
    )


def difference(one: Content, other: Content) -> Difference:
    """Compare two versions."""
    names = [*one.report.metrics, *(name for name in other.report.metrics if name not in one.report.metrics)]
    return Difference(
        added=_only_in(other, one),
        removed=_only_in(one, other),
        metrics={name: (one.report.metrics.get(name), other.report.metrics.get(name)) for name in names},
        answers=_answered_otherwise(one.report, other.report),
    )


def _only_in(these: Content, those: Content) -> list[Correction]:
    return [these.facts[key] for key in sorted(these.facts.keys() - those.facts.keys())]


def _answered_otherwise(one: Report, other: Report) -> list[Otherwise]:
    said = {answer.prompt: answer.after.text for answer in one.answers}
    return [
        Otherwise(kind=answer.kind, prompt=answer.prompt, one=said[answer.prompt], other=answer.after.text)
        for answer in {answer.prompt: answer for answer in other.answers}.values()
        if said.get(answer.prompt, answer.after.text) != answer.after.text
    ]


def _released(position: int, store: Store) -> str:
    numbers: dict[int, str] = {}
    for record in store.records("releases/"):
        numbers[record["position"]] = record["candidate"]
    if position not in numbers:
        known = f"the newest is {max(numbers)}" if numbers else "nothing has been released"
        raise UnknownVersionError(f"there is no release {position}: {known}; see 'corrigenda releases'")
    return numbers[position]
