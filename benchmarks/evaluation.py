"""Evaluating CounterFact records: one pass over all prompts against a pass a record, as the published code does.

Both sides weigh the same targets behind the same prompts, from the same tokens, on the same machine in one run, and
their numbers are compared. The reference runs each record's prompts, every one with its target and with its prior, as
one padded batch through the whole model, with the logits of the whole vocabulary at every position, and reads each
token's log-probability off them one by one (kmeng01/memit, experiments/py/eval_utils_counterfact.py; own code here).

    python -m benchmarks.evaluation [--data FILE] [--limit 100] [--model FOLDER]
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from editors.artifacts import write_atomically
from editors.digests import sha256_file
from editors.measuring import probes_of
from editors.models import load_model
from editors.records import read_records
from editors.scoring import weigh
from editors.tokens import answer_row, pad

GOAL = 5.0
DATA = Path("../shared/data/counterfact_full.jsonl")
RESULT = Path(__file__).parent / "results" / "evaluation.json"
console = Console()


def main():
    options = arguments()
    if not options.data.is_file():
        console.print(f"skipped: {options.data} is not on this machine; name CounterFact records with --data")
        return
    model, tokenizer = load_model(options.model or base_folder(), device="cpu")
    records = [probes_of(record) for record in read_records(options.data, limit=options.limit)]
    probes = [probe for record in records for probe in record]
    ours(model, tokenizer, records[0])
    reference(model, tokenizer, records[0])
    before, _ = timed(lambda: ours(model, tokenizer, probes))
    rival, expected = timed(
        lambda: [pair for record in track(records, "reference") for pair in reference(model, tokenizer, record)]
    )
    after, found = timed(lambda: ours(model, tokenizer, probes))
    mine = max(before, after)
    result = {
        "goal": GOAL,
        "reached": rival[0] / mine[0],
        "reached in processor time": rival[1] / mine[1],
        "seconds": {"ours, before": before[0], "ours, after": after[0], "reference": rival[0]},
        "processor seconds": {"ours, before": before[1], "ours, after": after[1], "reference": rival[1]},
        "largest difference in nats": float((torch.tensor(found) - torch.tensor(expected)).abs().max()),
        "records": len(records),
        "prompts": len(probes),
        "data": {"name": options.data.name, "sha256": sha256_file(options.data)},
        "machine": {"cpu": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    show(result)
    write_atomically(RESULT, json.dumps(result, indent=2).encode())


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=DATA, help="CounterFact records")
    parser.add_argument("--limit", type=int, default=100, help="how many of them")
    parser.add_argument("--model", type=Path, help="a folder; by default the base that the settings name")
    return parser.parse_args()


def base_folder():
    from tasks import base, settings

    return base.base_folder(settings.connect(), report=console.print)


def timed(work):
    """Wall-clock and processor seconds; the latter hardly change when other programs share the cores."""
    began = time.perf_counter(), time.process_time()
    found = work()
    return (time.perf_counter() - began[0], time.process_time() - began[1]), found


def ours(model, tokenizer, probes):
    return [(each.target_logprob, each.prior_logprob) for each in weigh(model, tokenizer, probes)]


@torch.no_grad()
def reference(model, tokenizer, probes):
    rows = [answer_row(tokenizer, probe.prompt, answer) for probe in probes for answer in (probe.target, probe.prior)]
    ids, mask = pad(rows, device=model.device)
    logits = model(input_ids=ids, attention_mask=mask).logits
    means = []
    for place, row in enumerate(rows):
        total = 0.0
        for at in range(row.target, len(row.ids)):
            total += logits[place, at - 1].log_softmax(0)[row.ids[at]].item()
        means.append(total / (len(row.ids) - row.target))
    return list(zip(means[::2], means[1::2], strict=True))


def show(result):
    table = Table("what", "goal", "reached", "setting", title="evaluation")
    table.add_row(
        f"evaluation of {result['records']} records against the per-record reference",
        f">= {GOAL:.0f} x faster",
        f"[{'green' if result['reached'] >= GOAL else 'red'}]{result['reached']:.1f} x[/]",
        f"{result['prompts']} prompts with target and prior; {result['seconds']['reference']:.1f} s against "
        f"{max(result['seconds']['ours, before'], result['seconds']['ours, after']):.1f} s; "
        f"{result['reached in processor time']:.1f} x in processor time; "
        f"{result['machine']['threads']} threads; same log-probabilities within "
        f"{result['largest difference in nats']:.0e} nats",
    )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
