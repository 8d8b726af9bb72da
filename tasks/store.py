"""The object store, for those who write: content-addressed, written once, locked where it is released.

A blob's key is its sha256, and every write carries `If-None-Match: *` and the checksum that S3 verifies. Writing what
is there already is a success, so every step can be repeated. Reading is the consumer's own code, which hashes what it
gets.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError

from consuming.errors import AlteredError
from consuming.objects import ABSENT, CHUNK, Objects
from editors.digests import canonical_json, sha256_bytes, sha256_file
from tasks.errors import StoreError, UnreachableError
from tasks.files import DigestFile
from tasks.uploads import put_in_parts, put_whole

LARGEST_PUT = 1 << 30
"""The size in bytes above which a file goes up in parts; S3 takes five times as much at once."""
PART = 64 << 20
"""The size in bytes of such a part; S3 takes 10,000 of them."""
EXISTS = {"412", "PreconditionFailed"}
BUSY = "ConditionalRequestConflict"
"""Said to the slower of two who write the same key at once; what the faster one writes is there soon."""


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

    def put_file(self, path: Path, *, largest: int = LARGEST_PUT, part: int = PART) -> Blob:
        """Keep a file under its own sha256, without holding it in memory.

        Args:
            path: the file.
            largest: the size in bytes above which it goes up in parts.
            part: the size in bytes of each of them.
        """
        digest, size = sha256_file(path), path.stat().st_size
        key = f"blobs/{digest}"
        if size > largest:
            return self._put_parts(key, path, digest=digest, size=size, part=part)
        with path.open("rb") as body:
            return self._put(key, body, digest=digest, size=size)

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
        with self.write_errors(prefix):
            keys = [key for key in self.versions(prefix) if key.endswith(".json")]
        for key in keys:
            try:
                record = self.record(key)
            except AlteredError as error:
                raise StoreError(str(error)) from error
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

    def stat(self, digest: str, *, key: str = "") -> Blob:
        """The first version of an object that holds what it should.

        Args:
            digest: the sha256 that it should have.
            key: its key, if that isn't the blob's of this digest.

        Raises:
            StoreError: there is none.
        """
        key = key or f"blobs/{digest}"
        with self.write_errors(key):
            versions = self.versions(key).get(key, [])
        for version in versions:
            head = self._head(key, version=version)
            if head and (len(versions) == 1 or self._digest(key, head) == digest):
                return Blob(key=key, sha256=digest, size=head["ContentLength"], version_id=version)
        raise StoreError(f"{self.place(key)} is missing, or holds other content")

    def flaw(self, digest: str) -> str:
        """What is wrong with a blob by its digest, as its newest version is; empty where nothing is.

        The store's own sha256 of what it holds is believed. Of what was written in parts it names none: it is read,
        unless it is locked, for what is locked was read before.
        """
        key = f"blobs/{digest}"
        head = self._head(key)
        if head is None:
            return f"{self.place(key)} is missing"
        found = self._digest(key, head, locked=digest)
        return "" if found == digest else f"{self.place(key)} holds other content, of sha256 {found}"

    def _put(self, key: str, body: bytes | BinaryIO, *, digest: str, size: int) -> Blob:
        named = {"Bucket": self.bucket, "Key": key}
        version = self._once(key, digest, lambda: put_whole(body, digest=digest, named=named, client=self.client))
        return Blob(key=key, sha256=digest, size=size, version_id=version)

    def _put_parts(self, key: str, path: Path, *, digest: str, size: int, part: int) -> Blob:
        given = {"digest": digest, "size": part, "named": {"Bucket": self.bucket, "Key": key}, "client": self.client}
        if head := self._head(key):  # only a small one is sent to be refused
            version = self._same(key, digest, head)
        else:
            version = self._once(key, digest, lambda: put_in_parts(path, **given))
        return Blob(key=key, sha256=digest, size=size, version_id=version)

    def _once(self, key: str, digest: str, put: Callable[[], dict[str, Any]]) -> str | None:
        """Write an object unless it is there; returns its version."""
        with self.write_errors(key):
            try:
                return put().get("VersionId")
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in EXISTS:
                    raise
                return self._same(key, digest, self._head(key) or {})

    def _same(self, key: str, digest: str, head: Mapping[str, Any]) -> str | None:
        """The version of what is there already.

        Raises:
            StoreError: it is a blob with other content.
        """
        if key.startswith("blobs/") and (found := self._digest(key, head, locked=digest)) != digest:
            raise StoreError(
                f"{self.place(key)} holds other content, of sha256 {found}; nothing was overwritten. "
                "Find out who wrote it, and remove it as the bucket's owner"
            )
        return head.get("VersionId")

    def _digest(self, key: str, head: Mapping[str, Any], *, locked: str = "") -> str:
        """The sha256 of one version, by the store's word; where it names none of the whole, the bytes are read."""
        named = head.get("ChecksumSHA256", "")
        if named and "-" not in named:
            return base64.b64decode(named).hex()
        if named and locked and locked_until(head) > datetime.now(UTC):
            return locked
        digest = hashlib.sha256()
        with self._errors(key):
            answer = self._get(key, version=head.get("VersionId"))
            for chunk in answer["Body"].iter_chunks(CHUNK) if answer else ():
                digest.update(chunk)
        return digest.hexdigest()

    def _head(self, key: str, *, version: str = "") -> dict[str, Any] | None:
        asked = {"Bucket": self.bucket, "Key": key} | ({"VersionId": version} if version else {})
        with self.write_errors(key):
            try:
                return dict(self.client.head_object(**asked, ChecksumMode="ENABLED"))
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in ABSENT:
                    return None
                raise

    @contextmanager
    def write_errors(self, key: str) -> Iterator[None]:
        """Tell a store that is away from one that refuses."""
        way_out = "see 'corrigenda status', then run the command again"
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code")
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500 or code == BUSY:
                raise UnreachableError(f"{self.place(key)}: {error}; {way_out}") from error
            raise StoreError(f"{self.place(key)}: {error}; check the credentials and the bucket's policy") from error
        except BotoCoreError as error:
            raise UnreachableError(f"{self.place(key)}: {error}; {way_out}") from error


def locked_until(head: Mapping[str, Any]) -> datetime:
    """When the lock of a version ends that nobody can take off; long ago where it has none."""
    locked = head.get("ObjectLockMode") == "COMPLIANCE"
    return head["ObjectLockRetainUntilDate"] if locked else datetime.min.replace(tzinfo=UTC)
