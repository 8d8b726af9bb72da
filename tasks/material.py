"""Material of a base on this machine: one recipe from the settings, one folder in which what it gives is found again.

Refreshes, benchmarks and sweeps share both, so that none makes what another has made.
"""

from __future__ import annotations

from collections.abc import Callable

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.decoding import Progress
from editors.preparing import Prepared, Recipe, prepare_in
from editors.registry import Config
from tasks.settings import Settings


def recipe_of(config: Config, *, base: str, settings: Settings) -> Recipe:
    """Return the recipe that a method's settings ask for on a base, with the seed and the texts that are set."""
    return Recipe.of(config, base=base, seed=settings.seed, corpus=settings.corpus, held=settings.held_text)


def prepared_here(
    recipe: Recipe,
    load: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerFast]],
    *,
    settings: Settings,
    progress: Progress,
) -> Prepared:
    """Return what a recipe gives: found on this machine, or made now and kept there.

    Args:
        recipe: what to make.
        load: called for the base and its tokenizer if there is something to make.
        settings: where it is kept.
        progress: told of rows.

    Raises:
        EditorError, OSError: as `prepare_in` does.
    """
    return prepare_in(settings.home / "cache" / "material", recipe, load, progress=progress)
