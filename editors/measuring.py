"""What a model makes of benchmark records: every prompt weighed and answered, the neighbours' states, perplexity.

Measuring knows no metric: what the answers add up to, against those of the unedited model, is in metrics.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.decoding import Progress
from editors.scoring import Perplexity, Probe, Weighed, perplexity, says_targets, weigh
from editors.shapes import Record

Kind = Literal["efficacy", "paraphrase", "neighbourhood", "inverse", "portability"]
SCORED: tuple[Kind, ...] = ("efficacy", "paraphrase", "neighbourhood")
"""What the papers' score is made of."""
KINDS: tuple[Kind, ...] = (*SCORED, "inverse", "portability")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One prompt: what is expected behind it, and whether greedy generation begins with its target."""

    weighed: Weighed
    said: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything read off one model.

    Attributes:
        answers: of each record, in the order of its prompts.
        text: perplexity on the held rows.
    """

    answers: tuple[tuple[Answer, ...], ...]
    text: Perplexity

    def first(self, records: int) -> Measured:
        """Return what was measured of the first few records."""
        return Measured(answers=self.answers[:records], text=self.text)

    def of_kind(self, kind: Kind) -> list[list[Answer]]:
        """Return the answers of one kind of prompt, a list a record."""
        return [[each for each in own if each.weighed.probe.kind == kind] for own in self.answers]


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    records: Sequence[Record],
    *,
    held: Sequence[Sequence[int]],
    progress: Progress | None = None,
) -> Measured:
    """Ask a model everything about some records.

    Args:
        model: the base, or an edited model.
        tokenizer: its own.
        records: what to ask.
        held: token rows for perplexity, BOS first.
        progress: told of prompts.

    Raises:
        InvalidFactError: an answer has no token of its own.
    """
    probes = [probes_of(record) for record in records]
    weighed = weigh(model, tokenizer, [probe for own in probes for probe in own], progress=progress)
    said = says_targets(model, tokenizer, weighed, progress=progress)
    answers = (Answer(weighed=each, said=yes) for each, yes in zip(weighed, said, strict=True))
    return Measured(
        answers=tuple(tuple(islice(answers, len(own))) for own in probes),
        text=perplexity(model, held),
    )


def probes_of(record: Record) -> list[Probe]:
    """Return every prompt of a record; a neighbour asks for its own answer, weighed against the target."""
    fact = record.fact
    own = [("efficacy", fact.filled), *(("paraphrase", prompt) for prompt in record.paraphrases)]
    rival = None if fact.prior is None else fact.target
    beside = [("inverse", each) for each in record.inverse] + [("portability", each) for each in record.portability]
    return [
        *(Probe(fact=fact.id, kind=kind, prompt=text, target=fact.target, prior=fact.prior) for kind, text in own),
        *(
            Probe(fact=fact.id, kind="neighbourhood", prompt=each.prompt, target=each.answer, prior=rival)
            for each in record.neighbours
        ),
        *(Probe(fact=fact.id, kind=kind, prompt=each.prompt, target=each.answer) for kind, each in beside),
    ]
