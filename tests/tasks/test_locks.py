"""A release is neither deleted nor shadowed: readers get the locked bytes, whatever was tried and by whom."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from consuming.errors import AlteredError
from consuming.objects import Objects
from consuming.versions import resolve
from editors.digests import canonical_json, digest_of
from governance.lifecycle import Event
from governance.signing import new_release_key, release_public
from infra.objectstore import admin_client, client
from infra.rules import bucket_policy
from tasks.ledger import Ledger
from tasks.locks import lock_objects, mark, mark_of
from tasks.objects import EVIDENCE
from tasks.people import enrol_release_signer
from tasks.publish import publish
from tasks.roots import make_root, root_key
from tasks.settings import Settings
from tasks.store import Store, locked_until

pytestmark = pytest.mark.stack

ROLES = ("editor", "promoter", "consumer")
FORGED = b'{"candidate": "forged"}'


@pytest.fixture(scope="module")
def ledger(bucket) -> Ledger:
    found = Ledger(bucket.owner_url("corrigenda"))
    found.migrate()
    return found


@pytest.fixture(scope="module")
def signer(ledger, tmp_path_factory) -> dict[str, str]:
    """Settings of a promoter who may sign releases."""
    folder, key = tmp_path_factory.mktemp("trust"), new_release_key()
    given = {"root_fingerprint": make_root(folder), "release_key": key}
    public = release_public(key, place="the test")
    settings = Settings(root_fingerprint=given["root_fingerprint"])
    enrol_release_signer(public, root_key(folder), ledger=ledger, settings=settings)
    return given


@pytest.fixture
def made(as_role) -> str:
    """The digest of a candidate of made-up objects, with a base of one file."""
    store = Store(as_role("editor"))
    content = os.urandom(8)
    blobs = {each: store.put(content + each.encode()).sha256 for each in EVIDENCE}
    base = store.put(content).sha256
    manifest = {
        "format": 1,
        "base": "b" * 64,
        "parent": "b" * 64,
        "base_files": [{"name": "model", "sha256": base, "size": 8}],
        **blobs,
    }
    manifest |= {"values": [], "code": "code", "pins": "pins"}
    manifest |= {"facts": [], "new": [], "returning": [], "leaving": [], "asked_by": "", "act": ""}
    digest = digest_of(manifest)
    store.put_record(f"candidates/{digest}.json", manifest)
    return digest


@pytest.fixture
def released(made, ledger, signer, as_role):
    """Publishes that candidate as a release, as the promoter does, and returns its record."""

    def release(days: float):
        head = ledger.head()
        parent = head.candidate if head else "base"
        opened = Event(entity="candidate", key=made, kind="opened", actor="corrigenda")
        approved = Event(entity="candidate", key=made, kind="approved", actor="grace", data={"receipts": []})
        ledger.append([opened])
        row = ledger.release(made, parent=parent, new=[approved])
        promoter = as_role("promoter", lock_days=days, **signer)
        publish(row, store=Store(promoter), settings=promoter, ledger=ledger)
        return Store(as_role("promoter")).record(f"releases/{made}.json")

    return release


def what_readers_get(candidate: str, settings) -> tuple:
    """A release as a consumer reads it, with nothing remembered from before."""
    objects = Objects(settings)
    version = resolve(candidate, objects, candidate=False, settings=settings)
    digests = [*(version.manifest[name] for name in EVIDENCE), version.manifest["base_files"][0]["sha256"]]
    for digest in digests:
        (settings.home / digest).unlink(missing_ok=True)
        objects.fetch(digest, settings.home / digest)
    return (
        version,
        [objects.get(digest) for digest in digests],
        [(settings.home / each).read_bytes() for each in digests],
    )


def attacks(s3, bucket: str, key: str, version: str) -> dict:
    named = {"Bucket": bucket, "Key": key}
    soon = datetime.now(UTC) + timedelta(seconds=1)

    def over_in_parts():
        upload = {**named, "UploadId": s3.create_multipart_upload(**named)["UploadId"]}
        part = s3.upload_part(**upload, PartNumber=1, Body=FORGED)
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})

    return {
        "delete it": lambda: s3.delete_object(**named),
        "delete the version": lambda: s3.delete_object(**named, VersionId=version),
        "delete the version past a lock": lambda: s3.delete_object(
            **named, VersionId=version, BypassGovernanceRetention=True
        ),
        "delete several": lambda: s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}]})["Errors"][0],
        "end the lock sooner": lambda: s3.put_object_retention(
            **named, VersionId=version, Retention={"Mode": "COMPLIANCE", "RetainUntilDate": soon}
        ),
        "soften the lock": lambda: s3.put_object_retention(
            **named, VersionId=version, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": soon}
        ),
        "take the lock off": lambda: s3.put_object_retention(**named, VersionId=version, Retention={}),
        "write over it": lambda: s3.put_object(**named, Body=FORGED),
        "copy over it": lambda: s3.copy_object(
            **named, CopySource=dict(named), MetadataDirective="REPLACE", Metadata={"a": "b"}
        ),
        "write over it in parts": over_in_parts,
        "drop the policy": lambda: s3.delete_bucket_policy(Bucket=bucket),
        "stop versions": lambda: s3.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}
        ),
        "let all expire": lambda: s3.put_bucket_lifecycle_configuration(
            Bucket=bucket,
            LifecycleConfiguration={
                "Rules": [{"ID": "a", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}]
            },
        ),
    }


WRITES = {"write over it", "copy over it", "write over it in parts"}


def objects_in(record: dict, candidate: str, store: Store) -> dict[str, str]:
    """The key and version of everything that a release consists of, its record too."""
    key = f"releases/{candidate}.json"
    return {each["key"]: each["version_id"] for each in record["objects"].values()} | {key: store.versions(key)[key][0]}


def test_a_release_is_neither_deleted_nor_shadowed_by_any_role(released, made, bucket, as_role):
    record = released(1)
    store, consumer = Store(as_role("promoter")), as_role("consumer")
    objects, before = objects_in(record, made, store), what_readers_get(made, consumer)
    reader = Objects(consumer)
    contents = {each["key"]: reader.checked(each["key"], each["sha256"]) for each in record["objects"].values()}

    def check(key: str) -> None:
        reader._named.clear()  # one who reads it for the first time
        assert reader.record(f"releases/{made}.json") == record
        assert key not in contents or reader.read(key) == contents[key]

    assert set(record["objects"]) == {*EVIDENCE, "base/model", "manifest"}
    wrote: dict[str, set[str]] = {role: set() for role in ROLES}
    tried = 0
    for role in ROLES:
        s3 = client(bucket.s3_endpoint, bucket.keys[role])
        for key, version in objects.items():
            for name, attack in attacks(s3, store.bucket, key, version).items():
                tried += 1
                try:
                    answer = attack()
                except ClientError as error:
                    assert error.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403), (role, key, name)
                else:
                    if name != "delete several":
                        assert name in WRITES, (role, key, name)
                        wrote[role].add(key.partition("/")[0])
                    else:
                        assert answer["Code"] == "AccessDenied"
                check(key)
        assert what_readers_get(made, consumer) == before
    print(f"{tried} attempts on {len(objects)} objects")
    assert wrote == {"editor": {"blobs", "candidates"}, "promoter": {"blobs", "releases"}, "consumer": set()}
    assert all(store.versions(key)[key][0] == version for key, version in objects.items())


def test_readers_who_take_the_newest_version_get_what_was_put_over_a_release(
    released, made, bucket, as_role, monkeypatch
):
    record = released(1)
    consumer, promoter = as_role("consumer"), client(bucket.s3_endpoint, bucket.keys["promoter"])
    patch = record["objects"]["patch"]
    promoter.put_object(Bucket=consumer.s3_bucket, Key=f"releases/{made}.json", Body=canonical_json({"forged": True}))
    promoter.put_object(Bucket=consumer.s3_bucket, Key=patch["key"], Body=b"other weights")
    what_readers_get(made, consumer)
    monkeypatch.setattr(Objects, "_open", lambda self, key, *, start=0: self._get(key, start=start))
    assert Objects(consumer).record(f"releases/{made}.json") == {"forged": True}
    with pytest.raises(AlteredError, match="expected sha256"):
        Objects(consumer).fetch(patch["sha256"], consumer.home / "patch")
    assert Objects(consumer).get(patch["sha256"]), "what is small is looked for among all versions"
    monkeypatch.setattr(Objects, "versions", lambda self, prefix: {})
    with pytest.raises(AlteredError, match="expected sha256"):
        Objects(consumer).get(patch["sha256"])


def test_not_even_the_owner_deletes_what_is_locked_and_what_is_not_locked_the_owner_does(
    released, made, bucket, as_role
):
    record = released(1)
    store, owner, consumer = Store(as_role("promoter")), admin_client(bucket), as_role("consumer")
    before = what_readers_get(made, consumer)
    owner.delete_bucket_policy(Bucket=store.bucket)
    try:
        for key, version in objects_in(record, made, store).items():
            with pytest.raises(ClientError, match="AccessDenied"):
                owner.delete_object(Bucket=store.bucket, Key=key, VersionId=version)
            assert owner.delete_object(Bucket=store.bucket, Key=key)["DeleteMarker"]
        assert what_readers_get(made, consumer) == before, "a delete marker hides nothing"
        loose = store.put(os.urandom(8))
        owner.delete_object(Bucket=store.bucket, Key=loose.key, VersionId=loose.version_id)
        assert store.versions(loose.key) == {}
    finally:
        owner.put_bucket_policy(Bucket=store.bucket, Policy=json.dumps(bucket_policy()))


def test_a_policy_keeps_from_deleting_what_is_not_locked_and_nothing_does_without_it(bucket, as_role):
    store = Store(as_role("editor"))
    blob = store.put(os.urandom(8))
    named = {"Bucket": store.bucket, "Key": blob.key, "VersionId": blob.version_id}
    with pytest.raises(ClientError, match="AccessDenied"):
        store.client.delete_object(**named)
    owner = admin_client(bucket)
    owner.delete_bucket_policy(Bucket=store.bucket)
    try:
        store.client.delete_object(**named)
    finally:
        owner.put_bucket_policy(Bucket=store.bucket, Policy=json.dumps(bucket_policy()))
    assert store.versions(blob.key) == {}


def test_a_copy_of_the_bucket_in_which_versions_have_other_names_is_read_by_digest(released, made, as_role):
    record = released(0)
    objects = Objects(as_role("consumer"))
    objects.manifest(made)
    objects._named |= {
        record["objects"]["patch"]["key"]: "0" * 32,
        record["objects"]["report"]["key"]: "another/store's",
    }
    for name in ("patch", "report"):
        assert objects.get(record["objects"][name]["sha256"])


def test_a_promotion_that_is_repeated_locks_for_no_shorter_time_and_writes_nothing(
    released, made, ledger, signer, as_role
):
    record = released(1)
    store = Store(as_role("promoter"))
    objects = objects_in(record, made, store)

    def locks() -> list[datetime]:
        named = [{"Bucket": store.bucket, "Key": key, "VersionId": version} for key, version in objects.items()]
        return [locked_until(store.client.head_object(**each)) for each in named]

    first = locks()
    assert min(first) > datetime.now(UTC) + timedelta(hours=23)
    promoter = as_role("promoter", lock_days=0.5, **signer)
    publish(ledger.release_of(made), store=Store(promoter), settings=promoter, ledger=ledger)
    assert locks() == first
    assert all(len(store.versions(key)[key]) == 1 for key in objects)


def test_without_days_nothing_is_locked(released, made, as_role):
    record = released(0)
    store = Store(as_role("promoter"))
    for key, version in objects_in(record, made, store).items():
        head = store.client.head_object(Bucket=store.bucket, Key=key, VersionId=version)
        assert locked_until(head) < datetime.now(UTC)


def test_a_lock_takes_the_mark_of_a_closed_candidate_off(as_role):
    settings = as_role("promoter", lock_days=1)
    store = Store(settings)
    blob = store.put(os.urandom(8))
    mark(blob.key, "rejected", store=store)
    assert mark_of(blob.key, store=store) == "rejected"
    lock_objects([blob.record()], store=store, settings=settings)
    assert mark_of(blob.key, store=store) == ""


@pytest.mark.parametrize("role", ["editor", "consumer"])
def test_only_the_promoter_marks(role, as_role):
    blob = Store(as_role("editor")).put(os.urandom(8))
    store = Store(as_role(role))
    with pytest.raises(Exception, match="AccessDenied"):
        mark(blob.key, "rejected", store=store)
