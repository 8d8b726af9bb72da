"""Values are data: kept by what they were optimised for, so that no later batch optimises them again.

A value depends in its last bits on the batch that it was computed in. The first one is kept under its recipe, the
digest over the base, the contexts, the settings and the subject's facts, and is what every later batch solves with.
So the store is always asked, and a manifest names no value that only this machine has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from editors.digests import digest_of
from editors.facts import Fact
from editors.joint import Joint, Value
from tasks.files import DigestFile
from tasks.store import Store

FORMAT = 2  # to be raised when values come out differently, so that older ones are not taken for them


def recipe_of(facts: Sequence[Fact], *, base: str, contexts: str, config: Joint) -> str:
    """The digest over all that the value of one subject's facts depends on."""
    return digest_of(
        {
            "format": FORMAT,
            "base": base,
            "contexts": contexts,
            "layers": list(config.layers),
            "settings": asdict(config.values),
            "facts": [[fact.subject, fact.prompt, fact.target] for fact in facts],
        }
    )


class KeptValues:
    """The values of a base: the object store says which they are; their bytes are on this machine too."""

    def __init__(self, folder: Path, *, base: str, store: Store) -> None:
        self._folder = folder
        self._base = base
        self._store = store

    def find(self, recipes: Mapping[str, str]) -> dict[str, DigestFile]:
        """Return the values that the store keeps, by subject, brought onto this machine.

        Args:
            recipes: of each subject.
        """
        found: dict[str, DigestFile] = {}
        for subject, recipe in recipes.items():
            kept = self._store.record(self._key(recipe))
            if kept is None:
                continue
            found[subject] = self._store.copy_in(self._folder, kept["sha256"], "value")
        return found

    def keep(self, recipe: str, value: Value) -> DigestFile:
        """Keep a value that was not kept yet."""
        content = value.to_bytes()
        sha256 = self._store.put(content).sha256
        self._store.put_record(self._key(recipe), {"sha256": sha256})
        return DigestFile.write(self._folder, content, "value")

    def _key(self, recipe: str) -> str:
        return f"bases/{self._base}/values/{recipe}.json"
