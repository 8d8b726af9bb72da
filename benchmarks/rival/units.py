"""One optimisation in two units: ours are lengths of the hidden state, the published code's are the model's own.

Ours measures by s, the mean norm of the hidden state at the subject over all contexts; the published code measures its
clamp and decay by h, the norm in the bare prompt alone, and its step not at all. With equal paths of the vector:

    v_lr = step_length s / sqrt(d_model)      clamp_norm_factor = clamp s / h      v_weight_decay = decay h^2 / s
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.facts import Fact
from editors.hooks import capture
from editors.layouts import backbone_of
from editors.tokens import fact_row, pad
from editors.values import ValueSettings


@torch.no_grad()
def published_hparams(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    fact: Fact,
    *,
    layer: int,
    contexts: Sequence[str],
    settings: ValueSettings,
) -> dict[str, float]:
    """Return the published code's settings that are ours at a subject with one fact.

    Args:
        model: the base; without a norm behind the site.
        tokenizer: its own.
        fact: the only one of its subject.
        layer: where the value is optimised.
        contexts: templates, the bare one first.
        settings: ours.
    """
    rows = [fact_row(tokenizer, fact, context=context, ending=settings.ending) for context in contexts]
    ids, mask = pad(rows, device=model.device)
    seen = capture(model, lambda: backbone_of(model)(input_ids=ids, attention_mask=mask), layers=[layer])
    norms = seen.hidden[layer][torch.arange(len(rows)), [row.subject for row in rows]].norm(dim=-1)
    bare, mean = float(norms[0]), float(norms.mean())
    return {
        "v_num_grad_steps": settings.steps + 1,  # the last one only looks at the loss
        "v_lr": settings.step_length * mean / model.config.hidden_size**0.5,
        "clamp_norm_factor": settings.clamp * mean / bare,
        "v_weight_decay": settings.decay * bare**2 / mean,
        "kl_factor": settings.kl_weight,
    }
