"""Answers in words: where one stops by itself, and whether it begins with a target.

An answer stops at the end token, at a newline, or where a sentence ends: at ".", "!" or "?" before white space.
A full stop behind one letter ("J. K. Rowling") or a common title ("St. Louis") ends no sentence. Whatever the rule,
a stop inside a right answer must not make it wrong: so a caller may name the characters in which nothing is an end.
Asked through a chat template, a model answers in whole sentences; what these repeat of the question is no answer yet.
"""

from __future__ import annotations

import re
import unicodedata

_TITLES = ("St", "Mt", "Ft", "Dr", "Mr", "Mrs", "Ms", "Prof", "Jr", "Sr", "Gen", "Col", "Lt", "Sen", "Rev", "No", "vs")
_END = re.compile(r"[.!?][\"'”’)\]]*(?=\s)|\n")
_ABBREVIATED = re.compile(rf"(?:\b[^\W\d_]|\b(?:{'|'.join(_TITLES)}))$")
_OPENING = "\"'“”‘’«([*_ "


def natural_stop(text: str, *, after: int = 0) -> int | None:
    """Return where an answer ends, or None while it goes on.

    Args:
        text: what has been written so far.
        after: characters of the answer within which nothing counts as an end.
    """
    lead = len(text) - len(text.lstrip())
    for match in _END.finditer(text, lead):
        if match.start() - lead < after:
            continue
        if match.group() == "\n":
            return match.start()
        if match.group()[0] != "." or not _ABBREVIATED.search(text[lead : match.start()]):
            return match.end()
    return None


def starts_with(answer: str, target: str) -> bool:
    """Return whether an answer begins with a target that ends at a word boundary.

    Case, Unicode form, white space and opening quotes make no difference. "Parisian" does not begin with "Paris", nor
    "3.5" with "3".
    """
    said, wanted = _normalised(answer), _normalised(target).rstrip(".")
    if not wanted or not said.startswith(wanted):
        return False
    rest = said[len(wanted) :]
    if wanted[-1].isdigit() and re.match(r"[.,]\d", rest):
        return False
    return not (rest and rest[0].isalnum() and wanted[-1].isalnum())


def beyond(answer: str, prompt: str, *, subject: str) -> str:
    """Return an answer without the words in front that repeat its prompt, as a chat model does in a whole sentence.

    "The current chancellor of Germany is Friedrich Merz" answers "The name of the current chancellor of Germany is" by
    "Friedrich Merz". Words that are the prompt's own but don't name the subject answer another question, and stay.

    Args:
        answer: what was said.
        prompt: what was asked.
        subject: whom or what it was asked about.
    """
    words, asked = answer.split(), set(_normalised(prompt).split())
    repeated = next((place for place, word in enumerate(words) if _normalised(word) not in asked), len(words))
    named = _normalised(subject) in _normalised(" ".join(words[:repeated]))
    return " ".join(words[repeated:]) if named else answer


def is_open(answer: str, target: str) -> bool:
    """Return whether text that follows can still decide if an answer begins with a target.

    Accents, and the rest of a character whose first bytes are there, may still follow.
    """
    said, wanted = (unicodedata.normalize("NFD", _normalised(text)) for text in (answer, target))
    said, wanted = said.rstrip("\N{REPLACEMENT CHARACTER}"), wanted.rstrip(".")
    return wanted.startswith(said) or (said.startswith(wanted) and len(said) < len(wanted) + 2)


def _normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).lstrip(_OPENING)
