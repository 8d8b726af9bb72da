"""Which corrections cannot hold together: duplicates, contradictions, and supersessions that name the wrong one.

Two corrections speak of the same thing when they share a name (subject or alias, normalised) and the relation. They
agree when their normalised targets are equal. Unless both call the relation multi-valued, a different target is a
contradiction: inside a batch everyone involved is refused, since none has precedence; an active fact gives way only to
the correction that supersedes it. All of it is one pass over the batch, so that a hundred thousand take seconds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from tasks.corrections import Correction, normalised

NAMED = 3

Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflicts:
    """What one correction collides with: ids as a person reads them; None where there is nothing.

    Attributes:
        duplicate_of: an earlier one in the batch that says the same.
        contradicts: others in the batch that say something else.
        repeats_active: an active one that says the same.
        contradicts_protected: protected facts that say something else.
        contradicts_active: active ones that say something else, and are not superseded.
        wrong_supersedes: what is wrong with the id that it supersedes.
    """

    duplicate_of: str | None
    contradicts: str | None
    repeats_active: str | None
    contradicts_protected: str | None
    contradicts_active: str | None
    wrong_supersedes: str | None


def find_conflicts(
    batch: Sequence[Correction], active: Sequence[Correction], protected: Sequence[Correction] = ()
) -> list[Conflicts]:
    """Return what each correction of a batch collides with: in the batch, among the active and the protected ones."""
    claims, standing, guarded = _claims(batch), _claims(active), _claims(protected)
    by_id = {correction.id: correction for correction in active}
    taken: dict[str, str] = {}
    return [
        Conflicts(
            duplicate_of=_first(_same(correction, claims), before=correction.id),
            contradicts=_named(_others(correction, claims)),
            repeats_active=_named(_unless_superseded(correction, _same(correction, standing))),
            contradicts_protected=_named(_others(correction, guarded)),
            contradicts_active=_named(_unless_superseded(correction, _others(correction, standing))),
            wrong_supersedes=_wrong_supersedes(correction, by_id, taken),
        )
        for correction in batch
    ]


@dataclass(slots=True)
class _Claim:
    """What is said about one subject in one relation: ids by normalised target, apart those that allow no other."""

    every: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))
    single: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))


def _claims(corrections: Iterable[Correction]) -> dict[Key, _Claim]:
    claims: dict[Key, _Claim] = defaultdict(_Claim)
    for correction in corrections:
        target = normalised(correction.target)
        for key in _keys(correction):
            claims[key].every[target][correction.id] = None
            if not correction.multi_valued:
                claims[key].single[target][correction.id] = None
    return claims


def _names(correction: Correction) -> set[str]:
    return {normalised(name) for name in (correction.subject, *correction.aliases)}


def _keys(correction: Correction) -> list[Key]:
    return [(name, correction.relation) for name in sorted(_names(correction))]


def _same(correction: Correction, claims: Mapping[Key, _Claim]) -> Iterator[str]:
    target = normalised(correction.target)
    found = (claims[key].every.get(target, {}) for key in _keys(correction) if key in claims)
    return chain.from_iterable(found)


def _others(correction: Correction, claims: Mapping[Key, _Claim]) -> Iterator[str]:
    target = normalised(correction.target)
    for key in _keys(correction):
        if claim := claims.get(key):
            targets = claim.single if correction.multi_valued else claim.every
            yield from chain.from_iterable(ids for other, ids in targets.items() if other != target)


def _unless_superseded(correction: Correction, ids: Iterable[str]) -> Iterator[str]:
    return (other for other in ids if other not in (correction.id, correction.supersedes))


def _first(ids: Iterator[str], *, before: str) -> str | None:
    first = next(ids, before)
    return first if first != before else None


def _named(ids: Iterator[str]) -> str | None:
    """Return a few ids as a person reads them; without counting, since there may be a hundred thousand."""
    some = list(dict.fromkeys(islice(ids, NAMED + 1)))
    if not some:
        return None
    return ", ".join(some[:NAMED]) + (" and others" if len(some) > NAMED else "")


def _wrong_supersedes(correction: Correction, active: Mapping[str, Correction], taken: dict[str, str]) -> str | None:
    old = correction.supersedes
    if old is None:
        return None
    if old not in active:
        return f"{old!r}, which is not active; only an active correction can be superseded"
    if _names(correction).isdisjoint(_names(active[old])):
        return f"{old!r}, which is about {active[old].subject!r}; name the one that this replaces"
    if (first := taken.setdefault(old, correction.id)) != correction.id:
        return f"{old!r}, as {first} in this batch does; only one can replace it"
    return None
