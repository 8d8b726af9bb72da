"""What is written into the object store is written once, whole, and is what was sent."""

from __future__ import annotations

import hashlib
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from botocore.exceptions import ClientError

import tasks.store
import tasks.uploads
from infra.objectstore import admin_client
from tasks.errors import StoreError
from tasks.store import Store
from tasks.uploads import put_in_parts

pytestmark = pytest.mark.stack

MIB = 1 << 20
PARTS = {"largest": MIB, "part": 5 * MIB}  # S3 takes no smaller parts


@pytest.fixture
def store(as_role) -> Store:
    return Store(as_role("editor"))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(11 * MIB))
    return path


def versions(store: Store, key: str) -> list[str]:
    return store.versions(key).get(key, [])


def uploads(store: Store, key: str) -> list:
    found = store.client.list_multipart_uploads(Bucket=store.bucket, Prefix=key).get("Uploads", [])
    return [each for each in found if each["Key"] == key]


def in_parts(store: Store, path, digest: str):
    named = {"Bucket": store.bucket, "Key": f"blobs/{digest}"}
    return put_in_parts(path, digest=digest, size=5 * MIB, named=named, client=store.client)


def test_what_is_there_already_is_not_written_again(store, file):
    for put in (lambda: store.put(b"the same" + str(file).encode()), lambda: store.put_file(file, **PARTS)):
        first, again = put(), put()
        assert first == again and versions(store, first.key) == [first.version_id]


def test_a_file_goes_up_in_parts_and_comes_back_the_same(store, file):
    blob = store.put_file(file, **PARTS)
    head = store.client.head_object(Bucket=store.bucket, Key=blob.key, ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"].endswith("-3") and head["ContentLength"] == blob.size == 11 * MIB
    assert store.get(blob.sha256) == file.read_bytes()
    assert store.stat(blob.sha256) == blob
    assert store.flaw(blob.sha256) == ""


def test_a_file_in_parts_takes_no_taken_place_and_does_without_the_condition(store, file, monkeypatch):
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    first = in_parts(store, file, digest)["VersionId"]
    with pytest.raises(ClientError, match="PreconditionFailed"):
        in_parts(store, file, digest)
    assert versions(store, f"blobs/{digest}") == [first] and uploads(store, f"blobs/{digest}") == []
    monkeypatch.setattr(Store, "_head", lambda self, key, **_: None if not uploads(self, key) else {})
    monkeypatch.setattr(tasks.uploads, "ONCE", {})
    in_parts(store, file, digest)
    assert len(versions(store, f"blobs/{digest}")) == 2


def test_who_comes_second_with_the_same_file_finds_it_there(store, file, monkeypatch):
    first = store.put_file(file, **PARTS)
    asked = Store._head
    answers = iter([None])
    monkeypatch.setattr(Store, "_head", lambda self, key, **more: next(answers, asked(self, key, **more)))
    assert store.put_file(file, **PARTS) == first
    assert versions(store, first.key) == [first.version_id] and uploads(store, first.key) == []


def test_an_upload_that_fails_is_taken_back(store, file, monkeypatch):
    monkeypatch.setattr(tasks.store, "sha256_file", lambda path: hashlib.sha256(str(path).encode()).hexdigest())
    key = f"blobs/{tasks.store.sha256_file(file)}"
    with pytest.raises(StoreError, match="was changed while it was read; nothing was stored"):
        store.put_file(file, **PARTS)
    assert versions(store, key) == [] and uploads(store, key) == []


def test_an_upload_that_was_killed_begins_again(store, file):
    key = f"blobs/{hashlib.sha256(file.read_bytes()).hexdigest()}"
    begun = store.client.create_multipart_upload(Bucket=store.bucket, Key=key, ChecksumAlgorithm="SHA256")
    upload = {"Bucket": store.bucket, "Key": key, "UploadId": begun["UploadId"]}
    store.client.upload_part(**upload, PartNumber=1, Body=b"what came of it", ChecksumAlgorithm="SHA256")
    blob = store.put_file(file, **PARTS)
    assert store.get(blob.sha256) == file.read_bytes()


def test_the_store_refuses_what_is_not_as_its_checksum_says(store, monkeypatch):
    digest = hashlib.sha256(os.urandom(8)).hexdigest()
    monkeypatch.setattr(tasks.store, "sha256_bytes", lambda content: digest)
    with pytest.raises(StoreError, match="BadDigest"):
        store.put(b"something else")
    assert versions(store, f"blobs/{digest}") == []


def test_a_place_that_other_content_took_is_told_and_passed_over_without_the_check(store, bucket, monkeypatch):
    content = os.urandom(8)
    key = f"blobs/{hashlib.sha256(content).hexdigest()}"
    admin_client(bucket).put_object(Bucket=store.bucket, Key=key, Body=b"somebody else's")
    with pytest.raises(StoreError, match=f"{key}.*holds other content, of sha256 .*nothing was overwritten"):
        store.put(content)
    monkeypatch.setattr(Store, "_same", lambda self, key, digest, head: head["VersionId"])
    assert store.put(content).key == key


def test_a_record_is_written_once(store):
    key = f"candidates/{os.urandom(8).hex()}.json"
    store.put_record(key, {"a": 1})
    store.put_record(key, {"a": 1})
    with pytest.raises(StoreError, match="exists with other content; nothing was overwritten"):
        store.put_record(key, {"a": 2})
    assert store.record(key) == {"a": 1} and len(versions(store, key)) == 1


def test_a_file_in_parts_that_was_put_over_is_found_flawed(store, file, bucket, tmp_path):
    blob = store.put_file(file, **PARTS)
    other = tmp_path / "other"
    other.write_bytes(os.urandom(6 * MIB))
    named = {"Bucket": store.bucket, "Key": blob.key}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks.uploads, "ONCE", {})
        digest = hashlib.sha256(other.read_bytes()).hexdigest()
        put_in_parts(other, digest=digest, size=5 * MIB, named=named, client=admin_client(bucket))
    assert f"holds other content, of sha256 {digest}" in store.flaw(blob.sha256)
    assert store.stat(blob.sha256) == blob, "the first version that holds it"


def test_a_store_that_says_to_have_got_something_else_is_not_trusted_and_is_without_the_check(as_role, monkeypatch):
    class Liar(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("x-amz-checksum-sha256", "dpLDrTVAu4A8Ags67mbNiIcSMjTqDG5xQ8Ct1z/0Me0=")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        liar = Store(as_role("editor", s3_endpoint=f"http://127.0.0.1:{server.server_address[1]}"))
        with pytest.raises(StoreError, match=r"blobs/.*the store says to have got dpLD.*don't trust it"):
            liar.put(b"content")
        monkeypatch.setattr(tasks.uploads, "_check", lambda *args: None)
        liar.put(b"content")
        liar.client.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
