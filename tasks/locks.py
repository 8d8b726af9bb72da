"""Locks: what a release consists of can be deleted by nobody for some time, the account's owner included.

A lock is on one version of an object, so whatever is put over it changes nothing for those who read by version. What
only closed candidates consist of is marked instead, and expires by the bucket's rule. A lock takes such a mark away,
and the rule could not remove a locked version anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from consuming.objects import ABSENT
from tasks.settings import Settings
from tasks.store import Store, locked_until

MARK = "candidate"
"""The tag of an object that belongs to a closed candidate."""


def lock_objects(blobs: Iterable[Mapping[str, Any]], *, store: Store, settings: Settings) -> None:
    """Lock versions of objects for as many days as are set; a lock that ends later stays.

    Args:
        blobs: the record of each.
        store: where they are, as the promoter sees it.
        settings: say for how long.
    """
    if not settings.lock_days:
        return
    until = datetime.now(UTC) + timedelta(days=settings.lock_days)
    for blob in blobs:
        _lock(blob, until=until, store=store)


def mark(key: str, value: str, *, store: Store) -> None:
    """Mark an object, or take its mark off with an empty value; one that is gone stays so."""
    named = {"Bucket": store.bucket, "Key": key}
    with store.write_errors(key), _if_there():
        if value:
            store.client.put_object_tagging(**named, Tagging={"TagSet": [{"Key": MARK, "Value": value}]})
        elif mark_of(key, store=store):
            store.client.delete_object_tagging(**named)


def mark_of(key: str, *, store: Store) -> str:
    """The mark of an object; empty where it has none, or is gone."""
    with store.write_errors(key), _if_there():
        tags = store.client.get_object_tagging(Bucket=store.bucket, Key=key)["TagSet"]
        return next((tag["Value"] for tag in tags if tag["Key"] == MARK), "")
    return ""


def _lock(blob: Mapping[str, Any], *, until: datetime, store: Store) -> None:
    named = {"Bucket": store.bucket, "Key": blob["key"], "VersionId": blob["version_id"]}
    with store.write_errors(blob["key"]):
        head = store.client.head_object(**named)
        if head.get("TagCount"):
            store.client.delete_object_tagging(**named)
        if locked_until(head) >= until:
            return
        retention = {"Mode": "COMPLIANCE", "RetainUntilDate": until}
        try:
            store.client.put_object_retention(**named, Retention=retention)
        except ClientError:
            if locked_until(store.client.head_object(**named)) < until:  # nobody locked it for longer meanwhile
                raise


@contextmanager
def _if_there() -> Iterator[None]:
    """Pass over an object that is gone."""
    try:
        yield
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in ABSENT:
            raise
