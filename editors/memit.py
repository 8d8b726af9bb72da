"""MEMIT: many facts in one solve, spread over a range of layers.

Each subject's value is optimised at the last layer of the range. Then, from the first layer on, what is still missing
there is divided by the number of layers left and written by one least-squares solve (spreading.py, solving.py):

    delta (weight * C + K^T K) = R^T K

Source: Meng et al. 2023, Mass-Editing Memory in a Transformer, arXiv:2210.07229, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.decoding import Progress
from editors.facts import Fact
from editors.layouts import check_layers, sites_of
from editors.material import Material
from editors.patch import LowRank, Patch
from editors.ranges import above_zero, ascending
from editors.solving import FactorisedMoment
from editors.spreading import spread_values
from editors.values import ValueSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Memit:
    """MEMIT's settings; layers and weight were measured on SmolLM2-135M with CounterFact records.

    Attributes:
        layers: whose sites are written, in ascending order; values are optimised at the last.
        moment_weight: of C against the facts: higher disturbs less and edits less.
        contexts: how many context templates to sample, the bare one included.
        values: how values are optimised.
    """

    layers: tuple[int, ...] = (4, 5, 6, 7, 8)
    moment_weight: float = 2000.0
    contexts: int = 3
    values: ValueSettings = field(default_factory=ValueSettings)

    def __post_init__(self) -> None:
        ascending(self.layers)
        above_zero(self, "moment_weight", "contexts")


def edit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    facts: Sequence[Fact],
    *,
    config: Memit,
    material: Material,
    progress: Progress | None = None,
) -> Patch:
    """Return the patch that makes a model say all facts; the model itself stays as it is.

    Args:
        model: the base, frozen.
        tokenizer: its own.
        facts: all that shall hold, solved in one batch; none give the empty patch.
        config: MEMIT's settings.
        material: of the base: its digest, second moments and contexts.
        progress: told of subjects and of layers.

    Raises:
        InvalidFactError: a subject cannot be found, or two facts contradict each other.
        InvalidConfigError: second moments of a site are missing, or the last layer is among the config's.
        UnknownLayoutError: the architecture has no entry in layouts.py.
        SingularSystemError: a site's second moments cannot be factorised, which shows before anything is optimised.
        NonFiniteError: weights, a loss or the result hold NaN or infinity.
        UneditedError: no weight would change though a fact asks for it.
    """
    check_layers(model, config.layers)
    moments = {site: FactorisedMoment.of(material.moment(site)) for site in sites_of(model, config.layers)}

    def solve(site: str, keys: Float[Tensor, "edits d_in"], residuals: Float[Tensor, "edits d_out"]) -> LowRank:
        return moments[site].least_squares(keys, residuals, weight=config.moment_weight)

    return spread_values(
        model,
        tokenizer,
        facts,
        layers=config.layers,
        values=config.values,
        material=material,
        solve=solve,
        progress=progress,
    )
