"""The object store, for those who write: content-addressed, written once.

A blob's key is its sha256, and every write carries `If-None-Match: *` and the checksum that S3 verifies. Writing what
is there already is a success, so every step can be repeated. Reading is the consumer's own code, which hashes what it
gets.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError

from corrigenda import ABSENT, Objects
from editors.digests import canonical_json, sha256_bytes, sha256_file
from tasks.errors import StoreError, UnreachableError
from tasks.files import DigestFile

EXISTS = {"412", "PreconditionFailed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """One object by its content: where it is, how long it is in bytes, and which version was written."""

    key: str
    sha256: str
    size: int
    version_id: str | None = None

    def record(self) -> dict[str, Any]:
        """The blob as a JSON object."""
        return asdict(self)


class Store(Objects):
    """The bucket, seen with one role's credentials."""

    def put(self, content: bytes) -> Blob:
        """Keep bytes under their own sha256."""
        digest = sha256_bytes(content)
        return self._put(f"blobs/{digest}", content, digest=digest, size=len(content))

    def put_file(self, path: Path) -> Blob:
        """Keep a file under its own sha256, without holding it in memory."""
        digest = sha256_file(path)
        with path.open("rb") as body:
            return self._put(f"blobs/{digest}", body, digest=digest, size=path.stat().st_size)

    def put_record(self, key: str, record: dict[str, Any]) -> Blob:
        """Keep a JSON object under a name of its own.

        Raises:
            StoreError: the name is taken by other content, which stays.
        """
        content = canonical_json(record)
        digest = sha256_bytes(content)
        blob = self._put(key, content, digest=digest, size=len(content))
        if self.read(key) != content:
            raise StoreError(f"{self.place(key)} exists with other content; nothing was overwritten")
        return blob

    def records(self, prefix: str) -> Iterator[dict[str, Any]]:
        """The JSON objects whose names begin with a prefix and end in `.json`.

        Raises:
            StoreError: one of them is none.
        """
        with self._write_errors(prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            keys = [item["Key"] for page in pages for item in page.get("Contents", ()) if item["Key"].endswith(".json")]
        for key in keys:
            try:
                record = self.record(key)
            except ValueError as error:
                raise StoreError(f"{self.place(key)} is no JSON: {error}") from error
            if record is not None:
                yield record

    def copy_in(self, folder: Path, sha256: str, kind: str) -> DigestFile:
        """The file of a blob in a folder of this machine, fetched unless it is there already.

        Raises:
            AlteredError: the blob is missing, or hashes to something else.
        """
        file = DigestFile.named(folder, sha256, kind)
        if not file.is_whole():
            folder.mkdir(parents=True, exist_ok=True)
            self.fetch(sha256, file.path)
        return file

    def stat(self, digest: str) -> Blob:
        """Size and version of a blob that is kept.

        Raises:
            StoreError: it is missing.
        """
        key = f"blobs/{digest}"
        head = self._head(key)
        if head is None:
            raise StoreError(f"{self.place(key)} is missing")
        return Blob(key=key, sha256=digest, size=head["ContentLength"], version_id=head.get("VersionId"))

    def flaw(self, digest: str) -> str:
        """What is wrong with a blob by its digest; empty where nothing is.

        The store's own sha256 of what it holds is believed; where it names none, the bytes are read.
        """
        key = f"blobs/{digest}"
        head = self._head(key)
        if head is None:
            return f"{self.place(key)} is missing"
        if named := head.get("ChecksumSHA256"):
            found = base64.b64decode(named).hex()
        else:
            found = sha256_bytes(self.read(key) or b"")
        return "" if found == digest else f"{self.place(key)} holds other content, of sha256 {found}"

    def _put(self, key: str, body: bytes | BinaryIO, *, digest: str, size: int) -> Blob:
        checksum = base64.b64encode(bytes.fromhex(digest)).decode()
        with self._write_errors(key):
            try:
                answer = self.client.put_object(
                    Bucket=self.bucket, Key=key, Body=body, IfNoneMatch="*", ChecksumSHA256=checksum
                )
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in EXISTS:
                    raise
                answer = self._head(key) or {}
        return Blob(key=key, sha256=digest, size=size, version_id=answer.get("VersionId"))

    def _head(self, key: str) -> dict[str, Any] | None:
        with self._write_errors(key):
            try:
                return dict(self.client.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED"))
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in ABSENT:
                    return None
                raise

    @contextmanager
    def _write_errors(self, key: str) -> Iterator[None]:
        """Tell a store that is away from one that refuses."""
        way_out = "see 'corrigenda status', then run the command again"
        try:
            yield
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
                raise UnreachableError(f"{self.place(key)}: {error}; {way_out}") from error
            raise StoreError(f"{self.place(key)}: {error}; check the credentials and the bucket's policy") from error
        except BotoCoreError as error:
            raise UnreachableError(f"{self.place(key)}: {error}; {way_out}") from error
