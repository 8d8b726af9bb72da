"""Fine-tuning of a few sites on the facts alone, naive or constrained: what every other method is measured against.

    loss = mean over facts of NLL(target and full stop) + kl_weight * KL(base || edited)

The KL is that of the next token at each position but 0 of ordinary text. After each step of Adam, the change of every
single weight is clamped to [-bound, bound]. Naive fine-tuning has neither. All tokens of a target are learned, each
after the ones before it; an often-used implementation of this rival learns them all at the prompt's last token.

The deltas are parameters of their own, added where their site writes, so the model is never touched. Of the base only
the final hidden states of the text are kept, and projected on the vocabulary again in each step, so the memory does
not grow with rows times vocabulary.

Source: Zhu et al. 2020, Modifying Memories in Transformer Models, arXiv:2012.00363 (the bound);
Meng et al. 2022, arXiv:2202.05262, appendix E.1 (Adam at a learning rate of 5e-4, a bound of 5e-4, a stop at a loss of
0.03; the published code stops at 1e-2, as here) and figure 17 (25 steps).
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.batch import by_subject
from editors.decoding import Progress
from editors.effect import effective
from editors.errors import InvalidConfigError, NonFiniteError
from editors.facts import Fact
from editors.hooks import shifted
from editors.layouts import backbone_of, project, read_weight, sites_of
from editors.material import Material
from editors.patch import Dense, Patch
from editors.ranges import above_zero, ascending, not_negative
from editors.tokens import Row, batches_of_like_length, fact_row, pad


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetune:
    """Naive fine-tuning.

    The paper's learning rate, 5e-4, is for GPT-2 XL. Of three facts in examples/corrections.jsonl, SmolLM2-135M said
    two after 25 steps with it, and all three with 2e-3.

    Attributes:
        layers: whose sites are trained, in ascending order.
        steps: of Adam, at most.
        learning_rate: of Adam.
        enough: training ends when every fact's loss is below this.
        ending: put behind each target, so that the model stops there.
        contexts: how many context templates to sample, the bare one included.
        kl_weight: of the change on ordinary text, per fact; 0 leaves it out.
        kl_tokens: of ordinary text in each step, taken in turn.
        bound: the largest change of any one weight; None sets none.
        budget: tokens of facts in a forward pass, padding included.
    """

    layers: tuple[int, ...] = (5,)
    steps: int = 25
    learning_rate: float = 2e-3
    enough: float = 0.01
    ending: str = "."
    contexts: int = 1
    kl_weight: float = 0.0
    kl_tokens: int = 256
    bound: float | None = None
    budget: int = 2048

    def __post_init__(self) -> None:
        ascending(self.layers)
        above_zero(self, "steps", "learning_rate", "contexts", "kl_tokens", "budget")
        not_negative(self, "enough", "kl_weight")
        if self.bound is not None:
            above_zero(self, "bound")


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneConstrained(Finetune):
    """Fine-tuning that is held to the base: by what it says on ordinary text, and weight by weight.

    The paper's bound, 5e-4, left SmolLM2-135M as it was (the three facts' mean log-probability went from -4.09 to
    -3.47); 5e-3 and 1e-2 brought -1.30 and -0.30.
    """

    kl_weight: float = 1.0
    bound: float | None = 1e-2


def edit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    facts: Sequence[Fact],
    *,
    config: Finetune,
    material: Material,
    progress: Progress | None = None,
) -> Patch:
    """Return the patch that makes a model say all facts; the model itself stays as it is.

    Args:
        model: the base, frozen.
        tokenizer: its own.
        facts: all that shall hold, trained together; none give the empty patch.
        config: the settings of either fine-tuning.
        material: of the base: its digest, contexts, and text where there is a kl_weight.
        progress: told of steps.

    Raises:
        InvalidFactError: a subject cannot be found, or two facts contradict each other.
        InvalidConfigError: there is a kl_weight and no text.
        UnknownLayoutError: the architecture has no entry in layouts.py.
        UnknownSiteError: the model has no such layer.
        NonFiniteError: weights, a loss or the result hold NaN or infinity.
        UneditedError: no weight would change though a fact asks for it.
    """
    weights = {site: read_weight(model, site) for site in sites_of(model, config.layers)}
    if config.kl_weight and not material.text:
        raise InvalidConfigError(f"kl_weight is {config.kl_weight} and there is no ordinary text; give some, or set 0")
    ordered = [fact for own in by_subject(facts).values() for fact in own]
    if not ordered:
        return Patch(base=material.base)
    rows = [
        [fact_row(tokenizer, fact, context=context, ending=config.ending) for context in material.contexts]
        for fact in ordered
    ]
    deltas = {
        site: torch.zeros_like(weight, dtype=torch.float32, requires_grad=True) for site, weight in weights.items()
    }
    wanted = _train(model, deltas, rows, text=material.text, config=config, progress=progress)
    patch = Patch(
        base=material.base, deltas={site: Dense(delta=delta.detach().cpu()) for site, delta in deltas.items()}
    )
    return effective(model, patch, subjects=[fact.filled for fact in ordered], wanted=wanted)


def _train(
    model: PreTrainedModel,
    deltas: Mapping[str, Tensor],
    rows: Sequence[Sequence[Row]],
    *,
    text: Sequence[Sequence[int]],
    config: Finetune,
    progress: Progress | None,
) -> list[bool]:
    """Run Adam on the deltas in place, and return which facts asked for a change at the start."""
    moving = list(deltas.values())
    adam = torch.optim.Adam(moving, lr=config.learning_rate)
    held = _held(model, text, budget=config.kl_tokens) if config.kl_weight else []
    wanted: list[bool] = []
    for step in range(config.steps):
        adam.zero_grad()
        with shifted(model, deltas):
            losses = _learn(model, rows, moving, budget=config.budget)
            wanted = wanted or (losses >= config.enough).tolist()
            if float(losses.max()) < config.enough:
                break
            change = _hold(model, held[step % len(held)], moving, weight=config.kl_weight) if held else 0.0
        if not math.isfinite(float(losses.sum()) + change):
            raise NonFiniteError(f"the loss in step {step}")
        adam.step()
        if config.bound is not None:
            for delta in moving:
                delta.data.clamp_(-config.bound, config.bound)
        if progress is not None:
            progress("steps of fine-tuning", step + 1, config.steps)
    return wanted


def _learn(
    model: PreTrainedModel, rows: Sequence[Sequence[Row]], moving: Sequence[Tensor], *, budget: int
) -> Float[Tensor, " facts"]:
    """Return each fact's loss over its rows, and add the gradient of their mean to what moves."""
    flat = [row for own in rows for row in own]
    owner = torch.tensor([fact for fact, own in enumerate(rows) for _ in own])
    weight = 1 / owner.bincount().double()
    losses = torch.zeros(len(rows), dtype=torch.float64)
    for chosen in batches_of_like_length([len(row.ids) for row in flat], budget=budget):
        shares = _nll(model, [flat[index] for index in chosen]) * weight[owner[chosen]].to(model.device)
        (shares.sum() / len(rows)).backward(inputs=list(moving))
        losses.index_add_(0, owner[chosen], shares.detach().cpu())
    return losses


def _nll(model: PreTrainedModel, rows: Sequence[Row]) -> Float[Tensor, " rows"]:
    """Return the mean over each row's target tokens; the vocabulary is projected at those alone."""
    ids, mask = pad(rows, device=model.device)
    asked = [(row, place) for row, own in enumerate(rows) for place in range(own.target, len(own.ids))]
    row, place = torch.tensor(asked, device=model.device).T
    logits = project(model, _hidden(model, ids, mask)[row, place - 1]).float()
    nll = torch.nn.functional.cross_entropy(logits, ids[row, place], reduction="none").double()
    return nll.new_zeros(len(rows)).index_add(0, row, nll) / row.bincount()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """Some rows of ordinary text and the final hidden states that the base has there, all positions but 0."""

    ids: Int[Tensor, "rows tokens"]
    mask: Int[Tensor, "rows tokens"]
    hidden: Float[Tensor, "positions d_model"]


@torch.no_grad()
def _held(model: PreTrainedModel, text: Sequence[Sequence[int]], *, budget: int) -> list[_Held]:
    """Return the text in batches of like length."""
    rows = [Row(ids=tuple(ids)) for ids in text]
    padded = (
        pad([rows[index] for index in chosen], device=model.device)
        for chosen in batches_of_like_length([len(row.ids) for row in rows], budget=budget)
    )
    return [_Held(ids=ids, mask=mask, hidden=_behind_0(_hidden(model, ids, mask), mask)) for ids, mask in padded]


def _hold(model: PreTrainedModel, held: _Held, moving: Sequence[Tensor], *, weight: float) -> float:
    """Return the mean KL from the base's next tokens, weighted, and add its gradient to what moves."""
    with torch.no_grad():
        base = project(model, held.hidden).float().log_softmax(-1)
    hidden = _behind_0(_hidden(model, held.ids, held.mask), held.mask)
    edited = project(model, hidden).float().log_softmax(-1)
    change = weight * torch.nn.functional.kl_div(edited, base, log_target=True, reduction="batchmean")
    change.backward(inputs=list(moving))
    return float(change.detach())


def _behind_0(
    states: Float[Tensor, "rows tokens d_model"], mask: Int[Tensor, "rows tokens"]
) -> Float[Tensor, "positions d_model"]:
    return states[:, 1:][mask[:, 1:].bool()]


def _hidden(
    model: PreTrainedModel, ids: Int[Tensor, "rows tokens"], mask: Int[Tensor, "rows tokens"]
) -> Float[Tensor, "rows tokens d_model"]:
    output: Any = backbone_of(model)(input_ids=ids, attention_mask=mask, use_cache=False)
    return cast(Tensor, output.last_hidden_state)
