"""Blast radius: what the patch does to ordinary text, beside what production does to it.

How much is added is looked at everywhere; how far what follows has moved, where most is added; and the contexts behind
which most has moved are continued by all three models, for the reviewer to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from editors.blast import Radius, continued, radii
from editors.decoding import Progress
from editors.patch import Patch, applied
from tasks.report import Metric, Passage, Said

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

SHOWN = 20


def blast_radius(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    patch: Patch,
    parent: Patch | None,
    text: Sequence[Sequence[int]],
    progress: Progress | None = None,
) -> tuple[dict[str, Metric], tuple[Passage, ...]]:
    """Return the metrics of ordinary text, and the contexts behind which most has moved.

    Args:
        model: the base; its weights are as before afterwards.
        tokenizer: its own.
        patch: what is to be judged.
        parent: the patch in production; None where it can't be asked.
        text: token rows of one length, BOS first.
        progress: told of rows.
    """
    patches = [patch] if parent is None else [patch, parent]
    found, *served = radii(model, patches, torch.tensor(text), progress=progress)
    return _metrics(found, *served), _passages(model, tokenizer, found, patch=patch, parent=parent)


def _metrics(found: Radius, served: Radius | None = None) -> dict[str, Metric]:
    """What is read off production is where production does most, not where the patch does."""

    def metric(of: str, quantile: float) -> Metric:
        now = getattr(found, of)
        return Metric(
            before=0.0,
            parent=None if served is None else float(getattr(served, of).quantile(quantile)),
            after=float(now.quantile(quantile)),
            count=len(now),
        )

    return {
        "blast.size_p99": metric("sizes", 0.99),
        "blast.kl_p95": metric("kl", 0.95),
        "blast.kl_max": metric("kl", 1.0),
        "blast.gain": Metric(
            before=0.0,
            parent=None if served is None else abs(served.gain),
            after=abs(found.gain),
            count=len(found.sizes),
        ),
    }


def _passages(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    found: Radius,
    *,
    patch: Patch,
    parent: Patch | None,
) -> tuple[Passage, ...]:
    contexts = found.contexts[:SHOWN]

    def said(each: Patch | None) -> list[str | None]:
        if each is None:
            return [None] * len(contexts)
        with applied(model, each, base=each.base):
            return [*continued(model, tokenizer, contexts)]

    before, after = said(Patch(base=patch.base)), said(patch)
    served = said(parent) if parent is None or parent.deltas else before
    return tuple(
        Passage(
            kind="blast",
            prompt=str(tokenizer.decode(list(context), skip_special_tokens=True)),
            before=Said(text=was or "", kl=0.0),
            parent=None if production is None else Said(text=production),
            after=Said(text=now or "", kl=moved),
        )
        for context, was, production, now, moved in zip(
            contexts, before, served, after, found.kl[:SHOWN].tolist(), strict=True
        )
    )
