"""MEMIT: many facts in one solve, spread over a range of layers.

Each subject's value is optimised at the last layer of the range. Then, from the first layer on, what is still missing
there is divided by the number of layers left and written by one least-squares solve; keys and what is missing are
read again after each, with the earlier deltas in place. The model is given back as it was, bit for bit.

Source: Meng et al. 2023, Mass-Editing Memory in a Transformer, arXiv:2210.07229, algorithm 1.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.decoding import Progress
from editors.errors import InvalidConfigError, InvalidFactError
from editors.facts import Fact
from editors.hooks import capture
from editors.layouts import backbone_of, depth_of, read_weight, sites_of, write_weight
from editors.patch import Delta, Patch, added, restored, smaller
from editors.solving import least_squares
from editors.tokens import Row, batches_of_like_length, fact_row, pad
from editors.values import ValueSettings, by_subject, optimise_injections

logger = logging.getLogger(__name__)


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
        if not self.layers or list(self.layers) != sorted(set(self.layers)):
            raise InvalidConfigError(f"layers are {self.layers}; they must be ascending, with at least one")
        if not self.moment_weight > 0 or self.contexts < 1:
            raise InvalidConfigError(
                f"moment_weight is {self.moment_weight} and contexts {self.contexts}; both must be above 0"
            )


def edit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    facts: Sequence[Fact],
    *,
    config: Memit,
    moments: Mapping[str, Float[Tensor, "d_in d_in"]],
    contexts: Sequence[str],
    base_digest: str,
    progress: Progress | None = None,
) -> Patch:
    """Return the patch that makes a model say all facts; the model itself stays as it is.

    Args:
        model: the base, frozen.
        tokenizer: its own.
        facts: all that shall hold, solved in one batch; none give the empty patch.
        config: MEMIT's settings.
        moments: C of each site of the config's layers.
        contexts: templates with one `{}` for the filled prompt.
        base_digest: of the model's weights; the patch is bound to it.
        progress: told of subjects and of layers.

    Raises:
        InvalidFactError: a subject cannot be found, or two facts contradict each other.
        InvalidConfigError: second moments of a site are missing, or a context lacks its place.
        UnknownLayoutError: the architecture has no entry in layouts.py.
        SingularSystemError: a layer's system cannot be factorised.
        NonFiniteError: weights, a loss or the result hold NaN or infinity.
    """
    _check(model, facts, layers=config.layers, moments=moments, contexts=contexts)
    if not facts:
        return Patch(base=base_digest)
    subjects = by_subject(facts)
    injections = optimise_injections(
        model,
        tokenizer,
        subjects,
        layer=config.layers[-1],
        contexts=contexts,
        settings=config.values,
        progress=progress,
    )
    rows = [
        [_until_subject(fact_row(tokenizer, fact, context=context)) for fact in own for context in contexts]
        for own in subjects.values()
    ]
    wanted = torch.stack([injections[subject] for subject in subjects]).double()
    deltas = _spread(model, rows, wanted, config=config, moments=moments, progress=progress)
    return Patch(base=base_digest, deltas=deltas)


def _spread(
    model: PreTrainedModel,
    rows: Sequence[Sequence[Row]],
    wanted: Float[Tensor, "edits d_out"],
    *,
    config: Memit,
    moments: Mapping[str, Float[Tensor, "d_in d_in"]],
    progress: Progress | None,
) -> dict[str, Delta]:
    sites = sites_of(model, config.layers)
    deltas: dict[str, Delta] = {}
    untouched: Tensor | None = None
    with restored(model, sites):
        for done, site in enumerate(sites):
            keys, hidden = _read(model, rows, site=site, layer=config.layers[-1], budget=config.values.budget)
            untouched = hidden if untouched is None else untouched
            missing = wanted - (hidden - untouched)
            solved = least_squares(
                keys, missing / (len(sites) - done), second_moment=config.moment_weight * moments[site]
            )
            deltas[site] = smaller(solved.left, solved.right)
            write_weight(model, site, added(read_weight(model, site), deltas[site]))
            share = float(torch.linalg.vector_norm(missing) / torch.linalg.vector_norm(wanted))
            logger.info("%s: %d facts, %.0f %% of the change was missing", site, len(wanted), 100 * share)
            if progress is not None:
                progress("layers", done + 1, len(sites))
    return deltas


def _read(
    model: PreTrainedModel, rows: Sequence[Sequence[Row]], *, site: str, layer: int, budget: int
) -> tuple[Float[Tensor, "edits d_in"], Float[Tensor, "edits d_model"]]:
    """Return the key and the hidden state at each subject's last token, averaged over its rows."""
    flat = [row for own in rows for row in own]
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for chosen in batches_of_like_length([len(row.ids) for row in flat], budget=budget):
        ids, mask = pad([flat[index] for index in chosen], device=model.device)
        seen = capture(
            model,
            lambda ids=ids, mask=mask: backbone_of(model)(input_ids=ids, attention_mask=mask, use_cache=False),
            sites=[site],
            layers=[layer],
        )
        for place, index in enumerate(chosen):
            last = flat[index].subject
            found[index] = (seen.keys[site][place, last].cpu(), seen.hidden[layer][place, last].cpu())
    keys, hidden = (torch.stack([found[index][part] for index in range(len(flat))]).double() for part in (0, 1))
    sizes = [len(own) for own in rows]
    return (
        torch.stack([part.mean(0) for part in torch.split(keys, sizes)]),
        torch.stack([part.mean(0) for part in torch.split(hidden, sizes)]),
    )


def _until_subject(row: Row) -> Row:
    """Cut a row behind the subject: nothing that follows can be seen from there."""
    return Row(ids=row.ids[: row.subject + 1], subject=row.subject)


def _check(
    model: PreTrainedModel,
    facts: Sequence[Fact],
    *,
    layers: Sequence[int],
    moments: Mapping[str, Tensor],
    contexts: Sequence[str],
) -> None:
    sites = sites_of(model, layers)
    if layers[-1] == depth_of(model) - 1:
        raise InvalidConfigError(
            f"layer {layers[-1]} is the last of the model: nothing behind it carries a subject to its answer; "
            "end the range earlier"
        )
    for site in sites:
        read_weight(model, site)
        if site not in moments:
            raise InvalidConfigError(f"no second moments for {site}, only for {sorted(moments)}; take them there too")
    for context in contexts:
        if context.count("{}") != 1:
            raise InvalidConfigError(f"the context {context!r} needs exactly one '{{}}' for the prompt")
    targets: dict[tuple[str, str], Fact] = {}
    for fact in facts:
        other = targets.setdefault((fact.subject, fact.prompt), fact)
        if other.target != fact.target:
            raise InvalidFactError(
                f"facts {other.id} and {fact.id} contradict each other: {fact.filled!r} is "
                f"{other.target!r} and {fact.target!r}; keep one"
            )
