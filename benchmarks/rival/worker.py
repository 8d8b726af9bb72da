"""Runs in the published code's environment: values by its compute_z, one file a fact, and then its own solve.

    python worker.py JOB.json      a line on stdout for each value; what the published code prints goes to log.txt

The job: model, threads, folder, requests, hparams, contexts (null: it samples its own), front (tokens before every
text), moments (a safetensors file of C by site, or null: values alone), weights of C to solve with.
A value that has its file is not computed again, so that an interrupted run goes on where it was.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adapt import adapted
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    disable_progress_bar()
    folder, said = Path(job["folder"]), sys.stdout
    model: Any = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32, local_files_only=True).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(job["model"], local_files_only=True)
    if job["front"]:
        tokenizer = with_front(tokenizer, job["front"], targets={request["target_new"] for request in job["requests"]})
    memit, values = adapted()
    hparams = memit.MEMITHyperParams(**job["hparams"])
    with (folder / "log.txt").open("a", encoding="utf-8", buffering=1) as log, redirect_stdout(log):
        contexts = contexts_of(memit, model, tokenizer, job["contexts"], folder / "contexts.json")
        for request in job["requests"]:
            file = folder / f"{request['case_id']}.npz"
            if not file.is_file():
                chosen = dataclasses.replace(hparams, **request["hparams"])
                keep(file, timed_value(values, model, tokenizer, request, chosen, contexts))
            print(request["case_id"], file=said, flush=True)
        if job["moments"] is not None:
            solve(memit, model, tokenizer, job, hparams, folder)


def contexts_of(memit, model, tokenizer, given, file: Path) -> list[list[str]]:
    """The contexts that the published code will use everywhere: the given ones, or its own, kept for a later run."""
    if given is None and file.is_file():
        given = json.loads(file.read_text(encoding="utf-8"))
    memit.CONTEXT_TEMPLATES_CACHE = given
    contexts = memit.get_context_templates(model, tokenizer)
    file.write_text(json.dumps(contexts), encoding="utf-8")
    return contexts


def with_front(tokenizer, front: list[int], *, targets: set[str]):
    """Return a tokenizer that puts tokens before every text but a target: of that the code takes off BOS alone."""
    tokens = tokenizer.convert_ids_to_tokens(front)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{' '.join(tokens)} $A", special_tokens=list(zip(tokens, front, strict=True))
    )

    class Fronted(type(tokenizer)):
        def __call__(self, text, *args, **options):
            behind_a_prompt = isinstance(text, str) and text in targets
            return super().__call__(text, *args, **options, add_special_tokens=not behind_a_prompt)

    tokenizer.__class__ = Fronted
    return tokenizer


def timed_value(values, model, tokenizer, request, hparams, contexts) -> dict[str, Any]:
    """One v*, its injection, the steps of Adam that it took, and wall-clock and processor seconds."""
    steps: list[torch.Tensor] = []

    def stepped(optimizer, _args, _kwargs):
        steps.append(optimizer.param_groups[0]["params"][0])

    hook = register_optimizer_step_post_hook(stepped)
    began = time.perf_counter(), time.process_time()
    value = values.compute_z(model, tokenizer, request, hparams, hparams.layers[-1], contexts)
    seconds, processor = time.perf_counter() - began[0], time.process_time() - began[1]
    hook.remove()
    injection = steps[0] if steps else torch.zeros_like(value)
    arrays = {"v_star": value.detach().numpy(), "injection": injection.detach().numpy()}
    return arrays | {"steps": len(steps), "seconds": seconds, "processor": processor}


def keep(file: Path, arrays: dict[str, Any]) -> None:
    scratch = file.with_suffix(".part.npz")
    np.savez(scratch, **arrays)
    scratch.replace(file)


def solve(memit, model, tokenizer, job, hparams, folder: Path) -> None:
    """Write the published solve's delta of each weight of C, as the two factors that it returns."""
    moments = load_file(job["moments"])
    memit.get_cov = lambda _model, _tokenizer, name, *_args, **_options: moments[f"{name}.weight"].float()
    for weight in job["weights"]:
        chosen = dataclasses.replace(hparams, mom2_update_weight=weight)
        template = str(folder / "{2}.npz")  # it formats layer, clamp and case into it
        deltas = memit.execute_memit(model, tokenizer, job["requests"], chosen, cache_template=template)
        factors = {
            f"{name}:{side}": factor.contiguous()
            for name, (keys, residuals) in deltas.items()
            for side, factor in (("left", residuals), ("right", keys.T))
        }
        save_file(factors, folder / f"deltas-{weight:g}.safetensors")


if __name__ == "__main__":
    main()
