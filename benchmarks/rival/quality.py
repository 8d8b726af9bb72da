"""What each editor makes of all records: its own values and solve, the same second moments, the same questions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from benchmarks.rival.bench import Bench
from benchmarks.rival.jobs import HPARAMS
from benchmarks.rival.paired import score_difference
from editors.joint import Joint
from editors.layouts import sites_of
from editors.measuring import Measured, measure
from editors.memit import Memit
from editors.metrics import metrics
from editors.patch import Patch, applied
from editors.registry import edit
from editors.shapes import Record

WEIGHTS = (HPARAMS["mom2_update_weight"], Memit().moment_weight)
"""Of the second moments in the published solve: its own, and the one that suits this model."""


def scores(bench: Bench, records: Sequence[Record]) -> dict[str, Any]:
    """What each editor makes of all records, and ours less the published one, paired by record."""
    facts, folder = [record.fact for record in records], bench.cache / "own"
    material = bench.prepared.material
    bench.rival.values(facts, folder, console=bench.console)
    moments = {site: material.moment(site) for site in sites_of(bench.model, HPARAMS["layers"])}
    solved = bench.rival.solves(facts, folder, moments, weights=WEIGHTS, base=material.base, console=bench.console)
    patches = {f"published, weight {weight:g}": patch for weight, patch in zip(WEIGHTS, solved, strict=True)}
    for name, config in (("memit", Memit()), ("joint", Joint())):
        patches[name] = edit(bench.model, bench.tokenizer, facts, config=config, material=bench.material(config))
    before = ask(bench, records, Patch(base=material.base), "unedited")
    after = {name: ask(bench, records, patch, name) for name, patch in patches.items()}
    rivals = [name for name in after if name.startswith("published")]
    return {
        "records": len(records),
        "editors": {
            name: {
                "perplexity": measured.text.value,
                "metrics": [dataclasses.asdict(metric) for metric in metrics(before, measured)],
            }
            for name, measured in {"unedited": before, **after}.items()
        },
        "differences": {
            name: {rival: dataclasses.asdict(score_difference(after[name], after[rival])) for rival in rivals}
            for name in ("memit", "joint")
        },
    }


def ask(bench: Bench, records: Sequence[Record], patch: Patch, name: str) -> Measured:
    bench.console.print(f"asking: {name}")
    with applied(bench.model, patch, base=bench.prepared.material.base):
        return measure(bench.model, bench.tokenizer, records, held=bench.prepared.held)
