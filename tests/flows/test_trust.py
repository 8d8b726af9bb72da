"""The root and the people under it, from a terminal."""

from __future__ import annotations

import re

import pyotp
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from typer.testing import CliRunner

from flows.cli import app
from governance.lifecycle import Event
from governance.signing import new_release_key, release_public
from tasks.ledger import Ledger
from tasks.people import identities, secret_of
from tasks.roots import pinned_root
from tasks.settings import Settings, acting_as

pytestmark = pytest.mark.stack


def invoke(*words: str):
    return CliRunner().invoke(app, words, env={"COLUMNS": "200"})


def told(*words: str) -> str:
    result = invoke(*words)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


@pytest.fixture
def founded(stack, ledger, ledger_url, tmp_path, monkeypatch) -> Ledger:
    """A root made from a terminal, by somebody called ada."""
    for name, value in {"DATABASE_URL": ledger_url, "TRUST": tmp_path / "trust", "SUBMITTER": "ada"}.items():
        monkeypatch.setenv(f"CORRIGENDA_{name}", str(value))
    output = told("trust", "init")
    fingerprint = pinned_root(tmp_path / "trust")
    assert f"root {fingerprint}" in output and f'root_fingerprint = "{fingerprint}"' in output.replace("\n", "")
    monkeypatch.setenv("CORRIGENDA_ROOT_FINGERPRINT", fingerprint)
    return ledger


def test_a_root_is_made_once_and_the_first_administrator_with_it(founded, tmp_path):
    again = told("trust", "init")
    assert pinned_root(tmp_path / "trust") in again and "corrigenda.toml" not in again
    assert "its key is here" in told("trust", "show")
    (tmp_path / "trust" / "root.pem").rename(tmp_path / "safe.pem")
    assert "its key is not here" in told("trust", "show")
    known = identities(founded, Settings())
    assert {name: each.roles for name, each in known.items()} == {
        "promoter": (),
        "releasesigner": (),
        "ada": ("administrator", "protector", "requester"),
    }


def test_a_reviewers_secret_is_shown_once_as_an_address_and_a_picture(founded):
    output = told("people", "add", "Grace", "--role", "reviewer")
    (address,) = re.findall(r"otpauth://\S+", output)
    assert "▄" in output and "▀" in output
    with acting_as("promoter") as promoter:
        grace = identities(founded, promoter)["grace"]
        assert pyotp.parse_uri(address).secret == secret_of(grace, promoter)
    assert "otpauth" not in told("people", "list")


def test_who_needs_no_codes_gets_no_secret(founded, tmp_path):
    output = told("people", "add", "Eve", "--role", "requester", "--role", "protector")
    assert "otpauth" not in output and "eve.pem" in output.replace("\n", "")
    assert (tmp_path / "trust" / "people" / "eve.pem").stat().st_mode & 0o777 == 0o600


def test_the_revoked_are_listed_with_the_reason(founded):
    told("people", "add", "Grace", "--role", "reviewer")
    told("people", "revoke", "GRACE", "--reason", "left the house")
    assert "grace" not in identities(founded, Settings())
    (row,) = [line for line in told("people", "list").splitlines() if "Grace" in line]
    assert "revoked" in row and "left the house" in row


def test_whom_nobody_who_may_revoked_is_listed_as_who_still_counts(founded):
    told("people", "add", "Grace", "--role", "reviewer")
    founded.append([Event(entity="identity", key="grace", kind="revoked", actor="ada", reason="she left")])
    founded.append([Event(entity="identity", key="henry", kind="enrolled", actor="ada")])
    lines = told("people", "list").splitlines()
    (row,), (squatted,) = ([line for line in lines if name in line] for name in ("Grace", "henry"))
    assert "enrolled; revoked by nobody who may" in row and "reviewer" in row
    assert "not under this root" in squatted


def test_under_another_name_nobody_enrols_without_that_ones_key(founded, monkeypatch, tmp_path):
    told("people", "add", "Grace", "--role", "administrator")
    (tmp_path / "trust" / "people" / "grace.pem").rename(tmp_path / "elsewhere.pem")
    monkeypatch.setenv("CORRIGENDA_SUBMITTER", "grace")
    result = invoke("people", "add", "Eve", "--role", "reviewer")
    assert result.exit_code and "has no key" in str(result.exception)
    monkeypatch.setenv("CORRIGENDA_KEY_FILE", str(tmp_path / "trust" / "people" / "ada.pem"))
    result = invoke("people", "add", "Eve", "--role", "reviewer")
    assert result.exit_code and "does not hold" in str(result.exception)
    monkeypatch.setenv("CORRIGENDA_KEY_FILE", str(tmp_path / "elsewhere.pem"))
    told("people", "add", "Eve", "--role", "reviewer")


def test_a_promoter_elsewhere_gets_its_keys_in_a_file(stack, ledger_url, tmp_path, monkeypatch):
    monkeypatch.setenv("CORRIGENDA_S3_ACCESS_KEY", "from elsewhere")  # so that no local credentials are read
    monkeypatch.setenv("CORRIGENDA_TRUST", str(tmp_path / "trust"))
    monkeypatch.setenv("CORRIGENDA_DATABASE_URL", ledger_url)
    Ledger(ledger_url).migrate()
    assert "promoter.toml" in told("trust", "init")
    file = tmp_path / "trust" / "promoter.toml"
    assert file.stat().st_mode & 0o777 == 0o600
    kept = file.read_text()
    told("trust", "init")
    assert file.read_text() == kept


def test_the_local_stack_enrols_its_review_service_and_whoever_started_it(stack):
    settings = Settings()
    assert settings.root_fingerprint == stack.root_fingerprint == pinned_root(stack.home / "trust")
    known = identities(Ledger(stack.database_url), settings)
    assert known["promoter"].kind == "service"
    assert known[settings.submitter].roles == ("administrator", "protector", "requester")


def test_a_key_in_a_token_is_certified_by_its_public_half_once_the_one_before_is_revoked(founded, tmp_path):
    key = load_pem_private_key(new_release_key().encode(), None).public_key()
    (tmp_path / "key.pub").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    refused = invoke("trust", "signer", str(tmp_path / "key.pub"))
    assert refused.exit_code and "releases are signed with another key" in str(refused.exception)
    told("people", "revoke", "release signer", "--reason", "it moves into a token")
    assert "releases are signed by" in told("trust", "signer", str(tmp_path / "key.pub"))
    public = release_public((tmp_path / "key.pub").read_text(), place="key.pub")
    assert identities(founded, Settings())["releasesigner"].public_key == public
    assert "signer release signer, since" in told("trust", "show")
