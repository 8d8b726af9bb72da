"""Signed statements: in-toto statements in DSSE envelopes, signed with Ed25519 keys.

A key is named by its fingerprint, the sha256 of its 32 raw bytes, and so is the root that everything hangs on: whoever
knows that one number can check everything that was ever signed under it. A statement's text is canonical JSON, so it is
the same bytes wherever it is made, and what was signed is read out of the envelope only after the signature held.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError, VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey  # pyright: ignore[reportPrivateImportUsage]

from editors.digests import canonical_json, digest_of, sha256_bytes
from governance.errors import ForgedError, KeyFileError

_LIBRARY: Any = Envelope  # which annotates its dictionaries in part
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"


def new_key() -> Ed25519PrivateKey:
    """Make a private key."""
    return Ed25519PrivateKey.generate()


def public_key(key: Ed25519PrivateKey) -> str:
    """Return the public half of a key: its 32 raw bytes in hexadecimal."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def fingerprint(public: str) -> str:
    """Return the sha256 of a public key's 32 raw bytes in hexadecimal."""
    return sha256_bytes(bytes.fromhex(public))


def pem_of(key: Ed25519PrivateKey) -> str:
    """Write a private key as PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def key_of(pem: str, *, place: str) -> Ed25519PrivateKey:
    """Read a private key.

    Raises:
        KeyFileError: it is none; the message names the place, and nothing of what stands there.
    """
    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{place} holds no private key in PEM without a password ({type(error).__name__})") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{place} holds a key that is not Ed25519")
    return key


def save_key(key: Ed25519PrivateKey, path: Path) -> None:
    """Keep a private key in a file that its owner alone can read.

    Raises:
        KeyFileError: there is a file already, which stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise KeyFileError(f"{path} exists, and a key is never overwritten; move it away first") from error
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        stream.write(pem_of(key))


def load_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key from a file.

    Raises:
        KeyFileError: there is none, or somebody else may read it.
    """
    try:
        mode = path.stat().st_mode
        pem = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"the key {path} can't be read: {error}") from error
    if mode & 0o077:
        raise KeyFileError(f"others than its owner may read the key {path}; 'chmod 600' it")
    return key_of(pem, place=str(path))


def statement(kind: str, *, subject: Mapping[str, str], predicate: Mapping[str, Any]) -> dict[str, Any]:
    """Return an in-toto statement.

    Args:
        kind: what is stated, an URI.
        subject: what it is about: the sha256 of each thing by its name.
        predicate: what is stated.
    """
    named = [{"name": name, "digest": {"sha256": digest}} for name, digest in subject.items()]
    return {"_type": STATEMENT, "subject": named, "predicateType": kind, "predicate": dict(predicate)}


def sign(payload: Mapping[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """Sign a statement with a key; returns the DSSE envelope as JSON holds it."""
    envelope: Any = Envelope(canonical_json(payload), PAYLOAD_TYPE, {})
    envelope.sign(CryptoSigner(key, _named(public_key(key))))
    return envelope.to_dict()


def verify(envelope: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the statement in an envelope, if a key signed it.

    Args:
        envelope: as JSON holds it.
        key: the public key that counts, in hexadecimal.

    Raises:
        ForgedError: it did not, or this is no envelope of a statement.
    """
    try:
        read: Envelope = _LIBRARY.from_dict(json.loads(json.dumps(envelope)))  # it changes what it is given
        if read.payload_type != PAYLOAD_TYPE:
            raise ForgedError(f"the envelope holds a {read.payload_type!r}, expected {PAYLOAD_TYPE!r}")
        read.verify([_named(key)], threshold=1)
    except VerificationError as error:
        raise ForgedError(f"the signature does not hold: expected the key {fingerprint(key)[:12]}") from error
    except (FormatError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ForgedError(f"this is no signed envelope: {type(error).__name__}: {error}") from error
    return _statement_in(read.payload)


def claimed(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the statement in an envelope, unverified: good only for finding out which key to verify it with.

    Raises:
        ForgedError: there is none.
    """
    try:
        payload = base64.b64decode(envelope["payload"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise ForgedError(f"this is no signed envelope: {type(error).__name__}: {error}") from error
    return _statement_in(payload)


def subject_of(found: Mapping[str, Any], kind: str) -> dict[str, str]:
    """Return what a statement of a kind is about: the sha256 of each thing by its name.

    Raises:
        ForgedError: it states something else.
    """
    if found["predicateType"] != kind:
        raise ForgedError(f"the statement is a {found['predicateType']!r}, expected {kind!r}")
    return {each["name"]: each["digest"]["sha256"] for each in found["subject"]}


def digest_of_envelope(envelope: Mapping[str, Any]) -> str:
    """Return the sha256 by which an envelope is known: over all of it, its signatures too."""
    return digest_of(envelope)


def _statement_in(payload: bytes) -> dict[str, Any]:
    try:
        found = json.loads(payload)
        subjects = {each["name"]: each["digest"]["sha256"] for each in found["subject"]}
        well_formed = found["_type"] == STATEMENT and found["predicateType"] and isinstance(found["predicate"], dict)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ForgedError(f"the envelope holds no statement: {type(error).__name__}: {error}") from error
    if not well_formed or not subjects or len(subjects) != len(found["subject"]):
        raise ForgedError("the envelope's statement is no in-toto statement of version 1, each subject named once")
    return found


def _named(public: str) -> SSlibKey:
    """A public key as the library wants it, under its fingerprint."""
    return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)), fingerprint(public))
