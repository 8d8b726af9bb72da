"""Second moments of several sites: one pass that fills them all, against one pass a site.

Both sides read the same sampled text, leave the forward pass behind the last site they need, as the published code
does too, and sum in float64; the results are compared.

    python -m benchmarks.moments [--tokens 4000] [--layers 4 5 6 7 8] [--model FOLDER]
"""

from __future__ import annotations

import sys

from benchmarks.ground import folder_of, options, timed
from benchmarks.outcome import Outcome, conclude
from editors.decoding import sample_rows
from editors.layouts import sites_of
from editors.models import load_model
from editors.moments import ROW_LENGTH, moments_of_text, rows_for

GOAL = 4.0


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--tokens", type=int, default=4000, help="that are read, at least")
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 5, 6, 7, 8], help="whose sites are filled")
    told = parser.parse_args()
    folder = folder_of(told.model)
    model, tokenizer = load_model(folder, device="cpu")
    sites = sites_of(model, told.layers)
    text = sample_rows(model, tokenizer, rows=rows_for(told.tokens), length=ROW_LENGTH, seed=0)
    moments_of_text(model, sites[:1], text[:4])  # the first pass of a process is slower
    ours, together = timed(lambda: moments_of_text(model, sites, text))
    theirs, apart = timed(lambda: {site: moments_of_text(model, [site], text)[site] for site in sites})
    error = max(float((together[site] - apart[site]).norm() / apart[site].norm()) for site in sites)
    most = sum(layer + 1 for layer in told.layers) / (max(told.layers) + 1)
    outcome = Outcome(
        what=f"second moments of {len(sites)} layers in one pass, against a pass a layer that stops behind it",
        goal=f">= {GOAL:.0f} x faster",
        reached=f"{theirs / ours:.1f} x ({ours:.1f} s against {theirs:.1f} s), relative error {error:.0e}",
        met=theirs / ours >= GOAL,
        setting=f"{folder.name}, layers {told.layers}, {text.numel()} tokens; {most:.1f} x fewer layers are run",
    )
    figures = {
        "reached": theirs / ours,
        "seconds": {"one pass": ours, "a pass a layer": theirs},
        "relative error": error,
        "layers run": {"one pass": max(told.layers) + 1, "a pass a layer": sum(layer + 1 for layer in told.layers)},
        "model": folder.name,
        "layers": told.layers,
        "tokens": text.numel(),
    }
    conclude("moments", [outcome], figures=figures, device=model.device, folder=told.results)


if __name__ == "__main__":
    sys.exit(main())
