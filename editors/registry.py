"""All editors by name, and the one call that they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors import alphaedit, finetune, joint, memit, rome
from editors.alphaedit import AlphaEdit
from editors.decoding import Progress
from editors.errors import InvalidConfigError
from editors.facts import Fact
from editors.finetune import Finetune, FinetuneConstrained
from editors.joint import Joint
from editors.material import Material
from editors.memit import Memit
from editors.patch import Patch
from editors.rome import Rome


class Config(Protocol):
    """What every method's settings say of the material that they need; all settings have defaults."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Whose sites are written, in ascending order."""
        ...

    @property
    def contexts(self) -> int:
        """How many context templates to sample, the bare one included."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Editor:
    """A method: its settings and its function.

    Attributes:
        config: the dataclass of its settings.
        edit: model, tokenizer and facts in, patch out.
    """

    config: type[Config]
    edit: Callable[..., Patch]


EDITORS: dict[str, Editor] = {
    "finetune": Editor(config=Finetune, edit=finetune.edit),
    "finetune_constrained": Editor(config=FinetuneConstrained, edit=finetune.edit),
    "rome": Editor(config=Rome, edit=rome.edit),
    "memit": Editor(config=Memit, edit=memit.edit),
    "alphaedit": Editor(config=AlphaEdit, edit=alphaedit.edit),
    "joint": Editor(config=Joint, edit=joint.edit),
}


def edit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    facts: Sequence[Fact],
    *,
    config: Config,
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
