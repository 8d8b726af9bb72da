"""Values of a batch of facts: all at once with tails, against one fact at a time over whole rows.

Both sides minimise the same loss from the same start with the same steps of Adam, so the vectors are the same up to
rounding, and are compared. The reference does what the published code does (kmeng01/memit, memit/compute_z.py; own
code here): for each fact by itself, every layer runs over every token of every row, and the vocabulary is projected at
all positions, in each step.

    python -m benchmarks.values [--data FILE] [--facts 10] [--steps 10] [--contexts 3] [--model FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from rich.progress import track

from benchmarks.ground import COUNTERFACT, console, folder_of, free_of_contradictions, named, options, timed
from benchmarks.outcome import Outcome, conclude
from editors.batch import by_subject
from editors.contexts import sample_contexts
from editors.hooks import capture, injected
from editors.layouts import sites_of
from editors.models import load_model
from editors.tokens import essence_row, fact_row, pad
from editors.values import ValueSettings, optimise_injections

GOAL = 5.0
AGREEMENT = 0.995
LAYER = 8


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, default=COUNTERFACT, help="CounterFact records")
    parser.add_argument("--facts", type=int, default=10, help="whose values are optimised")
    parser.add_argument("--steps", type=int, default=10, help="of Adam, on both sides")
    parser.add_argument("--contexts", type=int, default=3, help="the bare prompt included")
    told = parser.parse_args()
    subjects = by_subject([record.fact for record in free_of_contradictions([told.data], count=told.facts)])
    folder = folder_of(told.model)
    model, tokenizer = load_model(folder, device="cpu")
    given = {
        "contexts": sample_contexts(model, tokenizer, count=told.contexts),
        "settings": ValueSettings(steps=told.steps, step_length=0.1, enough=0.0),
    }
    ours, mine = timed(lambda: optimise_injections(model, tokenizer, subjects, layers=[LAYER], **given)[:, 0])
    theirs, rival = timed(
        lambda: [
            one_subject(model, tokenizer, facts, **given)
            for facts in track(subjects.values(), "reference", console=console)
        ]
    )
    cosines = torch.nn.functional.cosine_similarity(mine, torch.stack(rival), dim=1)
    least, median = float(cosines.min()), float(cosines.median())
    outcome = Outcome(
        what="values, all facts at once with tails, against one fact at a time over whole rows, same maths",
        goal=f">= {GOAL:.0f} x faster, cosine > {AGREEMENT}",
        reached=f"{theirs / ours:.1f} x ({ours / len(subjects):.2f} s a subject against "
        f"{theirs / len(subjects):.2f} s), cosine at least {least:.4f}",
        met=theirs / ours >= GOAL and least > AGREEMENT,
        setting=f"{folder.name}, {len(subjects)} subjects, {told.steps} steps on both sides, {told.contexts} contexts, "
        f"layer {LAYER}",
    )
    figures = {
        "reached": theirs / ours,
        "seconds a subject": {"ours": ours / len(subjects), "reference": theirs / len(subjects)},
        "cosine": {"least": least, "median": median},
        "model": folder.name,
        "layer": LAYER,
        "subjects": len(subjects),
        "steps run on both sides": told.steps,
        "contexts": told.contexts,
        "data": named([told.data]),
    }
    conclude("values", [outcome], figures=figures, device=model.device, folder=told.results)


def one_subject(model, tokenizer, facts, *, contexts, settings: ValueSettings) -> torch.Tensor:
    """One subject's injection by whole rows: every layer, every token, the vocabulary at every position."""
    asked = [
        fact_row(tokenizer, fact, context=context, ending=settings.ending) for fact in facts for context in contexts
    ]
    rows = [*asked, essence_row(tokenizer, facts[0])]
    ids, mask = pad(rows, device=model.device)
    places = torch.tensor([row.subject for row in rows])
    (site,) = sites_of(model, [LAYER])
    with torch.no_grad():
        base = model(input_ids=ids, attention_mask=mask).logits[-1, places[-1]].log_softmax(-1)
    seen = capture(model, lambda: model(input_ids=ids, attention_mask=mask), layers=[LAYER]).hidden[LAYER]
    scale = seen[torch.arange(len(asked)), places[: len(asked)]].norm(dim=-1).mean()
    injection = torch.zeros(model.config.hidden_size, requires_grad=True)
    adam = torch.optim.Adam([injection], lr=settings.step_length * float(scale) / model.config.hidden_size**0.5)
    for _ in range(settings.steps):
        with injected(model, [site], injection.expand(len(rows), 1, -1), places):
            logprobs = model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
        nll = torch.stack(
            [
                -logprobs[
                    place, torch.arange(row.target - 1, len(row.ids) - 1), torch.tensor(row.ids[row.target :])
                ].mean()
                for place, row in enumerate(asked)
            ]
        ).mean()
        essence = logprobs[-1, places[-1]]
        loss = nll + settings.kl_weight * (essence.exp() * (essence - base)).sum()
        loss = loss + settings.decay * injection.norm() / scale
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            injection.mul_((settings.clamp * scale / injection.norm()).clamp(max=1.0))
    return injection.detach()


if __name__ == "__main__":
    sys.exit(main())
