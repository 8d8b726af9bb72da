"""Fluency: what the three models write behind the prompts of the facts that are new, and how it reads.

Few facts are filled up with openings that are about none of them, so that the numbers always stand on the same number
of texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from editors.fluency import Written, entropy
from editors.scoring import Perplexity, perplexity_of
from tasks.corrections import Correction
from tasks.measures import perplexities
from tasks.report import Metric, Passage, Said

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TEXTS = 20
OPENINGS = (
    "The weather in the mountains",
    "When she opened the door,",
    "The most important rule of cooking is",
    "My favourite book is about",
    "In the early morning,",
    "The history of the city begins",
    "Scientists have found that",
    "The company announced that",
    "To repair a bicycle, you need",
    "The law says that",
    "Once upon a time,",
    "The difference between cats and dogs is",
    "A good teacher",
    "The train was late because",
    "Water boils when",
    "The last time I saw him,",
    "The new museum shows",
    "People who live by the sea",
    "If you want to learn a language,",
    "The meeting ended with",
)


def prompts_of(new: Sequence[Correction]) -> list[str]:
    """The prompts behind which is written, each once: of the facts that are new, then general openings."""
    return list(dict.fromkeys([*(correction.fact().filled for correction in new), *OPENINGS]))[:TEXTS]


def passages_of(prompts: Sequence[str], models: Mapping[str, Sequence[Written] | None]) -> tuple[Passage, ...]:
    """What each model wrote behind each prompt.

    Args:
        prompts: in order.
        models: what "before", "parent" and "after" wrote behind them; None where a model was not asked.
    """
    said = {
        name: [None] * len(prompts) if texts is None else [Said(text=each.text) for each in texts]
        for name, texts in models.items()
    }
    return tuple(
        Passage.model_validate(
            {"kind": "fluency", "prompt": prompt, **{name: texts[place] for name, texts in said.items()}}
        )
        for place, prompt in enumerate(prompts)
    )


def fluency(base: PreTrainedModel, models: Mapping[str, Sequence[Written] | None]) -> dict[str, Metric]:
    """Measure what was written.

    Args:
        base: reads all of it.
        models: what "before", "parent" and "after" wrote; None where a model was not asked.
    """
    before, parent, after = (models[name] for name in ("before", "parent", "after"))
    assert before is not None and after is not None, "only production may not be asked"

    def read(texts: Sequence[Written]) -> Perplexity:
        return perplexity_of(base, [each.row for each in texts])

    was, now = read(before), read(after)
    served = None if parent is None else was if parent is before else read(parent)
    entropies = {name: texts and fmean(entropy(each.text) for each in texts) for name, texts in models.items()}
    return {
        "fluency.entropy": Metric.model_validate(entropies | {"count": len(after)}),
        **perplexities("fluency.base_perplexity", {"before": was, "parent": served, "after": now}),
    }
