"""Values of a batch of facts: all at once with tails, against one fact at a time over whole rows.

Both sides minimise the same loss from the same start with the same steps of Adam, so the vectors are the same up to
rounding, and are compared. The reference does what the published code does (kmeng01/memit, memit/compute_z.py; own
code here): for each fact by itself, every layer runs over every token of every row, and the vocabulary is projected at
all positions, in each step.

    python -m benchmarks.values [--data FILE] [--facts 20] [--steps 10] [--contexts 3] [--model FOLDER]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from editors.batch import by_subject
from editors.contexts import sample_contexts
from editors.hooks import capture, injected
from editors.layouts import sites_of
from editors.models import load_model
from editors.records import read_records
from editors.tokens import essence_row, fact_row, pad
from editors.values import ValueSettings, optimise_injections

GOAL = 5.0
LAYER = 8
DATA = Path("../shared/data/counterfact_full.jsonl")
RESULT = Path(__file__).parent / "results" / "values.json"
console = Console()


def main() -> None:
    options = arguments()
    if not options.data.is_file():
        console.print(f"skipped: {options.data} is not on this machine; name CounterFact records with --data")
        return
    model, tokenizer = load_model(options.model, device="cpu")
    subjects = by_subject([record.fact for record in read_records(options.data, limit=options.facts)])
    contexts = sample_contexts(model, tokenizer, count=options.contexts)
    settings = ValueSettings(steps=options.steps, step_length=0.1, enough=0.0)
    began = time.perf_counter()
    mine = optimise_injections(model, tokenizer, subjects, layers=[LAYER], contexts=contexts, settings=settings)[:, 0]
    ours = time.perf_counter() - began
    began = time.perf_counter()
    rival = torch.stack(
        [
            one_subject(model, tokenizer, facts, contexts=contexts, settings=settings)
            for facts in track(subjects.values(), "reference", console=console)
        ]
    )
    theirs = time.perf_counter() - began
    cosines = torch.nn.functional.cosine_similarity(mine, rival, dim=1)
    row = {
        "what": f"values of {len(subjects)} subjects, same settings and maths",
        "goal": GOAL,
        "reached": theirs / ours,
        "seconds a subject": {"ours": ours / len(subjects), "reference": theirs / len(subjects)},
        "cosine": {"least": float(cosines.min()), "median": float(cosines.median())},
        "setting": {
            "model": options.model.name,
            "layer": LAYER,
            "steps run on both sides": options.steps,
            "contexts": len(contexts),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
    }
    console.print(table_of(row))
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


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
    scale = seen[torch.arange(len(rows)), places].norm(dim=-1).mean()
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


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time the values of a batch against one fact at a time.")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--facts", type=int, default=20)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--contexts", type=int, default=3)
    parser.add_argument("--model", type=Path, help="a folder; by default the base that the settings name")
    options = parser.parse_args()
    if options.model is None:
        from tasks.base import base_folder
        from tasks.settings import Settings

        options.model = base_folder(Settings())
    return options


def table_of(row: dict) -> Table:
    table = Table("what", "goal", "reached", "same answer", "setting", title="values")
    seconds, setting = row["seconds a subject"], row["setting"]
    table.add_row(
        row["what"],
        f">= {row['goal']:.0f} x",
        f"{row['reached']:.1f} x ({seconds['ours']:.2f} s a subject against {seconds['reference']:.2f} s)",
        f"cosine at least {row['cosine']['least']:.4f}, median {row['cosine']['median']:.4f}",
        f"{setting['steps run on both sides']} steps, {setting['contexts']} contexts, layer {setting['layer']}, "
        f"{setting['threads']} thread(s), torch {setting['torch']}",
    )
    return table


if __name__ == "__main__":
    main()
