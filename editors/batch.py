"""A batch of facts: grouped by subject, free of contradictions, and as rows that end where the subject does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transformers import PreTrainedTokenizerFast

from editors.errors import InvalidFactError
from editors.facts import Fact
from editors.tokens import Row, fact_row

Subjects = Mapping[str, Sequence[Fact]]


def by_subject(facts: Sequence[Fact]) -> dict[str, list[Fact]]:
    """Return the facts of each subject, sorted, so that their order in a request makes no difference.

    Raises:
        InvalidFactError: two facts contradict each other.
    """
    groups: dict[str, list[Fact]] = {}
    targets: dict[str, Fact] = {}
    for fact in sorted(facts, key=lambda fact: (fact.subject, fact.prompt, fact.target, fact.id)):
        other = targets.setdefault(fact.filled, fact)
        if other.target != fact.target:
            one, two = sorted((other, fact), key=lambda fact: fact.id)
            raise InvalidFactError(
                f"facts {one.id} and {two.id} contradict each other: {fact.filled!r} is "
                f"{one.target!r} and {two.target!r}; keep one"
            )
        groups.setdefault(fact.subject, []).append(fact)
    return groups


def subject_rows(tokenizer: PreTrainedTokenizerFast, subjects: Subjects, contexts: Sequence[str]) -> list[list[Row]]:
    """Return each subject's facts in all contexts, cut behind the subject: nothing that follows is seen from there.

    Raises:
        SubjectNotFoundError: a subject has no token of its own in a prompt.
    """
    return [
        [_until_subject(fact_row(tokenizer, fact, context=context)) for fact in own for context in contexts]
        for own in subjects.values()
    ]


def _until_subject(row: Row) -> Row:
    return Row(ids=row.ids[: row.subject + 1], subject=row.subject, target=row.subject + 1)
