"""Sealing: a secret that only one service can read again, wherever it is kept.

One-time-code secrets lie in the ledger, which many may read. They are sealed with HPKE (RFC 9180) to the review
service's X25519 key, and to the name that they belong to.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from governance.envelopes import new_key, pem_of
from governance.signing import new_release_key
from tasks.errors import IdentityError

SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


def service_keys() -> dict[str, str]:
    """Make the promoter's private keys, as PEM, under the names of the settings: two for reviews, one for releases."""
    return {"signing_key": pem_of(new_key()), "sealing_key": new_sealing_key(), "release_key": new_release_key()}


def new_sealing_key() -> str:
    """Make a private key; returns it as PEM."""
    key = X25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def sealing_public(pem: str) -> str:
    """Return the public half of a private key: its 32 raw bytes in hexadecimal."""
    return _private(pem).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def seal(secret: str, *, public: str, name: str) -> str:
    """Seal a secret to a service, and to whom it belongs; returns it in hexadecimal."""
    key = X25519PublicKey.from_public_bytes(bytes.fromhex(public))
    return SUITE.encrypt(secret.encode(), key, info=name.encode()).hex()


def unseal(sealed: str, *, pem: str, name: str) -> str:
    """Return a sealed secret.

    Raises:
        IdentityError: it was sealed to another key, or belongs to somebody else.
    """
    try:
        return SUITE.decrypt(bytes.fromhex(sealed), _private(pem), info=name.encode()).decode()
    except (InvalidTag, ValueError) as error:
        raise IdentityError(
            f"the one-time-code secret of {name!r} is not sealed to this service's key; enrol them again"
        ) from error


def _private(pem: str) -> X25519PrivateKey:
    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, X25519PrivateKey):
        raise IdentityError("this process has no sealing key, which only the review service has: it acts as promoter")
    return key
