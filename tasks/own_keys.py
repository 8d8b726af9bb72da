"""People's own keys: which file is whose, for whatever they sign at a terminal."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from governance.envelopes import load_key
from governance.identities import normalised
from tasks.errors import IdentityError
from tasks.settings import Settings


def key_folder_file(name: str, settings: Settings) -> Path:
    """Where the key of somebody who is enrolled here is kept."""
    return settings.trust_folder / "people" / f"{normalised(name)}.pem"


def sign_as(name: str, settings: Settings) -> Ed25519PrivateKey:
    """A person's own key: from the trust folder, unless the settings name another file.

    Raises:
        IdentityError: it is not on this machine.
        KeyFileError: it can't be read.
    """
    file = settings.key_file or key_folder_file(name, settings)
    if not file.is_file():
        raise IdentityError(
            f"{name!r} has no key at {file}; an administrator enrols you with 'corrigenda people add {name} "
            "--role requester'. If you are enrolled, set CORRIGENDA_SUBMITTER to your name, and CORRIGENDA_KEY_FILE to "
            "where your key is. Nothing was recorded"
        )
    return load_key(file)
