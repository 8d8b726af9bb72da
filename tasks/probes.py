"""Probes: what is asked of a model, made from the corrections themselves and from the facts that are protected.

A correction's own prompt is asked for efficacy, and for retention once it was released; so are the companions that are
edited in with it, apart: what was edited in says nothing of what follows by itself. Its paraphrases are asked for
generalization, its neighbours for specificity, what should follow for the inverse and for portability. A question that
is edited in somewhere in the batch is none of these. What a correction lacks is made (`tasks/made.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from editors.answers import starts_with
from editors.scoring import Probe
from tasks.companions import facts_of
from tasks.corrections import Correction, Neighbour
from tasks.made import MOST, by_relation, made_inverse, made_neighbours, made_paraphrases
from tasks.texts import folded, normalised

SHORT = 3
"""Names of up to so many characters are found in a prompt as words only: "US" is not in "Russia"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One probe, and what is known about it.

    Attributes:
        probe: what is asked, and by which right answer it is judged.
        relation: the correction's.
        subject: whom or what it is about.
        made: whether it was made, because the correction has none of its kind.
        given: what the base has to know for it to count; None where nothing.
    """

    probe: Probe
    relation: str
    subject: str
    made: bool = False
    given: Probe | None = None


def questions_of(
    new: Sequence[Correction],
    earlier: Sequence[Correction],
    *,
    withdrawn: Sequence[Correction] = (),
    protected: Sequence[Correction] = (),
) -> list[Question]:
    """Return all questions in a fixed order.

    Args:
        new: corrections that are new in a patch.
        earlier: those that were released before.
        withdrawn: those that were released before, and shall not be said any more.
        protected: facts that must stay as they are.
    """
    facts = facts_of((*new, *earlier))
    edited = {folded(fact.filled): normalised(fact.target) for fact in facts}
    relations = by_relation((*new, *earlier, *protected))
    following = (each for c in new for each in _following(c, relations[c.relation]))
    return [
        *(_own(c, "efficacy", c.filled_prompt) for c in new),
        *(each for c in new for each in _companions(c)),
        *(each for each in following if folded(each.probe.prompt) not in edited),
        *(each for c in earlier for each in (_own(c, "retention", c.filled_prompt), *_companions(c, kind="retention"))),
        *(each for c in withdrawn for each in _absent(c, edited)),
        *_neighbours((*new, *earlier, *withdrawn), relations, subjects={fact.subject for fact in facts}),
        *(_own(c, "protected", prompt) for c in protected for prompt in (c.filled_prompt, *c.paraphrases)),
    ]


def _own(correction: Correction, kind: str, prompt: str, *, made: bool = False) -> Question:
    probe = Probe(fact=correction.id, kind=kind, prompt=prompt, target=correction.target, prior=correction.prior)
    return Question(probe=probe, relation=correction.relation, subject=correction.subject, made=made)


def _companions(correction: Correction, *, kind: str = "") -> Iterator[Question]:
    """What is edited in with a correction."""
    for each in correction.companions():
        probe = Probe(
            fact=correction.id,
            kind=kind or f"{each.kind}_edited",
            prompt=each.question,
            target=each.target,
            prior=each.prior,
        )
        yield Question(probe=probe, relation=correction.relation, subject=each.subject)


def _following(correction: Correction, others: Sequence[Correction]) -> Iterator[Question]:
    """What should follow from a correction by itself."""
    made = not correction.paraphrases
    for prompt in made_paraphrases(correction, others) if made else correction.paraphrases:
        yield _own(correction, "generalization", prompt, made=made)
    made = correction.inverse is None
    inverse = made_inverse(correction, others) if made else correction.inverse
    if inverse and not inverse.edit:
        yield _asked(correction, "inverse", inverse.prompt, inverse.target, made=made)
    for hop in correction.portability:
        given = hop.given and _asked(correction, "given", hop.given.prompt, hop.given.answer).probe
        yield _asked(correction, "portability", hop.prompt, hop.answer, given=given)


def _absent(correction: Correction, edited: Mapping[str, str]) -> Iterator[Question]:
    """What a withdrawn correction and its companions said, unless something that stays says it too."""
    own = (_own(correction, "absence", prompt) for prompt in (correction.filled_prompt, *correction.paraphrases))
    for each in (*own, *_companions(correction, kind="absence")):
        stays = edited.get(folded(each.probe.prompt))
        if stays is None or not starts_with(stays, normalised(each.probe.target)):
            yield each


def _neighbours(
    corrections: Sequence[Correction], relations: Mapping[str, Sequence[Correction]], *, subjects: Iterable[str]
) -> Iterator[Question]:
    """Each neighbour once; one that names an edited subject is no neighbour."""
    edited = [subject.casefold() for subject in sorted(subjects)]
    whole = frozenset(edited)
    asked: set[str] = set()
    for correction in corrections:
        own = [each for each in correction.neighbours if not _names(each, edited)]
        made = made_neighbours(correction, relations[correction.relation], edited=whole)
        for each in own or islice((each for each in made if not _names(each, edited)), MOST):
            if each.prompt not in asked:
                asked.add(each.prompt)
                # One without an answer of its own is asked for one only to be shown; it counts by its next token.
                yield _asked(correction, "specificity", each.prompt, each.answer or "", made=not own)


def _asked(
    correction: Correction, kind: str, prompt: str, answer: str, *, made: bool = False, given: Probe | None = None
) -> Question:
    probe = Probe(fact=correction.id, kind=kind, prompt=prompt, target=answer)
    return Question(probe=probe, relation=correction.relation, subject=correction.subject, made=made, given=given)


def _names(neighbour: Neighbour, subjects: Iterable[str]) -> bool:
    prompt = neighbour.prompt.casefold()
    return any(
        re.search(rf"(?<!\w){re.escape(subject)}(?!\w)", prompt) if len(subject) <= SHORT else subject in prompt
        for subject in subjects
    )
