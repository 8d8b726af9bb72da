from __future__ import annotations

import base64
import json

import pytest
from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

from governance.envelopes import (
    claimed,
    fingerprint,
    key_of,
    load_key,
    new_key,
    pem_of,
    public_key,
    save_key,
    sign,
    statement,
    verify,
)
from governance.errors import ForgedError, KeyFileError

TEXT = statement("urn:test", subject={"thing": "ab" * 32}, predicate={"says": "Zürich", "n": 1})


def test_what_was_signed_is_read_back_from_its_envelope():
    key = new_key()
    assert verify(sign(TEXT, key), public_key(key)) == TEXT


def test_verifying_leaves_the_envelope_as_it_was():
    key = new_key()
    envelope = sign(TEXT, key)
    before = json.dumps(envelope)
    verify(envelope, public_key(key))
    assert json.dumps(envelope) == before


def test_a_statement_is_one_by_the_specifications_own_classes():
    found = json_format.ParseDict({"type": TEXT["_type"]}, statement_pb2.Statement())
    parsed = json_format.Parse(json.dumps({("type" if k == "_type" else k): v for k, v in TEXT.items()}), found)
    Statement.copy_from_pb(parsed).validate()


def test_another_key_does_not_verify():
    with pytest.raises(ForgedError, match="does not hold"):
        verify(sign(TEXT, new_key()), public_key(new_key()))


def test_a_signature_under_the_name_of_another_key_does_not_verify():
    key, other = new_key(), new_key()
    envelope = sign(TEXT, other)
    envelope["signatures"][0]["keyid"] = fingerprint(public_key(key))
    with pytest.raises(ForgedError, match="does not hold"):
        verify(envelope, public_key(key))


@pytest.mark.parametrize("name", ["payload", "payloadType"])
def test_changed_content_does_not_verify(name):
    key = new_key()
    envelope = sign(TEXT, key)
    changed = base64.b64encode(json.dumps(TEXT | {"predicate": {"says": "Bern"}}).encode()).decode()
    envelope[name] = {"payload": changed, "payloadType": "text/plain"}[name]
    with pytest.raises(ForgedError):
        verify(envelope, public_key(key))


@pytest.mark.parametrize(
    "envelope", [{}, {"payload": "%", "payloadType": "x", "signatures": []}, {"payload": 1}, [], {"payload": None}]
)
def test_what_is_no_envelope_is_refused_by_name(envelope):
    with pytest.raises(ForgedError, match="no signed envelope"):
        verify(envelope, public_key(new_key()))
    with pytest.raises(ForgedError):
        claimed(envelope)


def test_a_subject_named_twice_is_no_statement():
    key = new_key()
    twice = TEXT | {"subject": TEXT["subject"] * 2}
    with pytest.raises(ForgedError, match="each subject named once"):
        verify(sign(twice, key), public_key(key))


def test_a_key_is_kept_for_its_owner_alone_and_never_overwritten(tmp_path):
    file, key = tmp_path / "people" / "ada.pem", new_key()
    save_key(key, file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert public_key(load_key(file)) == public_key(key)
    with pytest.raises(KeyFileError, match="never overwritten"):
        save_key(new_key(), file)
    assert public_key(load_key(file)) == public_key(key)


def test_a_key_that_others_may_read_is_refused(tmp_path):
    save_key(new_key(), tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o640)
    with pytest.raises(KeyFileError, match="others than its owner"):
        load_key(tmp_path / "key.pem")


@pytest.mark.parametrize("pem", ["", "secret", pem_of(new_key())[:60]], ids=["empty", "word", "cut"])
def test_what_is_no_key_is_named_by_its_place_and_not_shown(pem):
    with pytest.raises(KeyFileError, match="CORRIGENDA_SIGNING_KEY") as found:
        key_of(pem, place="CORRIGENDA_SIGNING_KEY")
    assert not pem or pem not in str(found.value)
