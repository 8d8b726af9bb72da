"""A patch for other tools: as a LoRA adapter that PEFT and vLLM load, or as a full checkpoint.

The adapter is exact: its scaling is 1, and the factors of a delta are its own. A delta that is dense, or of a higher
rank than vLLM serves, is cut to its largest singular values, with the error stated. A checkpoint in bfloat16 is not
exact: where a delta's entry is under half a step of its weight, rounding swallows it. So what survived is stated too.

What was written is read back, and its logits are compared with those of the patched base in float32.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.building import equal, write_patched
from editors.contents import json_of, naming
from editors.digests import canonical_json
from editors.errors import UnprovenError
from editors.layouts import layout_of, read_weight, site_module, sites_of
from editors.models import load_model, weights_digest
from editors.patch import Delta, LowRank, Patch, applied
from editors.reducing import Survival, cut, is_whole, relative_error, survival
from editors.tokens import text_row

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `max_lora_rank` (vllm/config/lora.py). It reads one rank and one alpha for the whole adapter and
no rank_pattern (vllm/lora/peft_helper.py), so all sites are padded to the same one."""


SLACK: Mapping[torch.dtype, float] = {torch.float32: 1.0001, torch.bfloat16: 1.01}
"""By how much another machine's factors of a delta that was cut may be further from it than ours, by their precision:
the least distance is one and the same, though the factors that reach it are not, but for how they are rounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterLoss:
    """What a LoRA adapter lost.

    Attributes:
        rank: of every site, padding included.
        errors: ||written - delta|| / ||delta|| of each site (Frobenius); 0 where the delta's own factors were written.
        logit_difference: the greatest, from the patched base; None where no prompts were given.
    """

    rank: int
    errors: Mapping[str, float]
    logit_difference: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointLoss:
    """What a full checkpoint lost.

    Attributes:
        survival: of each site's delta, in the checkpoint's dtype.
        logit_difference: the greatest, from the patched base in float32; None where no prompts were given.
    """

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
) -> AdapterLoss:
    """Write a patch as a LoRA adapter: adapter_model.safetensors and adapter_config.json, as PEFT lays them out.

    Args:
        base_folder: the base that the patch was made for.
        patch: the empty one becomes an adapter of rank 1 that adds zero; PEFT refuses rank 0.
        folder: an empty one.
        base_name: what the adapter calls its base: a folder or a Hugging Face id.
        dtype: of the factors.
        prompts: where logits are compared.

    Returns:
        What was lost.

    Raises:
        WrongBaseError: the patch was made for other weights.
        EditorError: a site is missing, has another shape, or holds NaN.
    """
    model, tokenizer = load_model(base_folder, device="cpu")
    with applied(model, patch, base=weights_digest(base_folder)):
        wanted = _logits(model, tokenizer, prompts)
    factors = _factors(model, patch, dtype=dtype)
    errors = {site: relative_error(factors[site], delta) for site, delta in patch.deltas.items()}
    config = _config(model, factors, base_name=base_name)
    save_file(_adapter(factors, config["r"]), folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    with _adapted(model, load_file(folder / WEIGHTS)):
        difference = _greatest_difference(_logits(model, tokenizer, prompts), wanted)
    return AdapterLoss(rank=config["r"], errors=errors, logit_difference=difference)


def check_adapter(base_folder: Path, patch: Patch, folder: Path, *, dtype: torch.dtype) -> str:
    """Make an adapter's factors again, and hold what a folder has against them.

    A delta's own factors have to be the same bit for bit. Those of one that was cut come from a singular value
    decomposition, which differs from machine to machine: they have to be as near to the delta as ours.

    Args:
        base_folder: the base that the patch was made for.
        patch: of the release.
        folder: holds the adapter.
        dtype: of its factors.

    Returns:
        What holds, and what was not verified.

    Raises:
        UnprovenError: something differs; the message names the file and what.
    """
    model = load_model(base_folder, device="cpu")[0]
    factors = _factors(model, patch, dtype=dtype)
    with naming(folder / CONFIG):
        theirs = json_of(folder / CONFIG)
        wanted = _config(model, factors, base_name=theirs["base_model_name_or_path"])
        if canonical_json(theirs) != canonical_json(wanted):
            raise UnprovenError(f"{folder / CONFIG} says something else than what the base and the patch give")
    try:
        found = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise UnprovenError(f"{folder / WEIGHTS} is no safetensors file: {error}") from error
    ours = _adapter(factors, wanted["r"])
    if odd := sorted(ours.keys() ^ found.keys()):
        raise UnprovenError(f"{folder / WEIGHTS}: base and patch give other tensors than it has, such as {odd[0]}")
    cut_sites = [site for site, delta in patch.deltas.items() if not is_whole(delta, rank=RANKS[-1])]
    for site in factors:
        _check_site(site, ours, found, None if site not in cut_sites else patch.deltas[site], folder / WEIGHTS)
    how = f"{len(factors) - len(cut_sites)} sites have the patch's own factors, bit for bit"
    how += f"; {len(cut_sites)} were cut, and are as near to the patch as its rank allows" if cut_sites else ""
    return f"{how}; not verified: that its base's name {theirs['base_model_name_or_path']!r} leads to the base"


def to_checkpoint(
    base_folder: Path,
    patch: Patch,
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    prompts: Sequence[str] = (),
) -> CheckpointLoss:
    """Write a patched base as save_pretrained does: weights and configuration.

    Args:
        base_folder: the base that the patch was made for.
        patch: the empty one gives the base itself.
        folder: one that has the base's tokenizer already.
        dtype: of the weights; the patch is added before they are rounded.
        prompts: where logits are compared.

    Returns:
        What was lost.

    Raises:
        WrongBaseError: the patch was made for other weights.
        EditorError: a site is missing, has another shape, or holds NaN.
    """
    model, tokenizer = load_model(base_folder, device="cpu")
    base = weights_digest(base_folder)
    with applied(model, patch, base=base):
        wanted = _logits(model, tokenizer, prompts)
    survived = {site: survival(read_weight(model, site), delta, dtype=dtype) for site, delta in patch.deltas.items()}
    write_patched(model, patch, base=base, folder=folder, dtype=dtype)
    reloaded, _ = load_model(folder, device="cpu", dtype=dtype)
    difference = _greatest_difference(_logits(reloaded, tokenizer, prompts), wanted)
    return CheckpointLoss(survival=survived, logit_difference=difference)


def _factors(model: PreTrainedModel, patch: Patch, *, dtype: torch.dtype) -> dict[str, LowRank]:
    factors = {site: cut(delta, rank=RANKS[-1]) for site, delta in patch.deltas.items()} or _nothing(model)
    return {site: LowRank(left=f.left.to(dtype), right=f.right.to(dtype)) for site, f in factors.items()}


def _check_site(
    site: str, ours: Mapping[str, Tensor], found: Mapping[str, Tensor], delta: Delta | None, file: Path
) -> None:
    """Hold a site's factors against ours; where its delta was cut, against that delta."""
    a, b = (f"base_model.model.{_module(site)}.lora_{which}.weight" for which in "AB")
    if delta is None:
        wrong = [name for name in (a, b) if not equal(found[name], ours[name])]
    else:
        near = relative_error(LowRank(left=ours[b], right=ours[a]), delta)
        fits = all((found[n].shape, found[n].dtype) == (ours[n].shape, ours[n].dtype) for n in (a, b))
        far = near * SLACK[ours[b].dtype]
        wrong = [] if fits and relative_error(LowRank(left=found[b], right=found[a]), delta) <= far else [b]
    if wrong:
        raise UnprovenError(f"{file}: the tensor {wrong[0]} is not what the base and the patch give")


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


def _config(model: PreTrainedModel, factors: Mapping[str, LowRank], *, base_name: str) -> dict[str, Any]:
    rank = _accepted(max(f.left.shape[1] for f in factors.values()))
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
        "fan_in_fan_out": layout_of(model).transposed,
        "target_modules": [_module(site) for site in sorted(factors)],
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
