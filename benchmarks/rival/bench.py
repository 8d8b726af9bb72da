"""Both sides on one model, with the same second moments."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from benchmarks.rival.environment import python_of
from benchmarks.rival.jobs import HPARAMS, Rival
from editors.digests import digest_of, sha256_file
from editors.joint import Joint
from editors.material import Material
from editors.memit import Memit
from editors.models import load_model, weights_digest
from editors.preparing import Prepared, Recipe, prepare_in
from editors.registry import Config

CONTEXTS = 6
"""As many as the published code samples; our editors are given as many of them as they ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Both sides on one model.

    Attributes:
        model: the base.
        tokenizer: its own.
        prepared: second moments, contexts and held rows.
        rival: the published code.
        cache: a folder for its values, of this base, data and its own settings alone.
        console: for progress.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    prepared: Prepared
    rival: Rival
    cache: Path
    console: Console

    def material(self, config: Config) -> Material:
        """What an editor is given."""
        given = self.prepared.material
        return dataclasses.replace(given, contexts=given.contexts[: config.contexts])


def set_up(model_folder: Path, data: Path, cache: Path, *, console: Console) -> Bench:
    """Load a model, prepare it and make the published code's environment, or find both in the cache."""
    model, tokenizer = load_model(model_folder, device="cpu")
    base = weights_digest(model_folder)
    layers = sorted({*HPARAMS["layers"], *Joint().layers, *Memit().layers})
    recipe = Recipe(base=base, layers=tuple(layers), contexts=CONTEXTS)
    return Bench(
        model=model,
        tokenizer=tokenizer,
        prepared=prepare_in(cache / "prepared", recipe, lambda: (model, tokenizer)),
        rival=Rival(
            python=python_of(cache.resolve() / "environment"),
            model=model_folder.resolve(),
            layers=model.config.num_hidden_layers,
        ),
        cache=cache / digest_of([base, sha256_file(data), HPARAMS])[:16],
        console=console,
    )
