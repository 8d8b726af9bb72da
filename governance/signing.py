"""Signing: a folder is signed and verified as OpenSSF's model-signing does it, so other tools can verify it too.

The signature is a Sigstore bundle over the sha256 of every file in the folder. It is made with a P-256 key that lies
here, one in a PKCS#11 token, or through Sigstore. Whoever verifies is told by the root's certificate what to hold it
against: the key, or the identity at Sigstore. model-signing takes a second to import, so it is imported where it works.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from editors.digests import canonical_json, sha256_file
from editors.folders import files_of
from governance.errors import ForgedError, KeyFileError

RELEASE_SIGNER = "release signer"
"""The name under which the root certifies what releases are signed with."""
_POINT = b"\x04"
_SIGSTORE = "sigstore:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """With what releases are signed: the first of these that is set.

    Attributes:
        pkcs11: the address of a P-256 key in a token, as RFC 7512 writes it.
        pkcs11_module: the token's library.
        sigstore: through Sigstore, as the identity that this machine has there.
        key: a P-256 key as PEM.
    """

    pkcs11: str = ""
    pkcs11_module: str = ""
    sigstore: bool = False
    key: str = ""

    def __bool__(self) -> bool:
        return bool(self.pkcs11 or self.sigstore or self.key)


def new_release_key() -> str:
    """Make a private P-256 key; returns it as PEM."""
    key = generate_private_key(SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def release_public(pem: str, *, place: str) -> str:
    """Return the public half of a P-256 key, private or public, as the root certifies it: its point in hexadecimal.

    Raises:
        KeyFileError: it is none; the message names the place, and nothing of what stands there.
    """
    data = pem.encode()
    try:
        key = load_pem_public_key(data) if b"PUBLIC KEY" in data else load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{place} holds no key in PEM without a password ({type(error).__name__})") from None
    public = key.public_key() if isinstance(key, EllipticCurvePrivateKey) else key
    if not isinstance(public, EllipticCurvePublicKey) or not isinstance(public.curve, SECP256R1):
        raise KeyFileError(f"{place} holds a key that is not P-256")
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint).hex()


def sigstore_public(identity: str, issuer: str) -> str:
    """Return an identity at Sigstore as the root certifies it, in hexadecimal."""
    return f"{_SIGSTORE}{issuer} {identity}".encode().hex()


def sign_folder(folder: Path, signing: Signing) -> dict[str, Any]:
    """Sign every file of a folder; returns the Sigstore bundle as JSON holds it.

    Raises:
        KeyFileError: nothing is set to sign with, or it doesn't sign.
    """
    if not signing:
        raise KeyFileError("nothing is set to sign releases with; set CORRIGENDA_RELEASE_KEY where the promoter runs")
    from model_signing.signing import Config

    with tempfile.TemporaryDirectory() as scratch:
        bundle = Path(scratch) / "bundle"
        config: Any = Config().set_hashing_config(_every_file())
        try:
            if signing.pkcs11:
                modules = [signing.pkcs11_module] if signing.pkcs11_module else []
                config.use_pkcs11_signer(pkcs11_uri=signing.pkcs11, module_paths=modules)
            elif signing.sigstore:
                config.use_sigstore_signer(use_ambient_credentials=True)
            else:
                key = Path(scratch) / "key"  # in a folder that its owner alone can enter
                key.write_text(signing.key, encoding="ascii")
                config.use_elliptic_key_signer(private_key=key)
            config.sign(folder, bundle)
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            raise KeyFileError(f"the release could not be signed: {type(error).__name__}: {error}") from error
        return json.loads(bundle.read_text(encoding="utf-8"))


def verify_folder(folder: Path, bundle: Mapping[str, Any], *, public: str) -> None:
    """Refuse a folder unless a bundle signs every file of it, and nothing that isn't there.

    Args:
        folder: what was signed.
        bundle: as JSON holds it.
        public: what the root certified, by `release_public` or `sigstore_public`.

    Raises:
        ForgedError: it doesn't, or not with that.
    """
    from model_signing.verifying import Config

    config: Any = Config().set_hashing_config(_every_file())
    with tempfile.TemporaryDirectory() as scratch:
        file, key = Path(scratch) / "bundle", Path(scratch) / "key"
        file.write_bytes(canonical_json(bundle))
        try:
            if (raw := bytes.fromhex(public)).startswith(_POINT):
                key.write_bytes(_pem_of(raw))
                config.use_elliptic_key_verifier(public_key=key)
            else:
                issuer, _, identity = raw.decode().removeprefix(_SIGSTORE).partition(" ")
                config.use_sigstore_verifier(identity=identity, oidc_issuer=issuer)
            config.verify(folder, file)
        except InvalidSignature as error:
            raise ForgedError("the signature does not hold under the key that the root certified") from error
        except Exception as error:  # whatever the libraries find wrong with a bundle that anybody may have written
            why = _difference(folder, bundle) or (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ForgedError(f"the signature does not hold: {why}") from error


def _every_file() -> Any:  # noqa: ANN401 - imported late
    """How a folder is hashed: all of it, also what belongs to git."""
    from model_signing.hashing import Config

    config: Any = Config()
    return config.set_ignored_paths(paths=[], ignore_git_paths=False)


def _difference(folder: Path, bundle: Mapping[str, Any]) -> str:
    """What differs between a folder and what a bundle claims to sign, in words; empty where nothing does."""
    try:
        claimed = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))["predicate"]["resources"]
        signed = {str(each["name"]): str(each["digest"]) for each in claimed}
    except (KeyError, TypeError, ValueError):
        return ""
    there = {name: sha256_file(path) for name, path in files_of(folder).items() if path.is_file()}
    return "; ".join(
        f"{name} has sha256 {there.get(name, '(no file)')}, signed was {signed.get(name, '(no file)')}"
        for name in sorted({*signed, *there})
        if signed.get(name) != there.get(name)
    )


def _pem_of(point: bytes) -> bytes:
    public = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
