"""Uploads: what is sent to the store is written once, and what the store says to have got is what was sent.

A file that is too big for one request goes up in parts, each with its own checksum, and appears when all of them are
there. An upload that fails is taken back. One that was killed begins again; what it left is cleared by the bucket's
lifecycle.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError

from tasks.errors import StoreError

if TYPE_CHECKING:
    from botocore.client import BaseClient

ONCE = {"IfNoneMatch": "*"}


def put_whole(body: bytes | BinaryIO, *, digest: str, named: Mapping[str, str], client: BaseClient) -> dict[str, Any]:
    """Write an object in one request; returns the store's answer.

    Args:
        body: its content.
        digest: the sha256 of that.
        named: its bucket and key.
        client: as whom it is written.

    Raises:
        ClientError: the store refuses, which it does too where there is something already.
        StoreError: the store says to have got something else.
    """
    checksum = in_base64(bytes.fromhex(digest))
    answer = client.put_object(**named, **ONCE, Body=body, ChecksumSHA256=checksum)
    _check(answer, checksum, named)
    return answer


def put_in_parts(path: Path, *, digest: str, size: int, named: Mapping[str, str], client: BaseClient) -> dict[str, Any]:
    """Write an object in parts; returns the store's answer.

    Args:
        path: the file that holds its content; one part of it is in memory at a time.
        digest: the sha256 of that.
        size: of a part, in bytes.
        named: its bucket and key.
        client: as whom it is written.

    Raises:
        ClientError: the store refuses, which it does too where there is something already.
        StoreError: the store says to have got something else, or the file was changed meanwhile.
    """
    with _upload(named, client) as upload:
        parts = _send(path, digest=digest, size=size, upload=upload, client=client)
        answer = client.complete_multipart_upload(**upload, **ONCE, MultipartUpload={"Parts": parts})
    joined = b"".join(base64.b64decode(part["ChecksumSHA256"]) for part in parts)
    _check(answer, f"{in_base64(hashlib.sha256(joined).digest())}-{len(parts)}", named)
    return answer


def in_base64(content: bytes) -> str:
    """Bytes as S3 writes checksums."""
    return base64.b64encode(content).decode()


@contextmanager
def _upload(named: Mapping[str, str], client: BaseClient) -> Iterator[dict[str, str]]:
    """Begin an upload in parts, and take it back if it fails."""
    begun = client.create_multipart_upload(**named, ChecksumAlgorithm="SHA256")
    upload = {**named, "UploadId": begun["UploadId"]}
    try:
        yield upload
    except BaseException:
        with suppress(ClientError, BotoCoreError):  # the store may be away
            client.abort_multipart_upload(**upload)
        raise


def _send(path: Path, *, digest: str, size: int, upload: Mapping[str, str], client: BaseClient) -> list[dict[str, Any]]:
    """Send a file part by part; returns what S3 wants to be told of each."""
    whole, parts = hashlib.sha256(), []
    with path.open("rb") as file:
        while content := file.read(size):
            whole.update(content)
            part = {"PartNumber": len(parts) + 1, "ChecksumSHA256": in_base64(hashlib.sha256(content).digest())}
            answer = client.upload_part(**upload, **part, Body=content)
            _check(answer, part["ChecksumSHA256"], upload)
            parts.append(part | {"ETag": answer["ETag"]})
    if whole.hexdigest() != digest:
        raise StoreError(f"{path} was changed while it was read; nothing was stored, run the command again")
    return parts


def _check(answer: Mapping[str, Any], checksum: str, named: Mapping[str, str]) -> None:
    got = answer.get("ChecksumSHA256", checksum)
    if got != checksum:
        place = f"s3://{named['Bucket']}/{named['Key']}"
        raise StoreError(f"{place}: sent sha256 {checksum}, but the store says to have got {got}; don't trust it")
