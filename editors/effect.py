"""What an edit comes to: nothing where nothing is wanted, and never nothing where something is.

A target that the base already says is no error: after a change of base, a refresh solves all active facts anew, and
some may be known there. Such a fact moves nothing, and is reported. But a patch that should change something and
changes no weight in the model's own dtype, as small deltas do not in bfloat16, is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import torch
from transformers import PreTrainedModel

from editors.errors import UneditedError
from editors.layouts import read_weight
from editors.patch import Patch, added

logger = logging.getLogger(__name__)


def effective(model: PreTrainedModel, patch: Patch, *, subjects: Iterable[str], wanted: Sequence[bool]) -> Patch:
    """Return a patch that changes a weight, or that nobody wants to change any.

    Args:
        model: the base.
        patch: made for it.
        subjects: of the batch.
        wanted: of each, whether its facts asked for a change.

    Raises:
        UneditedError: a change was wanted, and each weight would stay the same, bit for bit.
    """
    settled = [subject for subject, asks in zip(subjects, wanted, strict=True) if not asks]
    if settled:
        logger.warning(
            "%d of %d subjects need no edit, as the base already says it: %s", len(settled), len(wanted), settled
        )
    if any(wanted) and not _changes(model, patch):
        raise UneditedError(sorted(patch.deltas), model.dtype)
    return patch


def _changes(model: PreTrainedModel, patch: Patch) -> bool:
    weights = ((read_weight(model, site), delta) for site, delta in patch.deltas.items())
    return any(not torch.equal(added(weight, delta), weight) for weight, delta in weights)
