"""Pulling: a release becomes a folder, with what proves it, or a model in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from consuming.errors import FormError, proof_errors
from consuming.fetching import fetch
from consuming.objects import Objects
from consuming.pinning import pin_of
from consuming.proving import prove
from consuming.settings import ConsumerSettings
from consuming.telling import Progress, log
from consuming.versions import Version, resolve
from editors.contents import DTYPES, FORMS, MEASURED, naming
from editors.digests import sha256_file
from editors.errors import UnprovenError
from editors.folders import files_of, whole_folder
from governance.evidence import CARD, FOLDER

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from editors.forms import Form

COMPARED = 32  # prompts


def pull(
    name: str,
    folder: str | Path,
    *,
    form: Form = "model",
    dtype: Literal["float32", "bfloat16"] | None = None,
    candidate: bool = False,
    settings: ConsumerSettings | None = None,
    report: Progress = log,
) -> Path:
    """Write a release into a folder, with what proves it.

    As a model or a checkpoint `AutoModelForCausalLM.from_pretrained` loads it, as an adapter PEFT beside its base; as a
    patch, whoever has the base adds it themselves. What an adapter or a checkpoint lost is measured against the
    release, its logits at the prompts of its first facts; the card in the folder names it.

    Args:
        name: `model@alias`, `model/number`, or the 64 hex digits of a candidate.
        folder: must not exist, or hold an earlier pull, which is replaced in one step.
        form: model, adapter, checkpoint or patch; an adapter names the base in the cache as its own.
        dtype: of an adapter or a checkpoint; float32 by default.
        candidate: also take a version that is no release.
        settings: where the registry is; read from the environment by default.
        report: called with a line for each stage; logs it by default.

    Returns:
        The folder.

    Raises:
        ReleaseError: see there; nothing half-written is left.
        FileExistsError: the folder holds something else.
    """
    from editors.forms import lines_of, record_of, write_form

    _check_form(form, dtype)
    settings, target, dtype = settings or ConsumerSettings(), Path(folder), dtype or "float32"
    pin, settings = pin_of(name, candidate=candidate, settings=settings, report=report)
    with whole_folder(target, card=CARD) as built:
        objects = Objects(settings)
        version = resolve(name, objects, candidate=candidate, settings=settings, pin=pin)
        base, patch = fetch(version, objects, form=form, settings=settings, report=report)
        prove(version, objects, built / FOLDER, patch=patch, root=settings.root_fingerprint, report=report)
        report(f"writing its {form}")
        prompts = _prompts(version.manifest, objects) if form in MEASURED else []
        lost = write_form(
            form,
            version.manifest,
            candidate=version.candidate,
            patch=patch,
            base=base,
            folder=built,
            dtype=dtype,
            prompts=prompts,
        )
        for line in lines_of(lost):
            report(line)
        _write_card(built, version, form=form, dtype=dtype, lost=record_of(lost))
    return target


def load(
    name: str,
    *,
    candidate: bool = False,
    settings: ConsumerSettings | None = None,
    report: Progress = log,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Pull a release into the cache, verify it, and load its model and tokenizer.

    Raises:
        ReleaseError: see there.
    """
    from editors.models import load_model

    settings = settings or ConsumerSettings()
    return load_model(cached(name, candidate=candidate, settings=settings, report=report), device=settings.device)


def cached(
    name: str,
    *,
    candidate: bool = False,
    settings: ConsumerSettings | None = None,
    report: Progress = log,
) -> Path:
    """Pull a release into the cache, unless it is there, and verify all of it but its weights; returns its folder.

    Raises:
        ReleaseError: see there.
    """
    from governance.verifying import check_files, read_card, verify_release

    settings = settings or ConsumerSettings()
    pin, settings = pin_of(name, candidate=candidate, settings=settings, report=report)
    version = resolve(name, Objects(settings), candidate=candidate, settings=settings, pin=pin)
    folder = settings.home / "cache" / "versions" / version.candidate
    proven = bool(version.release and settings.root_fingerprint)
    if not folder.is_dir() or (proven and not (folder / FOLDER).is_dir()):
        pull(version.candidate, folder, candidate=candidate, settings=settings, report=report)
    with proof_errors():
        card = read_card(folder)
        if (card.get("candidate"), card["form"]) != (version.candidate, "model"):
            found = f"the {card['form']} of candidate {card.get('candidate')}"
            raise UnprovenError(f"{folder / CARD} is of {found}, not of the model of {version.candidate}")
        if proven:
            verify_release(folder, card, root=settings.root_fingerprint)
        else:
            check_files(folder, card)
    return folder


def _check_form(form: str, dtype: str | None) -> None:
    """Refuse a form that there is none of, and a precision where it means nothing."""
    if form not in FORMS:
        raise FormError(f"a release can be had as {', '.join(FORMS)}, and not as {form!r}")
    if dtype is not None and form not in MEASURED:
        why = "is in float32" if form == "model" else "is as it was made"
        raise FormError(f"a {form} {why}, so leave the precision out, or take a checkpoint or an adapter")
    if dtype not in (None, *DTYPES):
        raise FormError(f"a {form} can be had in {' or '.join(DTYPES)}, and not in {dtype!r}")


def _prompts(manifest: dict[str, Any], objects: Objects) -> list[str]:
    """The prompts of a version's first facts."""
    content = objects.get(manifest["corrections"])
    with proof_errors(), naming(f"the facts {manifest['corrections']}"):
        facts = [json.loads(line) for line in content.splitlines()]
        return [fact["prompt"].replace("{}", fact["subject"]) for fact in facts[:COMPARED]]


def _write_card(folder: Path, version: Version, *, form: Form, dtype: str, lost: dict[str, Any]) -> None:
    """Name all that is in a folder, and what it is."""
    card = {
        "candidate": version.candidate,
        "dtype": dtype,
        "files": {name: sha256_file(path) for name, path in files_of(folder).items()},
        "form": form,
        "lost": lost,
        "manifest": version.manifest,
        "release": version.release,
    }
    (folder / CARD).write_text(json.dumps(card, indent=1, sort_keys=True), encoding="utf-8")
