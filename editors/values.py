"""Values v*: what a site has to write at a subject's last token for the model to say the targets.

The unit is a subject: one vector is optimised over all its facts in all contexts, so that two facts with the same key
do not pull against each other. Subjects are independent of each other and run in one batch; weights are frozen. A value
is kept as its injection, v* - W k: what is added to the site's output. Meng et al. call it delta.

    loss = mean over facts and contexts of NLL(target and full stop)
         + kl_weight * KL(edited || base) at the subject in "<subject> is a"
         + decay * |injection| / |hidden state|^2
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.decoding import Progress
from editors.errors import InvalidConfigError, NonFiniteError
from editors.facts import Fact
from editors.hooks import capture, injected
from editors.layouts import backbone_of, project, sites_of
from editors.tokens import Row, batches_of_like_length, fact_row, pad, subject_row


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSettings:
    """How a value is optimised.

    The defaults are for names of several tokens that a small model has never seen together. Of five such targets in
    examples/corrections.jsonl, SmolLM2-135M said all five with them, at the cost of 10 steps in six contexts; with 10
    steps at a learning rate of 1.0 it said none of three.

    Attributes:
        steps: of Adam, at most.
        learning_rate: of Adam.
        clamp: the longest injection, in lengths of the hidden state at the subject.
        kl_weight: of the change in what "<subject> is a" leads to.
        decay: of the injection's length, over the squared length of the hidden state.
        enough: a subject whose loss is below this is done.
        ending: put behind each target, so that the model stops there.
        budget: tokens in a batch, padding included; it bounds the memory (about 1 MB a token for a 135M model).
    """

    steps: int = 20
    learning_rate: float = 1.5
    clamp: float = 1.5
    kl_weight: float = 0.0625
    decay: float = 0.5
    enough: float = 0.1
    ending: str = "."
    budget: int = 2048

    def __post_init__(self) -> None:
        for name in ("steps", "learning_rate", "clamp", "budget"):
            if not getattr(self, name) > 0:
                raise InvalidConfigError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("kl_weight", "decay", "enough"):
            if not getattr(self, name) >= 0:
                raise InvalidConfigError(f"{name} is {getattr(self, name)}; it must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """The rows of some subjects, padded: each one's facts in all contexts, then its "<subject> is a".

    Attributes:
        ids, mask: of all rows.
        owner: which subject each row belongs to.
        subject: where each row is injected.
        essence: the row "<subject> is a" of each subject.
        asked: row and position of each target token.
    """

    ids: Int[Tensor, "rows tokens"]
    mask: Int[Tensor, "rows tokens"]
    owner: Int[Tensor, " rows"]
    subject: Int[Tensor, " rows"]
    essence: Int[Tensor, " subjects"]
    asked: Int[Tensor, "targets 2"]


def by_subject(facts: Sequence[Fact]) -> dict[str, list[Fact]]:
    """Return the facts of each subject, sorted, so that their order in a request makes no difference."""
    groups: dict[str, list[Fact]] = {}
    for fact in sorted(facts, key=lambda fact: (fact.subject, fact.prompt, fact.target, fact.id)):
        groups.setdefault(fact.subject, []).append(fact)
    return groups


def optimise_injections(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    subjects: Mapping[str, Sequence[Fact]],
    *,
    layer: int,
    contexts: Sequence[str],
    settings: ValueSettings,
    progress: Progress | None = None,
) -> dict[str, Float[Tensor, " d_out"]]:
    """Return the injection of each subject at a layer's site.

    Args:
        model: the base; it is not changed.
        tokenizer: its own.
        subjects: the facts of each.
        layer: whose site is written.
        contexts: templates with one `{}` for the filled prompt.
        settings: how to optimise.
        progress: told of subjects, and of the steps for those at work.

    Raises:
        SubjectNotFoundError: a subject has no token of its own in a prompt.
        NonFiniteError: a loss is NaN or infinite.

    Source: Meng et al. 2023 (MEMIT), section 4.3, equation 16, arXiv:2210.07229.
    """
    names = list(subjects)
    rows = [_rows_of(tokenizer, subjects[name], contexts, settings.ending) for name in names]
    lengths = [max(len(row.ids) for row in own) for own in rows]
    site = sites_of(model, [layer])[0]
    injections: dict[str, Tensor] = {}
    for chosen in batches_of_like_length(lengths, budget=settings.budget, rows=[len(own) for own in rows]):
        own = [rows[index] for index in chosen]
        found = _optimise(model, own, layer=layer, site=site, settings=settings, progress=progress)
        injections |= {names[index]: row for index, row in zip(chosen, found, strict=True)}
        if progress is not None:
            progress("values", len(injections), len(names))
    return {name: injections[name] for name in names}


def _optimise(
    model: PreTrainedModel,
    rows: list[list[Row]],
    *,
    layer: int,
    site: str,
    settings: ValueSettings,
    progress: Progress | None = None,
) -> Float[Tensor, "subjects d_out"]:
    """Run Adam for all subjects of a batch at once; one whose loss is low enough keeps its injection and leaves."""
    whole = _batch(rows, model.device)
    scale, base = _unedited(model, whole, layer)
    injection = torch.zeros(len(rows), model.config.hidden_size, device=model.device, requires_grad=True)
    adam = torch.optim.Adam([injection], lr=settings.learning_rate)
    alive = torch.arange(len(rows), device=model.device)
    batch = whole
    for step in range(settings.steps):
        loss = _loss(model, batch, injection[alive], site=site, base=base[alive], scale=scale[alive], settings=settings)
        if not bool(torch.isfinite(loss).all()):
            raise NonFiniteError(f"the loss of a value in step {step}")
        left = alive[loss.detach() >= settings.enough]
        if len(left) == 0:
            break
        adam.zero_grad()
        loss.sum().backward()
        _step(adam, injection, left, longest=settings.clamp * scale)
        if progress is not None:
            progress("steps of the values", step + 1, settings.steps)
        if len(left) < len(alive):
            alive, batch = left, _batch([rows[index] for index in cast(list[int], left.tolist())], model.device)
    return injection.detach().cpu()


def _step(
    adam: torch.optim.Adam, injection: Tensor, moving: Int[Tensor, " moving"], *, longest: Float[Tensor, " subjects"]
) -> None:
    """Move some injections by one step of Adam, none of them beyond its longest, and leave the others alone."""
    before = injection.detach().clone()
    adam.step()
    with torch.no_grad():
        length = torch.linalg.vector_norm(injection, dim=-1)
        after = injection * (longest / length.clamp(min=1e-12)).clamp(max=1.0)[:, None]
        injection.copy_(before.index_copy(0, moving, after[moving]))


def _loss(
    model: PreTrainedModel,
    batch: _Batch,
    injection: Float[Tensor, "subjects d_out"],
    *,
    site: str,
    base: Float[Tensor, "subjects vocab"],
    scale: Float[Tensor, " subjects"],
    settings: ValueSettings,
) -> Float[Tensor, " subjects"]:
    """Return each subject's loss; the vocabulary is projected at target and essence positions alone."""
    with injected(model, site, injection[batch.owner], batch.subject):
        hidden = _hidden(model, batch)
    row, place = batch.asked.T
    nll = torch.nn.functional.cross_entropy(
        project(model, hidden[row, place - 1]), batch.ids[row, place], reduction="none"
    )
    essence = project(model, hidden[batch.essence, batch.subject[batch.essence]]).log_softmax(-1)
    change = (essence.exp() * (essence - base)).sum(-1)
    decay = torch.linalg.vector_norm(injection, dim=-1) / scale**2
    return _mean_of_rows(nll, batch) + settings.kl_weight * change + settings.decay * decay


def _mean_of_rows(nll: Float[Tensor, " targets"], batch: _Batch) -> Float[Tensor, " subjects"]:
    """Average over a row's target tokens, then over a subject's rows."""
    row = batch.asked[:, 0]
    tokens = row.bincount(minlength=len(batch.owner))
    facts = batch.owner.bincount() - 1  # one of a subject's rows is its "<subject> is a"
    weight = 1 / (tokens[row] * facts[batch.owner[row]])
    return nll.new_zeros(len(facts)).index_add(0, batch.owner[row], nll * weight)


def _unedited(
    model: PreTrainedModel, batch: _Batch, layer: int
) -> tuple[Float[Tensor, " subjects"], Float[Tensor, "subjects vocab"]]:
    """Return the length of the hidden state at each subject, and what its "<subject> is a" leads to in the base."""
    stream = capture(model, lambda: _hidden(model, batch), layers=[layer]).hidden[layer]
    lengths = torch.linalg.vector_norm(stream[torch.arange(len(batch.owner)), batch.subject], dim=-1)
    scale = lengths.new_zeros(len(batch.essence)).index_add(0, batch.owner, lengths) / batch.owner.bincount()
    with torch.no_grad():
        hidden = _hidden(model, batch)[batch.essence, batch.subject[batch.essence]]
        return scale, project(model, hidden).log_softmax(-1)


def _hidden(model: PreTrainedModel, batch: _Batch) -> Float[Tensor, "rows tokens d_model"]:
    output: Any = backbone_of(model)(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
    return output.last_hidden_state


def _rows_of(
    tokenizer: PreTrainedTokenizerFast, facts: Sequence[Fact], contexts: Sequence[str], ending: str
) -> list[Row]:
    rows = [fact_row(tokenizer, fact, context=context, ending=ending) for fact in facts for context in contexts]
    return [*rows, subject_row(tokenizer, facts[0])]


def _batch(rows: Sequence[Sequence[Row]], device: torch.device) -> _Batch:
    flat = [row for own in rows for row in own]
    ids, mask = pad(flat, device=device)
    asked = [(index, place) for index, row in enumerate(flat) for place in range(row.target, len(row.ids))]
    ends = torch.tensor([len(own) for own in rows], device=device)
    return _Batch(
        ids=ids,
        mask=mask,
        owner=torch.arange(len(rows), device=device).repeat_interleave(ends),
        subject=torch.tensor([row.subject for row in flat], device=device),
        essence=ends.cumsum(0) - 1,
        asked=torch.tensor(asked, device=device),
    )
