"""Which layer to write: the same facts edited in at each layer alone, ranked by what comes of it.

Causal traces say where a fact is read from; whether it is best written there is another question, so a sweep puts it to
the editor itself, and `rank_correlation` tells how far the traces foresaw the answer.

Source: Hase et al. 2023, section 4, arXiv:2301.04213, for one layer at a time against traces.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors import joint
from editors.decoding import Progress
from editors.errors import InvalidConfigError
from editors.joint import Joint
from editors.material import Material
from editors.measuring import probes_of
from editors.metrics import Drift, drift_of, shares_by_logprob
from editors.patch import applied
from editors.scoring import Weighed, weigh
from editors.shapes import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What the model is when one layer alone is written.

    Attributes:
        layer: the layer.
        shares: efficacy, paraphrase, neighbourhood and their harmonic mean `score`, all by log-probability.
        drift: from the unedited model at the neighbours.
    """

    layer: int
    shares: Mapping[str, float]
    drift: Drift


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One trial for each layer, over the same facts.

    Attributes:
        facts: how many are edited in at once.
        prompts: that are asked after each edit.
        unedited: the shares of the unedited model.
        trials: in the order of their layers.
    """

    facts: int
    prompts: int
    unedited: Mapping[str, float]
    trials: tuple[Trial, ...]

    def ranked(self) -> list[Trial]:
        """Return the trials, the highest score first."""
        return sorted(self.trials, key=lambda trial: -trial.shares["score"])


def sweep(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    records: Sequence[Record],
    *,
    layers: Sequence[int],
    config: Joint,
    material: Material,
    progress: Progress | None = None,
) -> Sweep:
    """Edit some records' facts in at each layer alone, all at once, and ask their prompts; no answer is written.

    Args:
        model: the base; it is given back as it was.
        tokenizer: its own.
        records: whose facts do not contradict each other.
        layers: to try, each by itself.
        config: all other settings of the editor.
        material: of the base, with second moments of every layer's site.
        progress: told of layers, and of what takes long in each.

    Raises:
        InvalidConfigError: the records lack what the score is made of.
        EditorError: whatever the editor refuses.
    """
    facts = [record.fact for record in records]
    before = _weighed(model, tokenizer, records)
    unedited = shares_by_logprob(before)
    if missing := [name for name, share in unedited.items() if math.isnan(share)]:
        raise InvalidConfigError(
            f"{len(records)} records give no {', '.join(missing)}, so nothing ranks the layers; give records with "
            "paraphrases, neighbours and an answer that the target is weighed against, as CounterFact's"
        )
    trials: list[Trial] = []
    for layer in layers:
        alone = dataclasses.replace(config, layers=(layer,))
        patch = joint.edit(model, tokenizer, facts, config=alone, material=material, progress=progress)
        with applied(model, patch, base=material.base):
            after = _weighed(model, tokenizer, records)
        drift = drift_of(model, _states(before), _states(after))
        trials.append(Trial(layer=layer, shares=shares_by_logprob(after), drift=drift))
        if progress is not None:
            progress("layers alone", len(trials), len(layers))
    return Sweep(
        facts=len(facts),
        prompts=sum(len(own) for own in before),
        unedited=unedited,
        trials=tuple(trials),
    )


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rank correlation of two lists, ties sharing their mean rank; NaN where one list is constant."""
    values = torch.tensor([list(first), list(second)], dtype=torch.float64)
    below = values[:, :, None] > values[:, None, :]
    tied = values[:, :, None] == values[:, None, :]
    return float(torch.corrcoef(below.sum(-1) + tied.sum(-1) / 2)[0, 1])


def _weighed(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, records: Sequence[Record]
) -> list[list[Weighed]]:
    probes = [probes_of(record) for record in records]
    found = iter(weigh(model, tokenizer, [probe for own in probes for probe in own]))
    return [[next(found) for _ in own] for own in probes]


def _states(weighed: Sequence[Sequence[Weighed]]) -> list[torch.Tensor]:
    return [each.state for own in weighed for each in own if each.probe.kind == "neighbourhood"]
