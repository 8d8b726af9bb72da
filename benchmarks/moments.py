"""Second moments of several sites: one pass that fills them all, against one pass a site.

Both sides read the same sampled text, leave the forward pass behind the last site they need, as the published code
does too, and sum in float64; the results are compared.

    python -m benchmarks.moments [--tokens 4000] [--layers 4 5 6 7 8] [--model FOLDER]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from editors.decoding import sample_rows
from editors.layouts import sites_of
from editors.models import load_model
from editors.moments import ROW_LENGTH, moments_of_text, rows_for

GOAL = 4.0
RESULT = Path(__file__).parent / "results" / "moments.json"


def main() -> None:
    options = arguments()
    model, tokenizer = load_model(options.model, device="cpu")
    sites = sites_of(model, options.layers)
    text = sample_rows(model, tokenizer, rows=rows_for(options.tokens), length=ROW_LENGTH, seed=0)
    moments_of_text(model, sites[:1], text[:4])  # the first pass of a process is slower
    began = time.perf_counter()
    together = moments_of_text(model, sites, text)
    ours = time.perf_counter() - began
    began = time.perf_counter()
    apart = {site: moments_of_text(model, [site], text)[site] for site in sites}
    theirs = time.perf_counter() - began
    row = {
        "what": f"second moments of {len(sites)} layers",
        "goal": GOAL,
        "reached": theirs / ours,
        "seconds": {"one pass": ours, "a pass a layer": theirs},
        "relative error": max(float((together[s] - apart[s]).norm() / apart[s].norm()) for s in sites),
        "setting": {
            "model": options.model.name,
            "layers": options.layers,
            "tokens": text.numel(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
    }
    Console().print(table_of(row))
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time one pass over all sites against one pass a site.")
    parser.add_argument("--tokens", type=int, default=4000)
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 5, 6, 7, 8])
    parser.add_argument("--model", type=Path, help="a folder; by default the base that the settings name")
    options = parser.parse_args()
    if options.model is None:
        from tasks.base import base_folder
        from tasks.settings import Settings

        options.model = base_folder(Settings())
    return options


def table_of(row: dict) -> Table:
    table = Table("what", "goal", "reached", "same answer", "setting", title="moments")
    seconds, setting = row["seconds"], row["setting"]
    table.add_row(
        row["what"],
        f">= {row['goal']:.0f} x",
        f"{row['reached']:.1f} x ({seconds['one pass']:.1f} s against {seconds['a pass a layer']:.1f} s)",
        f"relative error {row['relative error']:.1e}",
        f"layers {setting['layers']}, {setting['tokens']} tokens, {setting['threads']} thread(s), "
        f"torch {setting['torch']}",
    )
    return table


if __name__ == "__main__":
    main()
