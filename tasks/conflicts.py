"""Which corrections cannot hold together: duplicates, contradictions, and supersessions that name the wrong one.

Two corrections speak of the same thing when they share a name (subject or alias, normalised) and the relation, or when
they ask the same: a prompt with one of the subject's names, a paraphrase, an inverse or a consequence. They agree when
their normalised targets are equal; what an inverse says may be any of the subject's names. Otherwise they are at odds,
unless both are multi-valued; a prompt that both would edit in can say one thing only, so that is no excuse there.
Inside a batch everyone involved is refused, since none has precedence; an active fact gives way only to the correction
that supersedes it. All of it is one pass over the batch, so that a hundred thousand take seconds. What only looks like
the same is found by `tasks/resemblance.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from tasks.corrections import Correction
from tasks.texts import PLACE, folded, normalised

NAMED = 3

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflicts:
    """What one correction collides with: ids as a person reads them; None where there is nothing.

    Attributes:
        duplicate_of: an earlier one in the batch that says the same.
        contradicts: others in the batch that say something else of the subject in the relation.
        disagrees: others in the batch that answer a question otherwise, and the question.
        repeats_active: an active one that says the same.
        contradicts_protected: protected facts that say something else.
        disagrees_protected: protected facts that answer a question otherwise, and the question.
        contradicts_active: active ones that say something else, and are not superseded.
        disagrees_active: active ones that answer a question otherwise, and are not superseded, and the question.
        wrong_supersedes: what is wrong with the id that it supersedes.
    """

    duplicate_of: str | None
    contradicts: str | None
    disagrees: str | None
    repeats_active: str | None
    contradicts_protected: str | None
    disagrees_protected: str | None
    contradicts_active: str | None
    disagrees_active: str | None
    wrong_supersedes: str | None

    @property
    def with_standing(self) -> str:
        """What holds or is protected, and says something else; empty where nothing does."""
        of_active, of_protected = self.contradicts_active, self.contradicts_protected
        return ", ".join(filter(None, (of_active, self.disagrees_active, of_protected, self.disagrees_protected)))


def find_conflicts(
    batch: Sequence[Correction], active: Sequence[Correction], protected: Sequence[Correction] = ()
) -> list[Conflicts]:
    """Return what each correction of a batch collides with: in the batch, among the active and the protected ones."""
    said = [_Said.by(correction) for correction in batch]
    claims, standing, guarded = _claims(said), _claims(map(_Said.by, active)), _claims(map(_Said.by, protected))
    by_id = {correction.id: correction for correction in active}
    taken: dict[str, str] = {}
    found: list[Conflicts] = []
    for correction, own_words in zip(batch, said, strict=True):
        own = {correction.id}
        outdone = own | {correction.supersedes or correction.id}
        contradicts, disagrees = _at_odds(own_words, claims, but=own)
        contradicts_active, disagrees_active = _at_odds(own_words, standing, but=outdone)
        contradicts_protected, disagrees_protected = _at_odds(own_words, guarded)
        found.append(
            Conflicts(
                duplicate_of=_first(_same(own_words, claims), before=correction.id),
                contradicts=contradicts,
                disagrees=disagrees,
                repeats_active=_named(_without(_same(own_words, standing), outdone)),
                contradicts_protected=contradicts_protected,
                disagrees_protected=disagrees_protected,
                contradicts_active=contradicts_active,
                disagrees_active=disagrees_active,
                wrong_supersedes=_wrong_supersedes(correction, by_id, taken),
            )
        )
    return found


def names_of(correction: Correction) -> set[str]:
    """Return the names of a correction's subject, normalised."""
    return {normalised(name) for name in (correction.subject, *correction.aliases)}


@dataclass(frozen=True, slots=True)
class _Statement:
    """One thing that a correction says.

    Attributes:
        key: what it speaks of: a subject in a relation, or a question.
        says: what it says there, and other names of that.
        several: whether others may say something else.
        question: as it was asked; empty for a subject in a relation.
    """

    key: Key
    says: tuple[str, ...]
    several: bool
    question: str = ""


@dataclass(frozen=True, slots=True)
class _Said:
    """All that one correction says: of its subject in its relation, and to questions."""

    id: str
    relations: Sequence[_Statement]
    questions: Sequence[_Statement]

    @classmethod
    def by(cls, correction: Correction) -> _Said:
        return cls(correction.id, _relations(correction), list(_questions(correction)))


@dataclass(slots=True)
class _Claim:
    """What is said on one key: ids by normalised target, apart those that allow no other."""

    every: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))
    single: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))


def _relations(correction: Correction) -> list[_Statement]:
    """What is said of the subject, under each of its names."""
    says = (normalised(correction.target),)
    keys = [("relation", name, correction.relation) for name in sorted(names_of(correction))]
    return [_Statement(key, says, correction.multi_valued) for key in keys]


def _questions(correction: Correction) -> Iterator[_Statement]:
    """What is said to each question."""
    says = (normalised(correction.target),)
    for name in dict.fromkeys((correction.subject, *correction.aliases)):
        question = correction.asked_of(name)
        key = folded(question)
        yield _Statement(("asked", key), says, correction.multi_valued, question)
        if correction.multi_valued:  # what is edited in says one thing even so
            yield _Statement(("edited", key), says, several=False, question=question)
    for question in correction.paraphrases:
        yield _Statement(("asked", folded(question)), says, correction.multi_valued, question)
    if inverse := correction.inverse:
        says = (normalised(inverse.target),)
        if says[0] in (names := names_of(correction)):
            says += tuple(sorted(names - {says[0]}))
        yield _Statement(("asked", folded(inverse.prompt)), says, several=False, question=inverse.prompt)
    for each in correction.consequences:
        question = each.prompt.replace(PLACE, each.subject)
        says = (normalised(each.target),)
        yield _Statement(("asked", folded(question)), says, several=False, question=question)


def _claims(said: Iterable[_Said]) -> dict[Key, _Claim]:
    claims: dict[Key, _Claim] = defaultdict(_Claim)
    for one in said:
        for statement in (*one.relations, *one.questions):
            claim = claims[statement.key]
            for target in statement.says:
                claim.every[target][one.id] = None
                if not statement.several:
                    claim.single[target][one.id] = None
    return claims


def _same(said: _Said, claims: Mapping[Key, _Claim]) -> Iterator[str]:
    found = (claims[each.key].every.get(each.says[0], {}) for each in said.relations if each.key in claims)
    return chain.from_iterable(found)


def _at_odds(said: _Said, claims: Mapping[Key, _Claim], *, but: Iterable[str] = ()) -> tuple[str | None, str | None]:
    """Who says something else of the subject; and only where nobody does, a question that is answered otherwise."""
    others = chain.from_iterable(_others(each, claims) for each in said.relations)
    if contradicted := _named(_without(others, but)):
        return contradicted, None
    for statement in said.questions:
        if ids := _named(_without(_others(statement, claims), but)):
            return None, f"{ids} at {statement.question!r}"
    return None, None


def _others(statement: _Statement, claims: Mapping[Key, _Claim]) -> Iterator[str]:
    claim = claims.get(statement.key)
    if claim is None:
        return
    agreeing = [claim.every[target] for target in statement.says if target in claim.every]
    for target, ids in (claim.single if statement.several else claim.every).items():
        if target not in statement.says:
            yield from (each for each in ids if not any(each in agreed for agreed in agreeing))


def _without(ids: Iterable[str], but: Iterable[str]) -> Iterator[str]:
    return (other for other in ids if other not in but)


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
    """What is superseded is about the same subject, or at odds in an inverse."""
    old = correction.supersedes
    if old is None:
        return None
    if old not in active:
        return f"{old!r}, which is not active; only an active correction can be superseded"
    at_odds = any(_at_odds(_Said.by(correction), _claims([_Said.by(active[old])])))
    if names_of(correction).isdisjoint(names_of(active[old])) and not at_odds:
        return f"{old!r}, which is about {active[old].subject!r}; name the one that this replaces"
    if (first := taken.setdefault(old, correction.id)) != correction.id:
        return f"{old!r}, as {first} in this batch does; only one can replace it"
    return None
