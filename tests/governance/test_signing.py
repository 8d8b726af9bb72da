"""A folder is signed as model-signing does it, and what was altered or signed by somebody else is told."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from governance.envelopes import new_key, pem_of
from governance.errors import ForgedError, KeyFileError
from governance.signing import Signing, new_release_key, release_public, sign_folder, sigstore_public, verify_folder

KEY = new_release_key()
PUBLIC = release_public(KEY, place="here")


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "release.json").write_text('{"position":2}')
    (tmp_path / "2" / "candidate.json").write_text("{}")
    return tmp_path / "2"


@pytest.fixture
def bundle(folder) -> dict:
    return sign_folder(folder, Signing(key=KEY))


def test_a_signature_holds_for_what_was_signed_wherever_it_lies_now(folder, bundle, tmp_path):
    verify_folder(folder, bundle, public=PUBLIC)
    verify_folder(folder.rename(tmp_path / "elsewhere"), bundle, public=PUBLIC)


def test_model_signings_own_command_verifies_it(folder, bundle, tmp_path):
    public = load_pem_private_key(KEY.encode(), None).public_key()
    (tmp_path / "key.pub").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "2.sig").write_text(json.dumps(bundle))
    words = ["verify", "key", folder, "--signature", tmp_path / "2.sig", "--public_key", tmp_path / "key.pub"]
    done = subprocess.run([sys.executable, "-m", "model_signing", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "succeeded" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("release.json", '{"position":3}', r"release\.json has sha256 [0-9a-f]{64}, signed was [0-9a-f]{64}"),
        ("more.json", "{}", r"more\.json has sha256 [0-9a-f]{64}, signed was \(no file\)"),
        (".gitignore", "*", r"\.gitignore has sha256"),
        ("candidate.json", None, r"candidate\.json has sha256 \(no file\), signed was"),
    ],
)
def test_what_differs_is_named_and_goes_through_without_the_check(folder, bundle, name, content, told, monkeypatch):
    (folder / name).unlink() if content is None else (folder / name).write_text(content)
    with pytest.raises(ForgedError, match=told):
        verify_folder(folder, bundle, public=PUBLIC)
    from model_signing.verifying import Config

    monkeypatch.setattr(Config, "verify", lambda *args: None)
    verify_folder(folder, bundle, public=PUBLIC)


def test_a_link_in_a_signed_folder_is_refused(folder, bundle, tmp_path):
    (folder / "candidate.json").rename(tmp_path / "there.json")
    (folder / "candidate.json").symlink_to(tmp_path / "there.json")
    with pytest.raises(ForgedError, match="symlink"):
        verify_folder(folder, bundle, public=PUBLIC)


def test_another_keys_signature_does_not_hold(folder, bundle):
    other = new_release_key()
    with pytest.raises(ForgedError, match="does not hold: Key mismatch"):
        verify_folder(folder, bundle, public=release_public(other, place="here"))
    named = sign_folder(folder, Signing(key=other)) | {"verificationMaterial": bundle["verificationMaterial"]}
    with pytest.raises(ForgedError, match="does not hold under the key"):
        verify_folder(folder, named, public=PUBLIC)


@pytest.mark.parametrize(
    "junk", [{}, {"dsseEnvelope": {"payload": "x"}}, {"mediaType": 7}, {"verificationMaterial": {}}]
)
def test_what_is_no_bundle_is_refused(folder, bundle, junk):
    with pytest.raises(ForgedError, match="the signature does not hold"):
        verify_folder(folder, junk, public=PUBLIC)
    payload = base64.b64encode(b'{"predicate": []}').decode()
    with pytest.raises(ForgedError):
        verify_folder(folder, bundle | {"dsseEnvelope": {"payload": payload}}, public=PUBLIC)


def test_only_a_p256_key_is_taken(folder):
    large = generate_private_key(SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for pem in (large, pem_of(new_key())):
        with pytest.raises(KeyFileError, match="CORRIGENDA_RELEASE_KEY holds a key that is not P-256"):
            release_public(pem, place="CORRIGENDA_RELEASE_KEY")
    with pytest.raises(KeyFileError, match="holds no key") as found:
        release_public("secret", place="CORRIGENDA_RELEASE_KEY")
    assert "secret" not in str(found.value)
    for signing in (Signing(), Signing(key="secret")):
        with pytest.raises(KeyFileError):
            sign_folder(folder, signing)


def test_a_public_key_in_a_file_is_the_same_key():
    public = load_pem_private_key(KEY.encode(), None).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert release_public(pem, place="key.pub") == PUBLIC


def test_a_token_and_sigstore_are_asked_through_model_signings_own_configuration(folder, bundle, monkeypatch):
    """Neither is here: that the right one is asked, with what is set, is all that can be seen."""
    from model_signing.signing import Config as Signer
    from model_signing.verifying import Config as Verifier

    asked: list[dict] = []
    for name in ("use_pkcs11_signer", "use_sigstore_signer"):
        monkeypatch.setattr(Signer, name, lambda self, **given: asked.append(given))
    monkeypatch.setattr(Signer, "sign", lambda self, folder, file: file.write_text("{}"))
    sign_folder(folder, Signing(pkcs11="pkcs11:token=x", pkcs11_module="/lib/softhsm.so", key=KEY))
    sign_folder(folder, Signing(sigstore=True))
    monkeypatch.setattr(Verifier, "use_sigstore_verifier", lambda self, **given: asked.append(given))
    monkeypatch.setattr(Verifier, "verify", lambda *args: None)
    verify_folder(folder, bundle, public=sigstore_public("release@example.org", "https://accounts.example.org"))
    assert asked == [
        {"pkcs11_uri": "pkcs11:token=x", "module_paths": ["/lib/softhsm.so"]},
        {"use_ambient_credentials": True},
        {"identity": "release@example.org", "oidc_issuer": "https://accounts.example.org"},
    ]
