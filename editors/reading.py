"""Keys and hidden states at the subjects of a batch, averaged over each one's rows."""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from editors.hooks import capture, injected
from editors.layouts import backbone_of
from editors.tokens import Row, batches_of_like_length, pad


def read_subjects(
    model: PreTrainedModel,
    rows: Sequence[Sequence[Row]],
    *,
    sites: Sequence[str],
    layers: Sequence[int] = (),
    injections: Float[Tensor, "edits sites d_out"] | None = None,
    budget: int,
) -> tuple[dict[str, Float[Tensor, "edits d_in"]], dict[int, Float[Tensor, "edits d_model"]]]:
    """Return the key of each site and the hidden state after each layer at the subjects' last tokens, in float64.

    Args:
        model: the base, or a model that is edited at earlier layers.
        rows: of each edit, cut behind the subject.
        sites: whose keys are wanted.
        layers: after which the hidden state is wanted.
        injections: held at the sites meanwhile, a row an edit.
        budget: tokens in a forward pass, padding included.
    """
    owner = [edit for edit, own in enumerate(rows) for _ in own]
    flat = [row for own in rows for row in own]
    keys: dict[str, Tensor] = {}
    hidden: dict[int, Tensor] = {}
    for chosen in batches_of_like_length([len(row.ids) for row in flat], budget=budget):
        ids, mask = pad([flat[index] for index in chosen], device=model.device)
        owners = torch.tensor([owner[index] for index in chosen])
        last = torch.tensor([flat[index].subject for index in chosen], device=model.device)
        held = (
            nullcontext()
            if injections is None
            else injected(model, sites, injections[owners].to(model.device, model.dtype), last)
        )
        with held:
            seen = capture(
                model,
                lambda ids=ids, mask=mask: backbone_of(model)(input_ids=ids, attention_mask=mask, use_cache=False),
                sites=sites,
                layers=layers,
            )
        places = torch.arange(len(chosen), device=model.device)
        for total, states in [
            *((keys.setdefault(site, _zeros(rows, states)), states) for site, states in seen.keys.items()),
            *((hidden.setdefault(layer, _zeros(rows, states)), states) for layer, states in seen.hidden.items()),
        ]:
            total.index_add_(0, owners, states[places, last].double().cpu())
    sizes = torch.tensor([len(own) for own in rows]).double()[:, None]
    return {site: total / sizes for site, total in keys.items()}, {at: total / sizes for at, total in hidden.items()}


def _zeros(rows: Sequence[Sequence[Row]], states: Tensor) -> Float[Tensor, "edits dimensions"]:
    return torch.zeros(len(rows), states.shape[-1], dtype=torch.float64)
