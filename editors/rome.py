"""ROME: one fact at a time, a rank-one change of one site that writes its value exactly.

    delta = (v* - W k*) (C^-1 k*)^T / ((C^-1 k*)^T k*)        so that (W + delta) k* = v*

Of all changes that do so, it moves ordinary keys least. The same k*, averaged over the contexts, is solved for and
divided by; the published code averages one key and divides by another, so that its value is missed. Several facts
are edited one after the other, by the order of their subjects: each value is optimised on the weights that the earlier
ones left, and nothing protects what those wrote. Facts that share a subject share a value, and are one edit.

Source: Meng et al. 2022, Locating and Editing Factual Associations in GPT, arXiv:2202.05262, section 3.1, equation 2.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.batch import by_subject, subject_rows
from editors.collisions import warn_of_collisions
from editors.decoding import Progress
from editors.effect import effective
from editors.errors import InvalidConfigError
from editors.facts import Fact
from editors.layouts import check_layers, read_weight, sites_of, write_weight
from editors.material import Material
from editors.patch import LowRank, Patch, added, restored, smaller
from editors.ranges import above_zero
from editors.reading import read_subjects
from editors.solving import directions
from editors.values import ValueSettings, optimise_injections


@dataclass(frozen=True, slots=True, kw_only=True)
class Rome:
    """ROME's settings.

    Attributes:
        layer: whose site is written; the reference settings say 5 for models of this size.
        contexts: how many context templates to sample, the bare one included.
        values: how values are optimised.
    """

    layer: int = 5
    contexts: int = 3
    values: ValueSettings = field(default_factory=ValueSettings)

    def __post_init__(self) -> None:
        if self.layer < 0:
            raise InvalidConfigError(f"layer is {self.layer}; the first is 0")
        above_zero(self, "contexts")

    @property
    def layers(self) -> tuple[int, ...]:
        """The one layer, as the other methods name theirs."""
        return (self.layer,)


def edit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    facts: Sequence[Fact],
    *,
    config: Rome,
    material: Material,
    progress: Progress | None = None,
) -> Patch:
    """Return the patch that makes a model say all facts; the model itself stays as it is.

    Args:
        model: the base, frozen.
        tokenizer: its own.
        facts: all that shall hold, edited one subject after the other; none give the empty patch.
        config: ROME's settings.
        material: of the base: its digest, second moments and contexts.
        progress: told of subjects.

    Raises:
        InvalidFactError: a subject cannot be found, or two facts contradict each other.
        InvalidConfigError: second moments of the site are missing, or the layer is the last.
        UnknownLayoutError: the architecture has no entry in layouts.py.
        SingularSystemError: the second moments cannot be factorised.
        NonFiniteError: weights, a loss or the result hold NaN or infinity.
        UneditedError: no weight would change though a fact asks for it.
    """
    check_layers(model, config.layers)
    (site,) = sites_of(model, config.layers)
    moment = material.moment(site)
    subjects = by_subject(facts)
    if not subjects:
        return Patch(base=material.base)
    rows = subject_rows(tokenizer, subjects, material.contexts)
    # What a site reads doesn't depend on its own weight, so the edits before a subject's own leave its key alone.
    keys = read_subjects(model, rows, sites=[site], budget=config.values.budget)[0][site]
    warn_of_collisions(site, keys, subjects)
    right = directions(keys, second_moment=moment)
    original = read_weight(model, site)
    left = right.new_zeros(len(original), 0)
    with restored(model, [site]):
        for done, (subject, own) in enumerate(subjects.items()):
            injection = optimise_injections(
                model,
                tokenizer,
                {subject: own},
                layers=config.layers,
                contexts=material.contexts,
                settings=config.values,
            )
            left = torch.cat([left, injection[0].double().T], dim=1)
            write_weight(model, site, added(original, LowRank(left=left, right=right[: done + 1])))
            if progress is not None:
                progress("subjects", done + 1, len(subjects))
    patch = Patch(base=material.base, deltas={site: smaller(left, right)})
    return effective(model, patch, subjects=subjects, wanted=left.any(dim=0).tolist())
