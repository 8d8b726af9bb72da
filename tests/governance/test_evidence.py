"""What is brought as evidence lies where it belongs, whatever names a manifest holds."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from editors.digests import canonical_json, sha256_bytes
from editors.errors import UnprovenError
from editors.folders import files_of
from governance.evidence import gather, record_key, signature_key


class Shelf:
    """An object store in memory, which hashes what is got by digest."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, content: bytes) -> str:
        self.objects[f"blobs/{sha256_bytes(content)}"] = content
        return sha256_bytes(content)

    def read(self, key: str) -> bytes | None:
        return self.objects.get(key)

    def checked(self, key: str, digest: str) -> bytes:
        content = self.objects.get(key, b"")
        if sha256_bytes(content) != digest:
            raise LookupError(key)
        return content

    def get(self, digest: str) -> bytes:
        return self.checked(f"blobs/{digest}", digest)

    def release(self, position: int, parent: str, changes: Mapping | None = None) -> str:
        """Put a release there, as a promoter does; returns its candidate."""
        manifest = canonical_json({"position": position})
        candidate = sha256_bytes(manifest)
        self.objects[f"candidates/{candidate}.json"] = manifest
        named = {name: self.put(name.encode()) for name in ("policy", "report", "corrections")}
        lists = {name: [self.put(f"{name} {position}".encode())] for name in ("receipts", "certificates")}
        record = {"position": position, "candidate": candidate, "parent": parent, **named, **lists} | dict(
            changes or {}
        )
        self.objects[record_key(candidate)] = canonical_json(record)
        self.objects[signature_key(candidate)] = canonical_json({"bundle": {}, "certificate": {}})
        return candidate


@pytest.fixture
def patch(tmp_path):
    (tmp_path / "patch").write_bytes(b"patch")
    return tmp_path / "patch"


def test_everything_of_the_whole_chain_is_brought(patch, tmp_path):
    shelf = Shelf()
    newest = shelf.release(2, shelf.release(1, "b" * 64))
    gather(newest, shelf, tmp_path / "evidence", patch=patch)
    names = sorted(name for name in files_of(tmp_path / "evidence") if len(name) < 64)
    assert names == [
        "corrections.jsonl",
        "patch.safetensors",
        "releases/1.sig",
        "releases/1.signer.json",
        "releases/1/candidate.json",
        "releases/1/release.json",
        "releases/2.sig",
        "releases/2.signer.json",
        "releases/2/candidate.json",
        "releases/2/release.json",
        "report.json",
    ]
    assert len(files_of(tmp_path / "evidence")) == len(names) + 5, "a policy, two receipts and two certificates"


OUTSIDE = "../../../escaped"


@pytest.mark.parametrize(
    "changes",
    [
        {"receipts": [OUTSIDE]},
        {"certificates": [OUTSIDE]},
        {"policy": OUTSIDE},
        {"report": OUTSIDE},
        {"parent": OUTSIDE},
        {"position": "2"},
        {"position": 3},
        {"position": 10**12},
        {"receipts": None},
        {"receipts": 7},
    ],
    ids=str,
)
def test_a_name_that_leads_elsewhere_writes_nothing_there(patch, tmp_path, changes: Mapping):
    shelf = Shelf()
    shelf.objects[f"blobs/{OUTSIDE}"] = shelf.objects[record_key(OUTSIDE)] = b"{}"
    newest = shelf.release(2, shelf.release(1, "b" * 64), changes)
    folder = tmp_path / "a" / "b" / "evidence"
    folder.parent.mkdir(parents=True)
    with pytest.raises((UnprovenError, LookupError)):
        gather(newest, shelf, folder, patch=patch)
    outside = [name for name in files_of(tmp_path) if not name.startswith("a/b/evidence/")]
    assert outside == ["patch"]


@pytest.mark.parametrize(
    ("lost", "told"), [("json", "is missing in the object store"), ("sig", "release 1 .* is not signed")]
)
def test_a_release_without_manifest_or_signature_is_told(patch, tmp_path, lost, told):
    shelf = Shelf()
    first = shelf.release(1, "b" * 64)
    newest = shelf.release(2, first)
    del shelf.objects[f"releases/{first}.{lost}"]
    with pytest.raises(UnprovenError, match=told):
        gather(newest, shelf, tmp_path / "evidence", patch=patch)


def test_the_manifest_of_another_candidate_is_refused(patch, tmp_path):
    shelf = Shelf()
    first = shelf.release(1, "b" * 64)
    newest = shelf.release(2, first)
    other = json.loads(shelf.objects[record_key(first)])
    shelf.objects[record_key(newest)] = canonical_json(other | {"position": 2})
    with pytest.raises(UnprovenError, match="is of another release than 2"):
        gather(newest, shelf, tmp_path / "evidence", patch=patch)
