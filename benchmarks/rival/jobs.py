"""Asking the published code, in its own environment, for values and for its solve."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor

from editors.facts import Fact
from editors.patch import Patch, smaller

SOURCE = "the settings of hparams/MEMIT/llama-7b.yaml and llama3.2-1b.yaml (zjunlp/EasyEdit)"
HPARAMS: dict[str, Any] = {
    "alg_name": "MEMIT",
    "layers": [4, 5, 6, 7, 8],
    "layer_selection": "all",
    "fact_token": "subject_last",
    "v_num_grad_steps": 25,
    "v_lr": 0.5,
    "v_weight_decay": 1e-3,
    "clamp_norm_factor": 4,
    "kl_factor": 0.0625,
    "mom2_adjustment": True,
    "mom2_update_weight": 15_000,
    "rewrite_module_tmp": "model.layers.{}.mlp.down_proj",
    "layer_module_tmp": "model.layers.{}",
    "mlp_module_tmp": "model.layers.{}.mlp",
    "attn_module_tmp": "model.layers.{}.self_attn",
    "ln_f_module": "model.norm",
    "lm_head_module": "model.embed_tokens",  # tied
    "mom2_dataset": "",
    "mom2_n_samples": 0,
    "mom2_dtype": "float32",
    "stats_dir": "",
    "device": 0,
    "model_name": "",
}
"""The published code's own settings: those files agree, the wheel brings none; and no corpus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RivalValue:
    """One value of the published code.

    Attributes:
        injection: v* less what was there.
        steps: of Adam that were made; it stops by itself at a loss below 0.05.
        seconds: by the clock.
        processor: seconds of the processor, which hardly change when other programs share the cores.
    """

    injection: Float[Tensor, " d_model"]
    steps: int
    seconds: float
    processor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """The published code on one model.

    Attributes:
        python: the interpreter of its environment.
        model: a folder.
        layers: how many the model has; the loss is taken behind the last.
    """

    python: Path
    model: Path
    layers: int

    def values(
        self,
        facts: Sequence[Fact],
        folder: Path,
        *,
        console: Console,
        hparams: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
        contexts: Sequence[str] | None = None,
        front: Sequence[int] = (),
    ) -> list[RivalValue]:
        """Return a value of each fact; those that the folder holds are not computed again.

        Args:
            facts: in the order of the values.
            folder: of these settings alone.
            console: for the progress.
            hparams: other settings than its own, by fact.
            contexts: templates, the bare one first; by default it samples its own six.
            front: tokens to put in front of every text; by default none, as the tokenizer does.
        """
        given = None if contexts is None else [[contexts[0]], list(contexts[1:])]
        self._run(facts, folder, console=console, hparams=hparams, contexts=given, front=list(front))
        return [_value(folder / f"{fact.id}.npz") for fact in facts]

    def solves(
        self,
        facts: Sequence[Fact],
        folder: Path,
        moments: Mapping[str, Float[Tensor, "d_in d_in"]],
        *,
        weights: Sequence[float],
        base: str,
        console: Console,
    ) -> list[Patch]:
        """Return the patch of its own solve from the folder's values, one for each weight of the second moments."""
        file = folder / "moments.safetensors"
        save_file({site: moment.contiguous() for site, moment in moments.items()}, file)
        self._run(facts, folder, console=console, moments=str(file), weights=list(weights))
        return [_patch(folder / f"deltas-{weight:g}.safetensors", base=base) for weight in weights]

    def _run(
        self,
        facts: Sequence[Fact],
        folder: Path,
        *,
        console: Console,
        hparams: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
        **more: object,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        requests = [
            {
                "case_id": fact.id,
                "prompt": fact.prompt,
                "subject": fact.subject,
                "target_new": f" {fact.target.strip()}",
                "hparams": dict(hparams.get(fact.id, {})),
            }
            for fact in facts
        ]
        job = {"contexts": None, "front": [], "moments": None, "weights": []} | more
        job |= {"model": str(self.model), "folder": str(folder), "threads": torch.get_num_threads()}
        job |= {"requests": requests, "hparams": HPARAMS | {"v_loss_layer": self.layers - 1}}
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        worker = Path(__file__).with_name("worker.py")
        command = [self.python, worker, folder / "job.json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in track(process.stdout, f"published: {folder.name}", total=len(facts), console=console):
                pass
        if process.returncode:
            raise SystemExit(f"the published code stopped with {process.returncode}; see above and {folder}/log.txt")


def _value(file: Path) -> RivalValue:
    with np.load(file) as arrays:
        return RivalValue(
            injection=torch.from_numpy(arrays["injection"]),
            steps=int(arrays["steps"]),
            seconds=float(arrays["seconds"]),
            processor=float(arrays["processor"]),
        )


def _patch(file: Path, *, base: str) -> Patch:
    factors = load_file(file)
    sites = sorted({name.rsplit(":", 1)[0] for name in factors})
    return Patch(base=base, deltas={site: smaller(factors[f"{site}:left"], factors[f"{site}:right"]) for site in sites})
