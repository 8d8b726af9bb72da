"""What a tokenizer makes of a subject in its prompt, and of text that spells out its control tokens.

An edit reads its key at the subject's last token. If that token also holds letters of what follows ("{}s" makes "os" of
"Volvo" and "s"), the key belongs to another word, and the edit would not be found again elsewhere: that is refused. If
it holds only punctuation ("Inc." and "," share ".,"), the edit works, but less well where the punctuation differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from tasks.corrections import Correction
from tasks.texts import PLACE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from tasks.companions import Companion

BATCH = 2_000

Offsets = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Reading:
    """How a tokenizer reads a subject in its filled prompt.

    Attributes:
        trap: why no token ends with the subject; None where one does.
        shared: punctuation beside the subject that shares a token with it; None where none does.
    """

    trap: str | None = None
    shared: str | None = None


def read_subjects(facts: Sequence[Correction | Companion], tokenizer: PreTrainedTokenizerFast) -> list[Reading]:
    """Return how the tokenizer reads the subject of each fact that is edited in."""
    offsets = _offsets([fact.prompt.replace(PLACE, fact.subject) for fact in facts], tokenizer)
    return [_reading(fact, spans) for fact, spans in zip(facts, offsets, strict=True)]


def control_tokens(corrections: Sequence[Correction], tokenizer: PreTrainedTokenizerFast) -> list[str | None]:
    """Return for each correction the first control token of the tokenizer that its text spells out; None if none."""
    tokens = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    if not tokens:
        return [None] * len(corrections)
    pattern = re.compile("|".join(map(re.escape, tokens)))
    found = (pattern.search("\n".join(texts_of(correction))) for correction in corrections)
    return [match[0] if match else None for match in found]


def texts_of(correction: Correction) -> Iterator[str]:
    """Yield every text of a correction that a model will read or should say."""
    yield from (correction.subject, correction.prompt, correction.target, *correction.aliases, *correction.paraphrases)
    for neighbour in correction.neighbours:
        yield from (neighbour.prompt, neighbour.answer or "")
    if correction.prior:
        yield correction.prior
    if correction.inverse:
        yield from (correction.inverse.prompt, correction.inverse.target)
    for each in correction.consequences:
        yield from (each.subject, each.prompt, each.target, each.prior or "")
    for hop in correction.portability:
        yield from (hop.prompt, hop.answer)
        if hop.given:
            yield from (hop.given.prompt, hop.given.answer)


def _offsets(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> Iterator[Offsets]:
    for start in range(0, len(texts), BATCH):
        batch = list(texts[start : start + BATCH])
        encoding = tokenizer(batch, add_special_tokens=False, return_offsets_mapping=True)
        yield from cast(list[Offsets], encoding["offset_mapping"])


def _reading(fact: Correction | Companion, offsets: Offsets) -> Reading:
    text = fact.prompt.replace(PLACE, fact.subject)
    start = fact.prompt.find(PLACE)
    stop = start + len(fact.subject)
    spans = [(left, right) for left, right in offsets if left < stop and right > start and right > left]
    if start < 0 or not spans:
        return Reading(trap="no token belongs to it")
    dropped = (place for place in range(start, stop) if not any(left <= place < right for left, right in spans))
    if lost := next((text[place] for place in dropped if not text[place].isspace()), None):
        return Reading(trap=f"the tokenizer drops its {lost!r}")
    left, right = spans[0][0], max(right for _, right in spans)
    beside = [part for part in (text[left:start].strip(), text[stop:right].strip()) if part]
    if word := next((part for part in beside if any(map(str.isalnum, part))), None):
        return Reading(trap=f"it shares a token with the {word!r} beside it; put a space between")
    return Reading(shared=next(iter(beside), None))
