"""The root of trust: one key, in a folder of its own, and the public file that names it.

The private key may be moved off the machine once everybody is enrolled: the public file keeps saying which root it was,
and no second one is made in its place.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from governance.envelopes import fingerprint, load_key, new_key, public_key, save_key
from tasks.errors import IdentityError

PRIVATE = "root.pem"
PUBLIC = "root.pub"


def make_root(folder: Path) -> str:
    """Make a root's key unless the folder has one; returns its fingerprint.

    Raises:
        KeyFileError: a private key lies there that can't be read.
    """
    if pinned_root(folder):
        return pinned_root(folder)
    if (folder / PRIVATE).is_file():  # whoever made it was stopped before its public file
        key = load_key(folder / PRIVATE)
    else:
        key = new_key()
        save_key(key, folder / PRIVATE)
    (folder / PUBLIC).write_text(public_key(key) + "\n", encoding="ascii")
    return pinned_root(folder)


def pinned_root(folder: Path) -> str:
    """The fingerprint of a folder's root; empty where there is none."""
    file = folder / PUBLIC
    return fingerprint(file.read_text(encoding="ascii").strip()) if file.is_file() else ""


def root_key(folder: Path) -> Ed25519PrivateKey:
    """The root's private key, with which people and services are enrolled.

    Raises:
        IdentityError: it is not here.
        KeyFileError: it can't be read.
    """
    if not (folder / PRIVATE).is_file():
        raise IdentityError(
            f"the root's key {folder / PRIVATE} is not here; make one with 'corrigenda trust init', or do this on the "
            "machine that has it"
        )
    return load_key(folder / PRIVATE)
