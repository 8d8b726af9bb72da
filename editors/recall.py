"""Which facts a model knows: those whose target it writes by itself behind the prompt."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.decoding import Progress
from editors.facts import Fact
from editors.scoring import probe_of, says_targets, weigh

_FACTS = 64  # asked at once


def known_facts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    facts: Sequence[Fact],
    *,
    limit: int,
    progress: Progress | None = None,
) -> list[Fact]:
    """Return the first facts, at most `limit` of them, with whose target greedy decoding starts.

    Args:
        model: the model that is asked.
        tokenizer: its own.
        facts: asked in their order, no more of them than are needed.
        limit: how many are wanted.
        progress: told of the facts that are known so far.
    """
    known: list[Fact] = []
    for first in range(0, len(facts), _FACTS):
        asked = facts[first : first + _FACTS]
        weighed = weigh(model, tokenizer, [probe_of(fact) for fact in asked])
        said = says_targets(model, tokenizer, weighed)
        known += [fact for fact, yes in zip(asked, said, strict=True) if yes]
        if progress is not None:
            progress("known facts", min(len(known), limit), limit)
        if len(known) >= limit:
            break
    return known[:limit]
