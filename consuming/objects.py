"""The object store, for reading: what is read by digest is hashed before it is believed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from consuming.downloads import check_file, is_whole, part_of, size_of
from consuming.errors import AlteredError, RegistryAwayError, proof_errors
from consuming.settings import ConsumerSettings
from editors.contents import naming, object_in
from editors.errors import UnprovenError
from governance.evidence import manifest_key

CONNECT_SECONDS = 5
ATTEMPTS = 4
CUTS = 8
"""How often one download may be cut before it is given up; what came is kept for the next one."""
CHUNK = 1 << 18
RELEASES = "releases/"
ABSENT = {"404", "NoSuchKey", "NotFound", "NoSuchVersion"}
NO_VERSION = {"InvalidArgument", "InvalidRequest"}
"""What is said to the VersionId of another store, where a bucket was copied."""


class Objects:
    """Read access to the bucket: what is read by digest is hashed before it is believed.

    Nothing that was put over a release is seen: its record is read as it was first written, and what the record names
    by the versions that it names.
    """

    def __init__(self, settings: ConsumerSettings) -> None:
        import boto3
        from botocore.config import Config

        self.bucket = settings.s3_bucket
        self.endpoint = settings.s3_endpoint or "AWS"
        self.client = boto3.client(
            "s3",
            endpoint_url=settings.s3_endpoint or None,
            region_name=settings.s3_region,
            aws_access_key_id=settings.s3_access_key.get_secret_value() or None,
            aws_secret_access_key=settings.s3_secret_key.get_secret_value() or None,
            config=Config(
                connect_timeout=CONNECT_SECONDS,
                retries={"max_attempts": ATTEMPTS, "mode": "standard"},
                response_checksum_validation="when_required",  # we hash everything ourselves, and name what differs
                s3={"addressing_style": "path"},
            ),
        )
        self._named: dict[str, str] = {}

    def record(self, key: str) -> dict[str, Any] | None:
        """Read a JSON object, or None where there is none.

        Raises:
            AlteredError: what is there is none, or says something twice.
        """
        content = self.read(key)
        return None if content is None else self._object_in(content, key)

    def read(self, key: str) -> bytes | None:
        """The bytes under a key, or None where there are none.

        What a release's record names is read by the versions that it names from then on.
        """
        with self._errors(key):
            answer = self._open(key)
            content = None if answer is None else answer["Body"].read()
        if content is not None and key.startswith(RELEASES):
            self._learn(content)
        return content

    def manifest(self, candidate: str) -> dict[str, Any]:
        """The manifest of a candidate, which is named by its digest; of a release, by its version.

        Raises:
            AlteredError: it is missing, hashes to something else, or is no JSON object.
        """
        key = manifest_key(candidate)
        if key not in self._named:
            self.read(f"{RELEASES}{candidate}.json")
        return self._object_in(self.checked(key, candidate), key)

    def get(self, digest: str) -> bytes:
        """The blob with this sha256.

        Raises:
            AlteredError: it is missing, or what is there hashes to something else.
        """
        return self.checked(f"blobs/{digest}", digest)

    def checked(self, key: str, digest: str) -> bytes:
        """The bytes under a key, which must hash to a digest; somebody may have put something else over them.

        Raises:
            AlteredError: they are missing, or hash to something else.
        """
        found = ""
        for content in self._contents(key):
            got = hashlib.sha256(content).hexdigest()
            if got == digest:
                return content
            found = found or got
        raise AlteredError(
            f"{self.place(key)}: expected sha256 {digest}, got {found}" if found else f"{self.place(key)} is missing"
        )

    def fetch(self, digest: str, path: Path) -> None:
        """Stream the bytes with this sha256 into a file, which appears only when it is whole.

        A download that is cut goes on where it ended. What came of one that is given up or killed is kept beside the
        file, and the next one goes on from there; the whole is hashed either way.

        Raises:
            AlteredError: they are missing, or what came hashes to something else; no file is left.
            RegistryAwayError: the store is away, or cut the download too often; what came is kept.
            OSError: they don't fit on the disk; no file is left.
        """
        key = f"blobs/{digest}"
        name = f"{path.name} from {self.place(key)}"
        with part_of(path, digest) as part:
            if is_whole(path, digest):  # another process was faster
                Path(part.name).unlink()
                return
            kept = size_of(part)
            self._stream(key, part, name=name)
            if kept and not is_whole(Path(part.name), digest):  # what was kept may be damaged
                part.truncate(0)
                self._stream(key, part, name=name)
            check_file(Path(part.name), digest, name=name)
            Path(part.name).replace(path)

    def versions(self, prefix: str) -> dict[str, list[str]]:
        """The versions of all objects whose key begins so, by key, oldest first; a delete marker is none."""
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=prefix)
        found: dict[str, list[str]] = {}
        for each in (each for page in pages for each in page.get("Versions", ())):  # newest first
            found.setdefault(each["Key"], []).insert(0, each["VersionId"])
        return found

    def place(self, key: str) -> str:
        """The address of a key, for messages."""
        return f"s3://{self.bucket}/{key} at {self.endpoint}"

    def _object_in(self, content: bytes, key: str) -> dict[str, Any]:
        with proof_errors():
            return object_in(content, self.place(key))

    def _learn(self, content: bytes) -> None:
        """Keep in mind the versions that a release's record names."""
        with suppress(UnprovenError), naming(RELEASES):  # no such record: whoever reads it finds out
            named = object_in(content, RELEASES)["objects"].values()
            self._named |= {each["key"]: each["version_id"] for each in named if each["version_id"]}

    def _contents(self, key: str) -> Iterator[bytes]:
        """What readers find under a key, and then each of its versions, oldest first."""
        if (content := self.read(key)) is not None:
            yield content
        with self._errors(key):
            for version in self.versions(key).get(key, ()):
                if answer := self._get(key, version=version):
                    yield answer["Body"].read()

    def _stream(self, key: str, part: BinaryIO, *, name: str) -> None:
        """Write what is under a key behind what is in a file already."""
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        cut: Exception | None = None
        for _ in range(CUTS):
            with self._errors(key):
                answer = self._open(key, start=size_of(part))
                if answer is None:
                    raise AlteredError(f"{name} is missing")
                if "ContentRange" not in answer:  # the whole, whatever was asked for
                    part.truncate(0)
                try:
                    for chunk in answer["Body"].iter_chunks(CHUNK):
                        part.write(chunk)
                except (HTTPClientError, IncompleteReadError) as error:
                    cut = error
                else:
                    part.flush()
                    return
        raise RegistryAwayError(f"{name} was cut {CUTS} times: {cut}; what came is kept, so just ask again") from cut

    def _open(self, key: str, *, start: int = 0) -> dict[str, Any] | None:
        """Ask for an object from a byte on: a release's record by its first version, what it names by the named one.

        A version that is gone, as in a copy of the bucket, is no loss: whatever a record names is hashed.
        """
        if key.startswith(RELEASES):
            versions = self.versions(key).get(key)
            return self._get(key, version=versions[0], start=start) if versions else None
        named = self._named.get(key)
        answer = self._get(key, version=named, start=start) if named else None
        return answer or self._get(key, start=start)

    def _get(self, key: str, *, version: str | None = None, start: int = 0) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError
        from botocore.response import StreamingBody

        asked = {"Bucket": self.bucket, "Key": key}
        asked |= ({"VersionId": version} if version else {}) | ({"Range": f"bytes={start}-"} if start else {})
        try:
            return dict(self.client.get_object(**asked))
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code")
            if code in ABSENT or (version and code in NO_VERSION):
                return None
            if code == "InvalidRange":  # nothing is behind this byte
                return {"Body": StreamingBody(BytesIO(), 0), "ContentRange": ""}
            raise

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise RegistryAwayError(
                f"{self.place(key)}: {error}; is the object store up, and the key right?"
            ) from error
