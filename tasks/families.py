"""Families: a correction has subjects of its own, and its companions' beside; which of them go when it is left out."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from editors.batch import Subjects
from editors.facts import Fact
from tasks.companions import owner_of


def owners(facts: Iterable[Fact]) -> frozenset[str]:
    """Return the corrections that some facts are edited in with."""
    return frozenset(owner_of(fact) for fact in facts)


def asked_about(subjects: Subjects) -> dict[str, list[str]]:
    """Return the corrections about each subject; one that is a companion's alone is left out."""
    found = {name: [fact.id for fact in facts if fact.id == owner_of(fact)] for name, facts in subjects.items()}
    return {name: ids for name, ids in found.items() if ids}


def alone(corrections: Collection[str], subjects: Subjects) -> frozenset[str]:
    """Return the subjects that only some corrections and their companions are about."""
    return frozenset(name for name, facts in subjects.items() if owners(facts) <= frozenset(corrections))
