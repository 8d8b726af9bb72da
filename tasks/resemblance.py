"""What may be the same though it is not written so: a subject under two names, and a target that is claimed twice.

Nothing is refused for it: a name like another may be another's, and a person may lead two companies. Names look alike
when they differ in case, accents, marks, spaces or a leading article only, or when somebody lists both for one subject.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from tasks.conflicts import names_of
from tasks.corrections import Correction
from tasks.texts import normalised

ARTICLE = re.compile(r"^(the|an?) ")
# Not all marks: C, C# and C++ are three.
MARKS = re.compile("[\\s.,:;!?'\"()´`·‘’“”\\-‐-―]+")

Root = str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resemblance:
    """What one correction may collide with; None where there is nothing.

    Attributes:
        probably_same: another one that says something else in the relation, of what is probably the same subject.
        claimed_twice: another one that says the same of another subject, though an inverse allows for one.
    """

    probably_same: str | None
    claimed_twice: str | None


def find_resemblances(batch: Sequence[Correction], others: Sequence[Correction]) -> list[Resemblance]:
    """Return what each correction of a batch may collide with, in the batch and among others."""
    every = [*batch, *others]
    roots = _roots(every)
    said, claimed = _said(every, roots), _claimed(every, roots)
    return [
        Resemblance(
            probably_same=None if correction.multi_valued else _probably_same(correction, roots, said),
            claimed_twice=_claimed_twice(correction, roots, claimed),
        )
        for correction in batch
    ]


def loosened(name: str) -> str:
    """Return a name without what two spellings of it may differ in."""
    letters = unicodedata.normalize("NFKD", normalised(name))
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return MARKS.sub("", ARTICLE.sub("", plain)) or plain


@dataclass(slots=True)
class _Claim:
    """Who says one thing in one relation: an id by the subject's root, apart those whose inverse says it too."""

    every: dict[Root, str] = field(default_factory=dict)
    inverse: dict[Root, str] = field(default_factory=dict)


def _roots(corrections: Iterable[Correction]) -> Mapping[str, Root]:
    """Return one name for all loosened names that somebody calls one subject by."""
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        parents.setdefault(name, name)
        while parents[name] != name:
            parents[name] = name = parents[parents[name]]
        return name

    for correction in corrections:
        first = root(loosened(correction.subject))
        for alias in correction.aliases:
            parents[root(loosened(alias))] = first
    return {name: root(name) for name in list(parents)}


def _said(
    corrections: Iterable[Correction], roots: Mapping[str, Root]
) -> Mapping[tuple[Root, str], Mapping[str, Mapping[str, Correction]]]:
    """What is said of each root in each relation: by the subject as written, then by target."""
    said: dict[tuple[Root, str], dict[str, dict[str, Correction]]] = defaultdict(lambda: defaultdict(dict))
    for correction in corrections:
        of_subject = said[_root(correction, roots), correction.relation][normalised(correction.subject)]
        of_subject.setdefault(normalised(correction.target), correction)
    return said


def _claimed(corrections: Iterable[Correction], roots: Mapping[str, Root]) -> Mapping[tuple[str, str], _Claim]:
    claimed: dict[tuple[str, str], _Claim] = defaultdict(_Claim)
    for correction in corrections:
        claim = claimed[correction.relation, normalised(correction.target)]
        claim.every.setdefault(_root(correction, roots), correction.id)
        if correction.inverse:
            claim.inverse.setdefault(_root(correction, roots), correction.id)
    return claimed


def _root(correction: Correction, roots: Mapping[str, Root]) -> Root:
    return roots[loosened(correction.subject)]


def _probably_same(
    correction: Correction,
    roots: Mapping[str, Root],
    said: Mapping[tuple[Root, str], Mapping[str, Mapping[str, Correction]]],
) -> str | None:
    names, target = names_of(correction), normalised(correction.target)
    alike = said[_root(correction, roots), correction.relation]
    candidates = chain.from_iterable(own.items() for name, own in alike.items() if name not in names)
    for says, other in candidates:
        if says != target and other.id != correction.supersedes and names.isdisjoint(names_of(other)):
            return f"{other.id}, which calls it {other.subject!r}"
    return None


def _claimed_twice(
    correction: Correction, roots: Mapping[str, Root], claimed: Mapping[tuple[str, str], _Claim]
) -> str | None:
    """Somebody whose inverse this contradicts, or who contradicts this one's inverse."""
    claim, own = claimed[correction.relation, normalised(correction.target)], _root(correction, roots)
    others = claim.every if correction.inverse else claim.inverse
    return next((key for root, key in others.items() if root != own and key != correction.supersedes), None)
