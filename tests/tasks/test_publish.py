"""A release's manifest is the same each time, and signed once, by what the root certified."""

from __future__ import annotations

import json
from threading import Thread

import pytest

import tasks.publish
from editors.digests import canonical_json, digest_of, sha256_bytes
from governance.signing import RELEASE_SIGNER, new_release_key, release_public
from tasks.errors import IdentityError, StoreError
from tasks.ledger import Ledger
from tasks.people import certified, enrol_release_signer, revoke_identity
from tasks.publish import flaw_of_signature, publish, release_record
from tasks.roots import root_key
from tasks.settings import acting_as
from tasks.store import Store

pytestmark = pytest.mark.stack


POLICY = b'name = "x"\n[[gate]]\nmetric = "regression.perplexity_ratio"\nmax = 1e6\n'


class Press:
    """The promoter's view: candidates of made-up objects, approved by grace, to be published."""

    def __init__(self, trusted, folder) -> None:
        self.trusted, self.ledger, self.folder = trusted, trusted.ledger, folder
        self.store = Store(trusted.promoter)

    def approved(self, *, parent: str = "base"):
        from governance.lifecycle import Event
        from tasks.candidate import DECIDED
        from tasks.objects import EVIDENCE

        with acting_as("editor") as editor:
            store = Store(editor)
            blobs = {each: store.put(f"{self.folder} {parent} {each}".encode()).sha256 for each in EVIDENCE}
            blobs |= {"policy": store.put(POLICY).sha256, "corrections": store.put(b"").sha256}
            manifest = {"format": 1, "base": "base", "base_files": [], "parent": parent, **blobs}
            manifest |= {"values": ["v"], "code": "code", "pins": "pins"}
            manifest |= {"facts": [], "new": [], "returning": [], "leaving": [], "asked_by": "ada", "act": ""}
            digest = digest_of(manifest)
            store.put_record(f"candidates/{digest}.json", manifest)
        data = {"version": "1"} | {name: manifest[name] for name in DECIDED}
        self.ledger.append([Event(entity="candidate", key=digest, kind="opened", actor="corrigenda", data=data)])
        return self.trusted.approve(digest, comment="checked")

    def publish(self, release, **changes) -> None:
        settings = self.trusted.promoter.model_copy(update=changes)
        publish(release, store=self.store, ledger=self.ledger, settings=settings)

    def record(self, release) -> dict:
        return release_record(release, store=self.store, ledger=self.ledger, settings=self.trusted.promoter)

    def kept(self, release, kind: str = "json") -> bytes | None:
        return self.store.read(f"releases/{release.candidate}.{kind}")


@pytest.fixture
def press(trusted, ledger, tmp_path) -> Press:
    return Press(trusted, tmp_path)


def test_a_manifest_names_what_it_is_and_hangs_on_and_the_one_before_it(press):
    first = press.approved()
    second = press.approved(parent=first.candidate)
    press.publish(second)
    record, manifest = json.loads(press.kept(second)), press.store.manifest(second.candidate)
    assert record["parent_manifest"] == sha256_bytes(press.kept(first)), "the one before it is published first"
    assert json.loads(press.kept(first))["parent_manifest"] is None
    for name in ("base", "patch", "values", "moments", "report", "policy", "corrections", "code", "pins"):
        assert record[name] == manifest[name]
    assert record["objects"]["patch"] == press.store.stat(manifest["patch"]).record()
    assert record["objects"]["patch"]["version_id"]
    (receipt,), (certificate,) = record["receipts"], record["certificates"]
    assert (
        json.loads(press.store.get(receipt))
        == press.ledger.standing("receipt", f"{second.candidate}:grace").data["envelope"]
    )
    assert press.store.get(certificate) == canonical_json(certified(press.ledger, press.trusted.promoter)["grace"][1])
    assert (record["position"], record["took_part"], record["comment"]) == (2, ["ada"], "checked")
    assert record["ledger"]["digest"] in {e["digest"] for e in press.ledger.history("candidate", second.candidate)}


def test_done_again_it_is_the_same_to_the_byte_whoever_left_or_came(press, monkeypatch):
    release = press.approved()
    press.publish(release)
    kept, signature = press.kept(release), press.kept(release, "sig")
    revoke_identity("grace", by="ada", reason="left", ledger=press.ledger, settings=press.trusted.promoter)
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    press.ledger = Ledger(press.trusted.promoter.database_url)
    press.publish(release)
    assert (press.kept(release), press.kept(release, "sig")) == (kept, signature)
    assert canonical_json(press.record(release)) == kept


def test_of_two_who_sign_at_once_one_signature_is_kept_and_both_are_content(press, monkeypatch):
    release = press.approved()
    sign = tasks.publish.sign_folder

    def slow(*args):
        made = sign(*args)
        monkeypatch.setattr(tasks.publish, "sign_folder", sign)
        other = Thread(target=press.publish, args=[release])
        other.start()
        other.join()
        return made

    monkeypatch.setattr(tasks.publish, "sign_folder", slow)
    press.publish(release)
    settings = press.trusted.promoter
    assert flaw_of_signature(press.record(release), store=press.store, settings=settings) == ""


def test_a_key_that_the_root_did_not_certify_signs_nothing(press):
    from pydantic import SecretStr

    release = press.approved()
    with pytest.raises(IdentityError, match="something else than the root certified"):
        press.publish(release, release_key=SecretStr(new_release_key()))
    assert press.kept(release, "sig") is None


def test_once_its_key_is_revoked_nothing_more_is_signed_until_another_one_is_certified(press):
    from pydantic import SecretStr

    promoter = press.trusted.promoter
    first = press.approved()
    press.publish(first)
    revoke_identity(RELEASE_SIGNER, by="ada", reason="lost", ledger=press.ledger, settings=promoter)
    second = press.approved(parent=first.candidate)
    with pytest.raises(IdentityError, match="nothing is certified to sign releases"):
        press.publish(second)
    key = new_release_key()
    public = release_public(key, place="here")
    enrol_release_signer(public, root_key(promoter.trust_folder), ledger=press.ledger, settings=promoter)
    press.publish(second, release_key=SecretStr(key))
    press.publish(first)
    for release in (first, second):
        assert flaw_of_signature(press.record(release), store=press.store, settings=promoter) == ""


def test_another_releases_signature_is_told_and_not_replaced(press):
    first = press.approved()
    press.publish(first)
    second = press.approved(parent=first.candidate)
    press.store.put_record(f"releases/{second.candidate}.sig", json.loads(press.kept(first, "sig")))
    with pytest.raises(StoreError, match=r"release 2: .*\.sig .*does not sign it: .*release\.json has sha256"):
        press.publish(second)


def test_what_is_no_signature_at_all_is_told_and_not_replaced(press):
    release = press.approved()
    press.store.client.put_object(Bucket=press.store.bucket, Key=f"releases/{release.candidate}.sig", Body=b"signed")
    with pytest.raises(StoreError, match=r"release 1: .*\.sig at .* is no JSON: Expecting value"):
        press.publish(release)
    assert press.kept(release, "sig") == b"signed"
