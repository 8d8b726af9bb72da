"""What a model expects behind prompts: each prompt is read once, however many targets are weighed behind it.

Rows that share a prompt share its forward pass; the first token of every target is read from the prompt's last state,
and only the further tokens of longer targets are run, on top of the prompt's cached keys and values. The vocabulary
is projected at the asked positions alone, a bounded number at a time.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from editors.decoding import Progress
from editors.layouts import backbone_of, project
from editors.tokens import Row, batches_of_like_length, pad

_TOKENS = 2048  # of a forward pass, padding included
_PADDING = 32  # of a forward pass: about what starting another one costs on a CPU
_LOGITS = 1 << 24  # held at once: 64 MB in float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a model expects behind one row's prompt.

    Attributes:
        state: the final, normed hidden state at the prompt's last token, on the CPU.
        predicted: the most probable token behind the prompt, then the one behind each target token but the last.
        logprobs: of each token of the target, in nats; none for a row without a target.
    """

    state: Float[Tensor, " d_model"]
    predicted: tuple[int, ...]
    logprobs: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean log-probability of the target's tokens."""
        return sum(self.logprobs) / len(self.logprobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prompts:
    """Some prompts that were read: their last states, and what further tokens attend to."""

    ids: list[tuple[int, ...]]
    last: Float[Tensor, "prompts d_model"]
    mask: Int[Tensor, "prompts tokens"]
    cache: DynamicCache


@torch.no_grad()
def expect(model: PreTrainedModel, rows: Sequence[Row], *, progress: Progress | None = None) -> list[Expectation]:
    """Return what a model expects behind the prompt of each row, in their order.

    Args:
        model: the model that reads.
        rows: prompt and target; what stands before the target is the prompt.
        progress: told of rows.
    """
    sharing: dict[tuple[int, ...], list[int]] = {}
    for index, row in enumerate(rows):
        sharing.setdefault(row.ids[: row.target], []).append(index)
    found: dict[int, Expectation] = {}
    for prompts in _read(model, list(sharing)):
        owners = [(place, index) for place, ids in enumerate(prompts.ids) for index in sharing[ids]]
        expected = _behind(model, prompts, [place for place, _ in owners], [rows[index] for _, index in owners])
        found.update(zip((index for _, index in owners), expected, strict=True))
        if progress is not None:
            progress("scoring", len(found), len(rows))
    return [found[index] for index in range(len(rows))]


@torch.no_grad()
def divergence(
    model: PreTrainedModel, before: Float[Tensor, "prompts d_model"], after: Float[Tensor, "prompts d_model"]
) -> Float[Tensor, " prompts"]:
    """Return KL(before || after) of the next token for pairs of final states, in nats.

    Two models whose heads are the same can be compared through their states, without their logits side by side.
    """
    found = [torch.zeros(0)]
    for chunk in torch.arange(len(before)).split(_positions(model)):
        was, now = (
            project(model, states[chunk].to(model.device)).float().log_softmax(-1) for states in (before, after)
        )
        found.append((was.exp() * (was - now)).sum(-1).clamp(min=0).cpu())
    return torch.cat(found)


def _read(model: PreTrainedModel, prompts: Sequence[tuple[int, ...]]) -> Iterator[_Prompts]:
    for chosen in batches_of_like_length([len(ids) for ids in prompts], budget=_TOKENS, padding=_PADDING):
        batch = [prompts[index] for index in chosen]
        ids, mask = pad([Row(ids=each) for each in batch], device=model.device)
        cache = DynamicCache()
        output: Any = backbone_of(model)(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)
        last = output.last_hidden_state[torch.arange(len(batch), device=model.device), mask.sum(-1) - 1]
        yield _Prompts(ids=batch, last=last, mask=mask, cache=cache)


def _behind(model: PreTrainedModel, prompts: _Prompts, owners: Sequence[int], rows: Sequence[Row]) -> list[Expectation]:
    """Return the expectation of each row, `owners` being the place of its prompt."""
    targets = [row.ids[row.target :] for row in rows]
    weighed = [place for place, target in enumerate(targets) if target]
    best, first = _read_out(
        model, prompts.last, [owners[place] for place in weighed], [targets[place][0] for place in weighed]
    )
    predicted = [[best[owner]] for owner in owners]
    logprobs = [list[float]() for _ in rows]
    for place, logprob in zip(weighed, first, strict=True):
        logprobs[place].append(logprob)
    longer = [place for place, target in enumerate(targets) if len(target) > 1]
    lengths = [len(rows[place].ids) for place in longer]
    for chosen in batches_of_like_length(lengths, budget=_TOKENS, padding=_PADDING):
        some = [longer[index] for index in chosen]
        states = _continue(model, prompts, [owners[place] for place in some], [targets[place][:-1] for place in some])
        wanted = [token for place in some for token in targets[place][1:]]
        tokens, values = _read_out(model, states, range(len(wanted)), wanted)
        likeliest, further = iter(tokens), iter(values)
        for place in some:
            for _ in targets[place][1:]:
                predicted[place].append(next(likeliest))
                logprobs[place].append(next(further))
    last = prompts.last.cpu()
    return [
        Expectation(state=last[owner], predicted=tuple(ids), logprobs=tuple(values))
        for owner, ids, values in zip(owners, predicted, logprobs, strict=True)
    ]


def _continue(
    model: PreTrainedModel, prompts: _Prompts, owners: Sequence[int], tails: Sequence[tuple[int, ...]]
) -> Float[Tensor, "tokens d_model"]:
    """Return the final states of the tokens of each tail, one tail after the other."""
    owner = torch.tensor(owners, device=model.device)
    ids, mask = pad([Row(ids=tail) for tail in tails], device=model.device)
    before = prompts.mask[owner]
    width = int(before.sum(-1).max())  # other prompts of the batch may be longer than any of these
    cache = DynamicCache(
        [
            (layer.keys[owner, :, :width], layer.values[owner, :, :width])
            for layer in cast(list[Any], prompts.cache.layers)
        ]
    )
    output: Any = backbone_of(model)(
        input_ids=ids,
        attention_mask=torch.cat([before[:, :width], mask], dim=1),
        position_ids=before.sum(-1)[:, None] + torch.arange(ids.shape[1], device=model.device),
        past_key_values=cache,
        use_cache=True,
    )
    return output.last_hidden_state[mask.bool()]


def _read_out(
    model: PreTrainedModel, states: Float[Tensor, "states d_model"], at: Sequence[int], tokens: Sequence[int]
) -> tuple[list[int], list[float]]:
    """Return the most probable token at each state, and the log-probability of tokens at some of them."""
    place, token = torch.tensor(at, dtype=torch.long), torch.tensor(tokens, dtype=torch.long)
    best = torch.empty(len(states), dtype=torch.long)
    logprobs = torch.empty(len(place))
    for chunk in torch.arange(len(states)).split(_positions(model)):
        logits = project(model, states[chunk.to(states.device)]).float()
        best[chunk] = logits.argmax(-1).cpu()
        asked = ((place >= chunk[0]) & (place <= chunk[-1])).nonzero().flatten()
        here, wanted = (place[asked] - chunk[0]).to(logits.device), token[asked].to(logits.device)
        logprobs[asked] = (logits[here, wanted] - logits.logsumexp(-1)[here]).cpu()
    return best.tolist(), logprobs.tolist()


def _positions(model: PreTrainedModel) -> int:
    """How many positions of the vocabulary may be held at once."""
    return max(1, _LOGITS // model.config.vocab_size)
