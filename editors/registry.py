"""All editors by name, and the one call that they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors import joint, memit
from editors.decoding import Progress
from editors.errors import InvalidConfigError
from editors.facts import Fact
from editors.joint import Joint
from editors.material import Material
from editors.memit import Memit
from editors.patch import Patch


@dataclass(frozen=True, slots=True, kw_only=True)
class Editor:
    """A method: its settings and its function.

    Attributes:
        config: the dataclass of its settings.
        edit: model, tokenizer and facts in, patch out.
    """

    config: type[Joint] | type[Memit]
    edit: Callable[..., Patch]


EDITORS: dict[str, Editor] = {
    "joint": Editor(config=Joint, edit=joint.edit),
    "memit": Editor(config=Memit, edit=memit.edit),
}


def edit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    facts: Sequence[Fact],
    *,
    config: Joint | Memit,
    material: Material,
    progress: Progress | None = None,
) -> Patch:
    """Return the patch of the method that a config belongs to; the model stays as it is.

    Raises:
        InvalidConfigError: no method has such a config.
        EditorError: whatever the method refuses.
    """
    for editor in EDITORS.values():
        if type(config) is editor.config:
            return editor.edit(
                model,
                tokenizer,
                facts,
                config=config,
                material=material,
                progress=progress,
            )
    raise InvalidConfigError(f"no editor takes a {type(config).__name__}; there are {', '.join(EDITORS)}")
