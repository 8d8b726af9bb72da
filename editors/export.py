"""A patch for other tools: as a LoRA adapter that PEFT and vLLM load, or as a full checkpoint.

The adapter is exact: its scaling is 1, and the factors of a delta are its own. A delta that is dense, or of a higher
rank than vLLM serves, is cut to its largest singular values, with the error stated. A checkpoint in bfloat16 is not
exact: where a delta's entry is under half a step of its weight, rounding swallows it. So what survived is stated too.

Every export is checked before it gets its name: what was written is read back and its logits are compared with those
of the patched base in float32. Both kinds know their base by digest, and neither fits another.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.digests import sha256_file
from editors.folders import files_of, whole_folder
from editors.layouts import layout_of, read_weight, site_module, sites_of
from editors.models import load_model, weights_digest
from editors.patch import LowRank, Patch, applied, apply_
from editors.reducing import Survival, cut, relative_error, survival
from editors.tokens import text_row

CARD = "export.json"
"""The file of an export that says what it was made from, what it lost, and how its files hash."""

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `max_lora_rank` (vllm/config/lora.py). It reads one rank and one alpha for the whole adapter and
no rank_pattern (vllm/lora/peft_helper.py), so all sites are padded to the same one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraExport:
    """A LoRA adapter that was written.

    Attributes:
        path: its folder.
        rank: of every site, padding included.
        errors: ||written - delta|| / ||delta|| of each site (Frobenius); 0 where the delta's own factors were written.
        logit_difference: the greatest, from the patched base; None where no prompts were given.
    """

    path: Path
    rank: int
    errors: Mapping[str, float]
    logit_difference: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointExport:
    """A full checkpoint that was written.

    Attributes:
        path: its folder.
        survival: of each site's delta, in the checkpoint's dtype.
        logit_difference: the greatest, from the patched base in float32; None where no prompts were given.
    """

    path: Path
    survival: Mapping[str, Survival]
    logit_difference: float | None


def to_lora(
    base_folder: Path,
    patch: Patch,
    folder: Path,
    *,
    base_name: str,
    dtype: torch.dtype = torch.float32,
    prompts: Sequence[str] = (),
) -> LoraExport:
    """Write a patch as a LoRA adapter: adapter_model.safetensors and adapter_config.json, as PEFT lays them out.

    Args:
        base_folder: the base that the patch was made for.
        patch: the empty one becomes an adapter of rank 1 that adds zero; PEFT refuses rank 0.
        folder: a new one, or an earlier export, which is replaced.
        base_name: what the adapter calls its base: a folder or a Hugging Face id.
        dtype: of the factors.
        prompts: where logits are compared.

    Raises:
        WrongBaseError: the patch was made for other weights.
        EditorError: a site is missing, has another shape, or holds NaN.
        FileExistsError: the folder holds something else.
        OSError: the disk is full; nothing is left behind.
    """
    model, tokenizer = load_model(base_folder, device="cpu")
    with applied(model, patch, base=weights_digest(base_folder)):
        wanted = _logits(model, tokenizer, prompts)
    factors = {site: cut(delta, rank=RANKS[-1]) for site, delta in patch.deltas.items()} or _nothing(model)
    factors = {site: LowRank(left=f.left.to(dtype), right=f.right.to(dtype)) for site, f in factors.items()}
    errors = {site: relative_error(factors[site], delta) for site, delta in patch.deltas.items()}
    rank = _accepted(max(f.left.shape[1] for f in factors.values()))
    with whole_folder(folder, card=CARD) as built:
        save_file(_adapter(factors, rank), built / "adapter_model.safetensors", metadata={"format": "pt"})
        config = _config(sorted(factors), rank, base_name=base_name, transposed=layout_of(model).transposed)
        (built / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        with _adapted(model, load_file(built / "adapter_model.safetensors")):
            difference = _greatest_difference(_logits(model, tokenizer, prompts), wanted)
        export = LoraExport(path=folder, rank=rank, errors=errors, logit_difference=difference)
        _write_card(built, patch, export, kind="lora", dtype=dtype)
    return export


def to_checkpoint(
    base_folder: Path,
    patch: Patch,
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    prompts: Sequence[str] = (),
) -> CheckpointExport:
    """Write a patched base as save_pretrained does: weights, configuration and tokenizer.

    Args:
        base_folder: the base that the patch was made for.
        patch: the empty one gives the base itself.
        folder: a new one, or an earlier export, which is replaced.
        dtype: of the weights; the patch is added before they are rounded.
        prompts: where logits are compared.

    Raises:
        WrongBaseError: the patch was made for other weights.
        EditorError: a site is missing, has another shape, or holds NaN.
        FileExistsError: the folder holds something else.
        OSError: the disk is full; nothing is left behind.
    """
    model, tokenizer = load_model(base_folder, device="cpu")
    base = weights_digest(base_folder)
    with applied(model, patch, base=base):
        wanted = _logits(model, tokenizer, prompts)
    survived = {site: survival(read_weight(model, site), delta, dtype=dtype) for site, delta in patch.deltas.items()}
    apply_(model, patch, base=base)
    with whole_folder(folder, card=CARD) as built:
        cast(Any, model).to(dtype).save_pretrained(built)
        tokenizer.save_pretrained(built)
        reloaded, _ = load_model(built, device="cpu", dtype=dtype)
        difference = _greatest_difference(_logits(reloaded, tokenizer, prompts), wanted)
        export = CheckpointExport(path=folder, survival=survived, logit_difference=difference)
        _write_card(built, patch, export, kind="checkpoint", dtype=dtype)
    return export


def _nothing(model: PreTrainedModel) -> dict[str, LowRank]:
    site = sites_of(model, [0])[0]
    d_out, d_in = read_weight(model, site).shape
    return {site: LowRank(left=torch.zeros(d_out, 1), right=torch.zeros(1, d_in))}


def _accepted(rank: int) -> int:
    return next(accepted for accepted in RANKS if accepted >= rank)


def _adapter(factors: Mapping[str, LowRank], rank: int) -> dict[str, Tensor]:
    """Name the factors as PEFT does, padded with zeros to one rank."""
    tensors: dict[str, Tensor] = {}
    for site, f in factors.items():
        missing, name = rank - f.left.shape[1], f"base_model.model.{_module(site)}"
        tensors[f"{name}.lora_A.weight"] = nn.functional.pad(f.right, (0, 0, 0, missing)).contiguous()
        tensors[f"{name}.lora_B.weight"] = nn.functional.pad(f.left, (0, missing)).contiguous()
    return tensors


def _config(sites: Sequence[str], rank: int, *, base_name: str, transposed: bool) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,  # the scaling is alpha / r
        "lora_dropout": 0.0,
        "use_rslora": False,
        "bias": "none",
        "fan_in_fan_out": transposed,
        "target_modules": [_module(site) for site in sites],
    }


def _module(site: str) -> str:
    return site.removesuffix(".weight")


@contextmanager
def _adapted(model: PreTrainedModel, adapter: Mapping[str, Tensor]) -> Generator[None]:
    """Let an adapter's sites add B A x to what they write, as PEFT computes it, while the context is open."""

    def add(a: Tensor, b: Tensor, _: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return output + inputs[0] @ a.T @ b.T

    with ExitStack() as hooks:
        for name in adapter:
            module, found, _ = name.removeprefix("base_model.model.").partition(".lora_A.weight")
            if found:
                a, b = adapter[name].float(), adapter[name.replace(".lora_A.", ".lora_B.")].float()
                hook = site_module(model, f"{module}.weight").register_forward_hook(partial(add, a, b))
                hooks.callback(hook.remove)
        yield


@torch.no_grad()
def _logits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str]) -> list[Tensor]:
    rows = [text_row(tokenizer, prompt) for prompt in prompts]
    return [model(input_ids=torch.tensor([row.ids])).logits.float() for row in rows]


def _greatest_difference(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float | None:
    return max((float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)), default=None)


def _write_card(
    folder: Path, patch: Patch, export: LoraExport | CheckpointExport, *, kind: str, dtype: torch.dtype
) -> None:
    measured = {name: value for name, value in asdict(export).items() if name != "path"}
    card = {
        "kind": kind,
        "base": patch.base,
        "patch": patch.digest,
        "dtype": str(dtype).removeprefix("torch."),
        "files": {name: sha256_file(path) for name, path in files_of(folder).items()},
    }
    (folder / CARD).write_text(json.dumps(card | measured, indent=1) + "\n", encoding="utf-8")
