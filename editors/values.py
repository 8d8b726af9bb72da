"""Values v*: what sites have to write at a subject's last token for the model to say the targets.

The unit is a subject: one vector a site is optimised over all its facts in all contexts, so that two facts with the
same key do not pull against each other. Subjects are independent of each other and run in one batch; weights are
frozen, and each step reruns only what depends on the vectors (tails.py). A value is kept as its injection, v* - W k:
what is added to the site's output. Meng et al. call it delta.

    loss = mean over facts and contexts of NLL(target and full stop)
         + kl_weight * KL(edited || base) at the subject in "<subject> is a"
         + decay * length

Lengths are in those of a yardstick: the hidden state at the subject, or the site's own output where a norm stands
behind it, as in Gemma (outputnorms.py). So step length, clamp and decay mean the same in every model. With S sites,
length is sqrt(S) times the norm of all of a subject's injections together, which is what one injection with the same
effect would have.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.batch import Subjects
from editors.decoding import Progress
from editors.errors import NonFiniteError
from editors.facts import Fact
from editors.hooks import injected
from editors.layouts import project, sites_of
from editors.outputnorms import yardstick
from editors.ranges import above_zero, not_negative
from editors.tails import Tails, rerun, tails_of
from editors.tokens import Row, batches_of_like_length, essence_row, fact_row

HEADS = 6
"""Tokens before the subject that take as much memory as one from it on: of them only keys and values are held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSettings:
    """How a value is optimised.

    The defaults are for names of several tokens that a small model has never seen together, and were chosen on the
    thirteen facts of examples/: SmolLM2-135M says all of them. Longer steps say them too, and disturb more
    (docs/editing.md).

    Attributes:
        steps: of Adam, at most.
        step_length: the norm of Adam's first step over all sites together, in lengths of the yardstick.
        clamp: the longest injection, in lengths of the yardstick.
        kl_weight: of the change in what "<subject> is a" leads to.
        decay: of the injection's length, in lengths of the yardstick.
        enough: a subject whose loss is below this is done.
        ending: put behind each target, so that the model stops there.
        budget: tokens in a batch, padding included, where HEADS before a subject count as one; it bounds the memory
            (about 1.7 MB a token for a 135M model).
    """

    steps: int = 20
    step_length: float = 0.07
    clamp: float = 1.5
    kl_weight: float = 0.0625
    decay: float = 0.003
    enough: float = 0.1
    ending: str = "."
    budget: int = 512

    def __post_init__(self) -> None:
        above_zero(self, "steps", "step_length", "clamp", "budget")
        not_negative(self, "kl_weight", "decay", "enough")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """The tails of some subjects' rows; every one is injected at its first token.

    A row's last token is only looked for and never read, so it is not part of its tail.

    Attributes:
        tails: each subject's facts in all contexts.
        owner: which subject each of these rows belongs to.
        asked: row and position of what a target token is read from.
        targets: these tokens.
        essence: each subject's "<subject> is a", up to the subject.
    """

    tails: Tails
    owner: Int[Tensor, " rows"]
    asked: Int[Tensor, "targets 2"]
    targets: Int[Tensor, " targets"]
    essence: Tails

    def select(self, subjects: Int[Tensor, " chosen"]) -> _Batch:
        """Return the batch of some of the subjects."""
        rows = torch.isin(self.owner, subjects).nonzero().flatten()
        place = torch.full_like(self.owner, -1)
        place[rows] = torch.arange(len(rows), device=rows.device)
        row, position = self.asked.T
        kept = place[row] >= 0
        return _Batch(
            tails=self.tails.select(rows),
            owner=torch.searchsorted(subjects, self.owner[rows]),
            asked=torch.stack([place[row[kept]], position[kept]], dim=1),
            targets=self.targets[kept],
            essence=self.essence.select(subjects),
        )


def optimise_injections(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    subjects: Subjects,
    *,
    layers: Sequence[int],
    contexts: Sequence[str],
    settings: ValueSettings,
    progress: Progress | None = None,
) -> Float[Tensor, "subjects sites d_out"]:
    """Return the injections of each subject, in the order of the subjects, a row for each layer's site.

    Args and Raises are those of `optimise_in_batches`.
    """
    found = torch.zeros(len(subjects), len(layers), model.config.hidden_size)
    for chosen, injections in optimise_in_batches(
        model, tokenizer, subjects, layers=layers, contexts=contexts, settings=settings, progress=progress
    ):
        found[chosen] = injections
    return found


def optimise_in_batches(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    subjects: Subjects,
    *,
    layers: Sequence[int],
    contexts: Sequence[str],
    settings: ValueSettings,
    progress: Progress | None = None,
) -> Iterator[tuple[list[int], Float[Tensor, "chosen sites d_out"]]]:
    """Yield the places of the subjects of each batch and their injections, as soon as they are optimised.

    Args:
        model: the base; it is not changed.
        tokenizer: its own.
        subjects: the facts of each.
        layers: whose sites are written, in ascending order.
        contexts: templates with one `{}` for the filled prompt.
        settings: how to optimise.
        progress: told of subjects, and of the steps for those at work.

    Raises:
        SubjectNotFoundError: a subject has no token of its own in a prompt.
        NonFiniteError: a loss is NaN or infinite.

    Source: Meng et al. 2023 (MEMIT), section 4.3, equation 16, arXiv:2210.07229, for one site.
    """
    done = 0
    for chosen, whole in _batches(model, tokenizer, subjects, first=layers[0], contexts=contexts, settings=settings):
        injections = _optimise(model, whole, layers=layers, settings=settings, progress=progress)
        done += len(chosen)
        if progress is not None:
            progress("values", done, len(subjects))
        yield chosen, injections


@torch.no_grad()
def losses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    subjects: Subjects,
    injections: Float[Tensor, "subjects sites d_out"],
    *,
    layers: Sequence[int],
    contexts: Sequence[str],
    settings: ValueSettings,
) -> Float[Tensor, " subjects"]:
    """Return the loss that each subject's injections leave: one pass, in which nothing is optimised.

    Args:
        model: the base.
        tokenizer: its own.
        subjects: the facts of each.
        injections: of each, in the order of the subjects.
        layers: whose sites are written.
        contexts: that the injections were optimised in.
        settings: that they were optimised with.

    Raises:
        SubjectNotFoundError: a subject has no token of its own in a prompt.
    """
    found = torch.zeros(len(subjects))
    sites = sites_of(model, layers)
    for chosen, whole in _batches(model, tokenizer, subjects, first=layers[0], contexts=contexts, settings=settings):
        scale, base = _unedited(model, whole, layers[-1])
        own = injections[chosen].to(model.device, torch.float32)
        relative = own / scale[:, None, None]
        found[chosen] = _loss(model, whole, relative, sites=sites, base=base, scale=scale, settings=settings).cpu()
    return found


def _batches(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    subjects: Subjects,
    *,
    first: int,
    contexts: Sequence[str],
    settings: ValueSettings,
) -> Iterator[tuple[list[int], _Batch]]:
    """Yield the places of the subjects that are worked on together, and their rows."""
    rows = [_rows_of(tokenizer, facts, contexts, settings.ending) for facts in subjects.values()]
    essences = [essence_row(tokenizer, facts[0]) for facts in subjects.values()]
    lengths = [max(_held(row) for row in own) for own in rows]
    for chosen in batches_of_like_length(lengths, budget=settings.budget, rows=[len(own) for own in rows]):
        yield chosen, _batch(model, [rows[index] for index in chosen], [essences[index] for index in chosen], first)


def _optimise(
    model: PreTrainedModel,
    whole: _Batch,
    *,
    layers: Sequence[int],
    settings: ValueSettings,
    progress: Progress | None,
) -> Float[Tensor, "subjects sites d_out"]:
    """Run Adam for all subjects of a batch at once; one whose loss is low enough keeps its injections and leaves."""
    sites = sites_of(model, layers)
    batch = whole
    scale, base = _unedited(model, whole, layers[-1])
    shape = (len(base), len(sites), model.config.hidden_size)
    relative = torch.zeros(shape, device=model.device, requires_grad=True)
    adam = torch.optim.Adam([relative], lr=settings.step_length / (len(sites) * model.config.hidden_size) ** 0.5)
    alive = torch.arange(len(base), device=model.device)
    for step in range(settings.steps):
        loss = _loss(
            model, batch, relative[alive], sites=sites, base=base[alive], scale=scale[alive], settings=settings
        )
        if not bool(torch.isfinite(loss).all()):
            raise NonFiniteError(f"the loss of a value in step {step}")
        unfinished = loss.detach() >= settings.enough
        left = alive[unfinished]
        if len(left) == 0:
            break
        adam.zero_grad()
        loss[unfinished].sum().backward(inputs=[relative])
        _step(adam, relative, left, longest=settings.clamp)
        if progress is not None:
            progress("steps of the values", step + 1, settings.steps)
        if len(left) < len(alive):
            alive, batch = left, whole.select(left)
    return (relative.detach() * scale[:, None, None]).cpu()


def _step(adam: torch.optim.Adam, relative: Tensor, moving: Int[Tensor, " moving"], *, longest: float) -> None:
    """Move some injections by one step of Adam, none of them beyond the longest, and leave the others alone."""
    before = relative.detach().clone()
    adam.step()
    with torch.no_grad():
        shrunk = (longest / _length(relative).clamp(min=1e-12)).clamp(max=1.0)
        after = relative * shrunk[:, None, None]
        relative.copy_(before.index_copy(0, moving, after[moving]))


def _length(injections: Float[Tensor, "subjects sites d_out"]) -> Float[Tensor, " subjects"]:
    """The length of one injection that does as much as those of all sites together."""
    return torch.linalg.vector_norm(injections, dim=(1, 2)) * injections.shape[1] ** 0.5


def _loss(
    model: PreTrainedModel,
    batch: _Batch,
    relative: Float[Tensor, "subjects sites d_out"],
    *,
    sites: Sequence[str],
    base: Float[Tensor, "subjects vocab"],
    scale: Float[Tensor, " subjects"],
    settings: ValueSettings,
) -> Float[Tensor, " subjects"]:
    """Return each subject's loss; the vocabulary is projected at target and essence positions alone."""
    injections = relative * scale[:, None, None]
    start = torch.zeros_like(batch.owner)
    with injected(model, sites, injections[batch.owner], start):
        hidden = rerun(model, batch.tails)
    with injected(model, sites, injections, start[: len(injections)]):
        essence = _expected(model, batch)
    row, place = batch.asked.T
    logits = project(model, hidden[row, place]).float()
    nll = torch.nn.functional.cross_entropy(logits, batch.targets, reduction="none")
    change = (essence.exp() * (essence - base)).sum(-1)
    return _mean_of_rows(nll, batch) + settings.kl_weight * change + settings.decay * _length(relative)


def _mean_of_rows(nll: Float[Tensor, " targets"], batch: _Batch) -> Float[Tensor, " subjects"]:
    """Average over a row's target tokens, then over a subject's rows."""
    row = batch.asked[:, 0]
    rows = batch.owner.bincount()
    weight = 1 / (row.bincount()[row] * rows[batch.owner[row]])
    return nll.new_zeros(len(rows)).index_add(0, batch.owner[row], nll * weight)


@torch.no_grad()
def _unedited(
    model: PreTrainedModel, batch: _Batch, layer: int
) -> tuple[Float[Tensor, " subjects"], Float[Tensor, "subjects vocab"]]:
    """Return what each subject's injection is measured by, and what its "<subject> is a" leads to in the base."""
    against = yardstick(model, lambda: rerun(model, batch.tails), layer=layer)
    lengths = torch.linalg.vector_norm(against[:, 0].float(), dim=-1)
    rows = batch.owner.bincount()
    scale = lengths.new_zeros(len(rows)).index_add(0, batch.owner, lengths) / rows
    return scale, _expected(model, batch)


def _expected(model: PreTrainedModel, batch: _Batch) -> Float[Tensor, "subjects vocab"]:
    """Return the log-probabilities of what follows each subject in "<subject> is a"."""
    return project(model, rerun(model, batch.essence)[:, 0]).float().log_softmax(-1)


def _rows_of(
    tokenizer: PreTrainedTokenizerFast, facts: Sequence[Fact], contexts: Sequence[str], ending: str
) -> list[Row]:
    return [fact_row(tokenizer, fact, context=context, ending=ending) for fact in facts for context in contexts]


def _held(row: Row) -> int:
    """Return what a row takes of the budget; its last token is not part of its tail."""
    return len(row.ids) - 1 - row.subject + -(-row.subject // HEADS)


def _batch(model: PreTrainedModel, rows: Sequence[Sequence[Row]], essences: Sequence[Row], first: int) -> _Batch:
    flat = [row for own in rows for row in own]
    asked = [(index, place) for index, row in enumerate(flat) for place in range(row.target, len(row.ids))]
    read = [Row(ids=row.ids[:-1], subject=row.subject, target=row.target) for row in flat]
    device = model.device
    return _Batch(
        tails=tails_of(model, read, first=first),
        owner=torch.arange(len(rows), device=device).repeat_interleave(
            torch.tensor([len(own) for own in rows], device=device)
        ),
        asked=torch.tensor([(index, place - 1 - flat[index].subject) for index, place in asked], device=device),
        targets=torch.tensor([flat[index].ids[place] for index, place in asked], device=device),
        essence=tails_of(model, essences, first=first),
    )
