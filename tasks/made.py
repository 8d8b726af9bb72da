"""Made: probes that a correction lacks, from what the ledger's other facts of its relation have, or from templates.

A paraphrase is another fact's with this subject in its place, or the own prompt behind a few words. A neighbour is a
subject whose answer in the relation is known: a protected fact's, or one that another correction lists. Other active
facts are none, since they are edited too. An inverse is another one's with this target in its place; who else has the
same target, so that several answers would be right, gets none.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from tasks.companions import Inverse
from tasks.corrections import Correction, Neighbour
from tasks.texts import MAX_PROMPT, PLACE, folded, normalised

MOST = 3
"""How many of a kind are made for one correction."""

BEHIND = ("As is well known, {}", "In short: {}")
"""What a prompt is put behind where nobody else asks about the relation.

Of 22 questions about capitals, currencies and chief executives SmolLM2-135M answers 17, and 18 behind either of these.
"""


def by_relation(corrections: Iterable[Correction]) -> Mapping[str, Sequence[Correction]]:
    """Return corrections by their relation, in the order of their ids."""
    groups: dict[str, list[Correction]] = defaultdict(list)
    for correction in sorted(corrections, key=lambda correction: correction.id):
        groups[correction.relation].append(correction)
    return groups


def made_paraphrases(correction: Correction, others: Sequence[Correction]) -> list[str]:
    """Return other ways to ask a correction: templates that several facts share, or else those of single ones.

    Args:
        correction: which has none of its own.
        others: of its relation; it may be among them.
    """
    rest = [other for other in others if other is not correction]
    shared = Counter(template for other in rest for template in dict.fromkeys(_templates(other)))
    several = [template for template, count in shared.most_common() if count > 1]
    texts = [template.replace(PLACE, correction.subject) for template in several or sorted(shared)]
    own = {folded(correction.filled_prompt)}
    others_way = [text for text in texts if folded(text) not in own]
    return (others_way or [words.replace(PLACE, correction.filled_prompt) for words in BEHIND])[:MOST]


def made_neighbours(
    correction: Correction, others: Sequence[Correction], *, edited: Container[str]
) -> Iterator[Neighbour]:
    """Yield prompts about other subjects of the relation, with their answers.

    Args:
        correction: which has none of its own.
        others: of its relation, protected ones among them.
        edited: subjects that are edited too, casefolded.
    """
    known = {subject: answer for other in others if other is not correction for subject, answer in _known(other)}
    for subject, answer in known.items():
        prompt = correction.asked_of(subject)
        if subject.casefold() not in edited and len(prompt) <= MAX_PROMPT:
            yield Neighbour(prompt=prompt, answer=answer)


def made_inverse(correction: Correction, others: Sequence[Correction]) -> Inverse | None:
    """Return a correction from its other end, only to be asked; None where nobody shows how, or others share its end.

    Args:
        correction: which has none of its own.
        others: of its relation; it may be among them.
    """
    target = normalised(correction.target)
    if any(normalised(other.target) == target for other in others if other.subject != correction.subject):
        return None
    ways = Counter(way for other in others if (way := _inverse_way(other)))
    if not ways:
        return None
    (way, _), *_ = ways.most_common(1)
    return Inverse(prompt=way.replace(PLACE, correction.target), target=correction.subject, edit=False)


def _templates(correction: Correction) -> Iterator[str]:
    for text in (correction.filled_prompt, *correction.paraphrases):
        if text.count(correction.subject) == 1:
            yield text.replace(correction.subject, PLACE)


def _known(correction: Correction) -> Iterator[tuple[str, str]]:
    """Subjects and their answers in a correction's relation: its own, and those that its neighbours are about."""
    yield correction.subject, correction.target
    before, _, behind = correction.prompt.partition(PLACE)
    for neighbour in correction.neighbours:
        found = re.fullmatch(f"{re.escape(before)}(.+){re.escape(behind)}", neighbour.prompt)
        if found and neighbour.answer:
            yield found[1], neighbour.answer


def _inverse_way(correction: Correction) -> str | None:
    """The template of an inverse that has the target in its place and the subject for an answer."""
    inverse = correction.inverse
    if inverse is None or normalised(inverse.target) != normalised(correction.subject):
        return None
    return inverse.prompt.replace(correction.target, PLACE) if inverse.prompt.count(correction.target) == 1 else None
