"""Peak memory of batches of `joint`: bounded by the tokens of a batch of the optimisation, not by the number of facts.

Each size is edited in a process of its own, which reports its high-water mark: Python, torch and the second moments
count, not only what the edit takes. What a step holds, it gives back before the next one; so one step shows as high a
mark as twenty do.

    python -m benchmarks.memory [--facts 50 200 1000] [--steps 1] [--budget 512] [--data FILE ...] [--model FOLDER]
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.ground import (
    COUNTERFACT,
    COUNTERFACT_SIMPLE,
    base_of,
    folder_of,
    free_of_contradictions,
    named,
    options,
)
from benchmarks.outcome import Outcome, conclude
from editors.joint import Joint, edit
from editors.values import ValueSettings
from tasks.machine import peak_memory

GOAL = 2 * 2**30
FLAT = 1.1  # the largest size against the one before
_DEFAULTS = ValueSettings()


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, nargs="+", default=[COUNTERFACT, COUNTERFACT_SIMPLE], help="records")
    parser.add_argument("--facts", type=int, nargs="+", default=[50, 200, 1000], help="sizes, each by itself")
    parser.add_argument("--steps", type=int, default=1, help="of the optimisation, at most")
    parser.add_argument("--budget", type=int, default=_DEFAULTS.budget, help="tokens in a batch of the optimisation")
    parser.add_argument("--here", action="store_true", help="edit the one size in this process, and print what it held")
    told = parser.parse_args()
    if told.here:
        print(json.dumps(edited_here(told)))
        return
    free_of_contradictions(told.data, count=max(told.facts))
    told.model = folder_of(told.model)
    held = {facts: edited_apart(facts, told) for facts in told.facts}
    above = {facts: each["peak"] - each["model"] for facts, each in held.items()}
    sizes = sorted(above)
    smaller, largest = (above[size] for size in (sizes[-2:][0], sizes[-1]))
    outcome = Outcome(
        what=f"peak memory of a {max(held):,}-fact batch",
        goal="under model + 2 GiB, flat in the number of facts",
        reached="model + " + ", ".join(f"{rest / 2**30:.2f} GiB at {facts:,}" for facts, rest in above.items()),
        met=largest < GOAL and largest <= FLAT * smaller,
        setting=f"{told.model.name} of {held[sizes[-1]]['model'] / 2**30:.2f} GiB, joint, {told.steps} step(s), "
        f"{told.budget} tokens in a batch; high-water mark of a process of its own for each size, all included",
    )
    figures = {"bytes": held, "steps": told.steps, "budget": told.budget, "data": named(told.data)}
    conclude("memory", [outcome], figures=figures, device=torch.device("cpu"), folder=told.results)


def edited_apart(facts: int, told) -> dict[str, int]:
    """Edit one size in a fresh process, and return the bytes of the model and those that the process held at most."""
    words = ["--here", "--facts", facts, "--steps", told.steps, "--budget", told.budget, "--model", told.model]
    command = [sys.executable, "-m", "benchmarks.memory", *map(str, words), "--data", *map(str, told.data)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()[-1])


def edited_here(told) -> dict[str, int]:
    """Edit one size in this process, and return the bytes of the model and those that the process held at most."""
    (facts,) = told.facts
    config = Joint(values=dataclasses.replace(_DEFAULTS, steps=told.steps, budget=told.budget))
    records = free_of_contradictions(told.data, count=facts)
    base = base_of(told.model, config, progress=lambda what, done, total: None)
    edit(
        base.model,
        base.tokenizer,
        [record.fact for record in records],
        config=config,
        material=base.prepared.material,
    )
    weights = sum(weight.numel() * weight.element_size() for weight in base.model.parameters())
    return {"model": weights, "peak": peak_memory(base.model.device)["process"]}


if __name__ == "__main__":
    sys.exit(main())
