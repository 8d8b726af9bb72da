"""Objects: what a candidate consists of in the object store, and whether all of it is there, as its digests say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from consuming.errors import AlteredError
from governance.evidence import manifest_key
from tasks.errors import StoreError
from tasks.store import Store

EVIDENCE = ("patch", "policy", "report", "corrections", "moments", "contexts")
"""What of a candidate a release names with its version in the store, beside its manifest and the files of its base."""


def objects_of(candidate: str, store: Store) -> dict[str, dict[str, Any]]:
    """The records of the objects that a candidate consists of, each with its version, by what they are to it.

    Raises:
        StoreError: one is missing.
    """
    manifest = store.manifest(candidate)
    digests = {name: manifest[name] for name in EVIDENCE}
    digests |= {f"base/{file['name']}": file["sha256"] for file in manifest["base_files"]}
    found = {name: store.stat(digest) for name, digest in digests.items()}
    found["manifest"] = store.stat(candidate, key=manifest_key(candidate))
    return {name: blob.record() for name, blob in found.items()}


def check_objects(candidate: str, store: Store) -> None:
    """Make sure that a candidate is whole in the store.

    Raises:
        StoreError: it isn't; the first flaw is named.
    """
    if found := flaws_of(candidate, store, flaw=store.flaw):
        raise StoreError(
            f"candidate {candidate[:12]} is not whole: {found[0]}"
            + (f", and {len(found) - 1} more" if found[1:] else "")
            + ". Nothing was released; bring the objects back, then answer again, or make it anew with "
            "'corrigenda refresh --replace'"
        )


def flaws_of(candidate: str, store: Store, *, flaw: Callable[[str], str]) -> list[str]:
    """What is wrong with the objects of a candidate.

    Args:
        candidate: its digest.
        store: where they are.
        flaw: what is wrong with one blob; a caller with many candidates remembers what it has asked.
    """
    try:
        manifest = store.manifest(candidate)
    except AlteredError as error:
        return [str(error)]
    digests = [*(manifest[name] for name in EVIDENCE), *(file["sha256"] for file in manifest["base_files"])]
    return [found for digest in dict.fromkeys(digests) if (found := flaw(digest))]
