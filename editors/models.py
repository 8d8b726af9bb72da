"""Getting a base into memory, and knowing it by the digest of its weights.

A model is data: code from its folder is never run, and weights are read from safetensors alone. A GGUF file is
converted once; after that the folder loads in half a second and no quantisation is left in its config.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from editors.artifacts import digest_named
from editors.errors import InvalidConfigError, ModelLoadError

ADAPTER = "adapter_config.json"
logger = logging.getLogger(__name__)


def resolve_device(device: str) -> torch.device:
    """Return the device that a setting names; "auto" is the GPU where there is one, else the CPU.

    Raises:
        InvalidConfigError: torch knows no such device, or it is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise InvalidConfigError(f"unknown device {device!r}; use auto, cpu or cuda") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise InvalidConfigError(f"device {device!r} was asked for, but torch sees no GPU; use auto or cpu")
    return resolved


def load_model(
    folder: Path, *, device: str = "auto", dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load a frozen model and its tokenizer from a folder, without running any code from it.

    Args:
        folder: as save_pretrained writes it; the network is never asked.
        device: auto, cpu or cuda.
        dtype: of the weights in memory; edits are made in float32.

    Raises:
        ModelLoadError: the folder is missing, incomplete or holds something else.
    """
    if not (folder / "config.json").is_file():
        raise ModelLoadError(folder, "it has no config.json")
    if (folder / ADAPTER).exists():  # transformers would add it to the weights, where peft is installed
        raise ModelLoadError(folder, f"it has an {ADAPTER} too, so it is no model by itself; take the adapter out")
    weight_files(folder)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelLoadError(folder, _first_line(error)) from error
    model.to(resolve_device(device)).eval().requires_grad_(False)
    return model, load_tokenizer(folder)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a model's folder.

    Raises:
        ModelLoadError: there is none, or it gives no character offsets.
    """
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelLoadError(folder, _first_line(error)) from error
    if not tokenizer.is_fast:
        raise ModelLoadError(folder, "its tokenizer gives no character offsets; a tokenizer.json is needed")
    return tokenizer


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write a GGUF file's model and tokenizer as a float32 safetensors folder, whole or not at all.

    Raises:
        ModelLoadError: the file is no GGUF that transformers reads, or the result does not load.
    """
    if not gguf.is_file():
        raise ModelLoadError(gguf, "there is no such file")
    try:
        source: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelLoadError(gguf, _first_line(error)) from error
    # The weights are dequantised, but transformers still marks them as quantised and would refuse to save them.
    source.hf_quantizer = None
    if hasattr(source.config, "quantization_config"):
        del source.config.quantization_config
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        written = Path(scratch) / "model"
        source.save_pretrained(written)
        tokenizer.save_pretrained(written)
        _check_conversion(source, tokenizer, written)
        written.rename(folder)
    logger.info("converted %s to %s", gguf, folder)


def weight_files(folder: Path) -> list[Path]:
    """Return a folder's safetensors files, sorted by name.

    Raises:
        ModelLoadError: there are none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelLoadError(folder, "it has no *.safetensors file")
    return files


def weights_digest(folder: Path) -> str:
    """Return the digest of a folder's weights, by tensor; how they are split into files does not matter.

    Raises:
        ModelLoadError: a file of it cannot be read, or two hold the same tensor.
    """
    try:
        return digest_named(_stored_tensors(folder))
    except (OSError, SafetensorError) as error:
        raise ModelLoadError(folder, _first_line(error)) from error


def _stored_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    places: dict[str, Path] = {}
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as opened:
            names = cast(list[str], opened.keys())
        if twice := sorted(places.keys() & {*names}):
            raise ModelLoadError(folder, f"{twice[0]} is in {places[twice[0]].name} and in {file.name}")
        places.update(dict.fromkeys(names, file))
    for name in sorted(places):
        with safe_open(places[name], framework="pt") as opened:
            yield name, opened.get_tensor(name)


def _check_conversion(source: Any, tokenizer: Any, folder: Path) -> None:  # noqa: ANN401 - either class is dynamic
    model, reloaded = load_model(folder, device="cpu")
    ours, theirs = model.state_dict(), source.state_dict()
    if ours.keys() != theirs.keys() or not all(torch.equal(ours[name], theirs[name]) for name in ours):
        raise ModelLoadError(folder, "the converted weights differ after reloading")
    if reloaded.chat_template != tokenizer.chat_template:
        raise ModelLoadError(folder, "the chat template did not survive the conversion")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
