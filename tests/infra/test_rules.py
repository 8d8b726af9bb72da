"""The AWS template is sound, and the local server holds to the same rules."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infra.objectstore import BUCKET, admin_client, identities
from infra.rules import AWS_ONLY, bucket_policy, lifecycle, resources, rights

TEMPLATE = Path(__file__).parents[2] / "infra" / "aws" / "bucket.yaml"


def lint(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), file], capture_output=True, text=True, check=False
    )


def test_the_template_passes_the_linter():
    found = lint(TEMPLATE)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("sound", "broken", "rule"),
    [
        ("ObjectLockEnabled: true", "ObjectLock: true", "E3002"),
        ("DaysAfterInitiation: 7", "DaysAfterInitiation: soon", "E3012"),
        ("s3:PutObjectRetention", "s3:LockObject", "W3037"),
    ],
)
def test_the_linter_finds_what_is_broken(tmp_path, sound, broken, rule):
    text = TEMPLATE.read_text()
    assert sound in text
    (tmp_path / "bucket.yaml").write_text(text.replace(sound, broken))
    found = lint(tmp_path / "bucket.yaml")
    assert found.returncode and rule in found.stdout


def test_the_bucket_keeps_versions_and_can_lock_them_but_locks_nothing_by_itself():
    bucket = resources()["Bucket"]
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
    assert bucket["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}
    assert bucket["Properties"]["ObjectLockEnabled"] is True
    assert "ObjectLockConfiguration" not in bucket["Properties"]


def test_what_the_local_server_can_not_hold_to_is_named_and_the_rest_is_not_left_out():
    statements = resources()["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    left_out = {each["Sid"] for each in statements} - {each["Sid"] for each in bucket_policy()["Statement"]}
    assert left_out == {f"WriteOverNothing{AWS_ONLY}", f"OverTlsOnly{AWS_ONLY}"}


def test_each_role_has_the_rights_that_its_work_needs_and_no_other():
    read = {f"Read:{BUCKET}", f"List:{BUCKET}"}
    assert set(rights("consumer")) == read
    assert set(rights("editor")) == read | {f"Write:{BUCKET}/{each}/*" for each in ("blobs", "bases", "candidates")}
    assert set(rights("promoter")) == read | {
        *(f"Write:{BUCKET}/{each}/*" for each in ("blobs", "releases")),
        *(f"Tagging:{BUCKET}/{each}/*" for each in ("blobs", "candidates")),
        f"GetObjectRetention:{BUCKET}",
        f"PutObjectRetention:{BUCKET}",
    }


@pytest.mark.stack
def test_the_local_server_has_the_templates_rules(bucket):
    owner = admin_client(bucket)
    assert json.loads(owner.get_bucket_policy(Bucket=BUCKET)["Policy"]) == bucket_policy()
    assert owner.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"] == lifecycle()["Rules"]
    assert owner.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
    lock = owner.get_object_lock_configuration(Bucket=BUCKET)["ObjectLockConfiguration"]
    assert lock["ObjectLockEnabled"] == "Enabled" and not lock.get("Rule")
    written = json.loads((bucket.home / "s3" / "identities.json").read_text())["identities"]
    assert written == identities(bucket)
    assert {each["name"]: each["actions"] for each in written}["promoter"] == rights("promoter")
