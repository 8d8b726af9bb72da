"""Each role may do what its work needs in the object store, and nothing else."""

import datetime
import http.client

import psutil
import pytest
from botocore.exceptions import ClientError

from infra import stack as local
from infra.layout import read_layout
from infra.objectstore import BUCKET, MLFLOW_BUCKET, client
from infra.rules import lifecycle

pytestmark = pytest.mark.stack

WRITES = {
    "editor": {"blobs/", "bases/", "candidates/"},
    "promoter": {"blobs/", "releases/"},
    "consumer": set(),
    "mlflow": set(),
}
PREFIXES = ("blobs/", "bases/", "candidates/", "releases/", "blobs-beside/", "")


def store(bucket, role):
    return client(bucket.s3_endpoint, read_layout(bucket.home).keys[role])


def refuses(action, *args, **kwargs) -> bool:
    try:
        action(*args, **kwargs)
    except ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        return True
    return False


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("role", WRITES)
def test_a_role_writes_where_its_work_is_and_nowhere_else(bucket, role, prefix):
    refused = refuses(store(bucket, role).put_object, Bucket=BUCKET, Key=f"{prefix}{role}-writes", Body=b"x")
    assert refused == (prefix not in WRITES[role])


@pytest.mark.parametrize("role", ["editor", "promoter", "consumer"])
def test_every_role_reads_and_lists(bucket, role):
    store(bucket, "editor").put_object(Bucket=BUCKET, Key="candidates/readable", Body=b"x")
    reader = store(bucket, role)
    assert reader.get_object(Bucket=BUCKET, Key="candidates/readable")["Body"].read() == b"x"
    assert reader.list_object_versions(Bucket=BUCKET, Prefix="candidates/readable")["Versions"]


@pytest.mark.parametrize("role", ["editor", "promoter", "consumer", "mlflow"])
def test_no_role_deletes_anything(bucket, role):
    for key, writer in {"releases/kept": "promoter", "blobs/kept": "promoter", "candidates/kept": "editor"}.items():
        writes = store(bucket, writer)
        version = writes.put_object(Bucket=BUCKET, Key=key, Body=b"x")["VersionId"]
        assert refuses(store(bucket, role).delete_object, Bucket=BUCKET, Key=key)
        assert refuses(store(bucket, role).delete_object, Bucket=BUCKET, Key=key, VersionId=version)
        several = store(bucket, role).delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key}]})
        assert [error["Code"] for error in several["Errors"]] == ["AccessDenied"]
        assert writes.head_object(Bucket=BUCKET, Key=key)["VersionId"] == version


def test_only_the_promoter_locks(bucket):
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    retention = {"Mode": "COMPLIANCE", "RetainUntilDate": until}
    promoter = store(bucket, "promoter")
    version = promoter.put_object(Bucket=BUCKET, Key="releases/locked", Body=b"x")["VersionId"]
    lock = {"Bucket": BUCKET, "Key": "releases/locked", "VersionId": version, "Retention": retention}
    assert refuses(store(bucket, "editor").put_object_retention, **lock)
    assert refuses(store(bucket, "consumer").put_object_retention, **lock)
    assert not refuses(promoter.put_object_retention, **lock)


def test_an_object_is_created_once(bucket):
    editor = store(bucket, "editor")
    editor.put_object(Bucket=BUCKET, Key="blobs/once", Body=b"first")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        editor.put_object(Bucket=BUCKET, Key="blobs/once", Body=b"second", IfNoneMatch="*")


@pytest.mark.parametrize("role", ["editor", "promoter", "consumer"])
def test_the_buckets_rules_belong_to_the_stack_alone(bucket, role):
    caller = store(bucket, role)
    assert refuses(caller.delete_bucket_policy, Bucket=BUCKET)
    assert refuses(caller.put_bucket_versioning, Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})
    assert refuses(caller.put_bucket_lifecycle_configuration, Bucket=BUCKET, LifecycleConfiguration=lifecycle())
    assert refuses(caller.create_bucket, Bucket="one-more-bucket")


@pytest.mark.parametrize("role", ["editor", "promoter", "consumer"])
def test_mlflows_bucket_is_closed_to_the_others(bucket, role):
    store(bucket, "mlflow").put_object(Bucket=MLFLOW_BUCKET, Key="its-own", Body=b"x")
    assert refuses(store(bucket, role).get_object, Bucket=MLFLOW_BUCKET, Key="its-own")
    assert refuses(store(bucket, role).put_object, Bucket=MLFLOW_BUCKET, Key="its-own", Body=b"y")


@pytest.mark.parametrize("door", ["s3", "filer"])
def test_nobody_enters_without_credentials(bucket, door):
    path = f"/{BUCKET}/blobs/anonymous" if door == "s3" else f"/buckets/{BUCKET}/blobs/anonymous"
    for method in ("GET", "PUT", "DELETE"):
        connection = http.client.HTTPConnection("127.0.0.1", read_layout(bucket.home).ports[door], timeout=10)
        connection.request(method, path, body=b"x")
        assert connection.getresponse().status in (401, 403)
        connection.close()


@pytest.mark.parametrize("secret", ["CORRIGENDA_SIGNING_KEY", "CORRIGENDA_SEALING_KEY", "CORRIGENDA_RELEASE_KEY"])
def test_only_the_promoters_process_is_given_what_signs_receipts_and_releases_and_opens_secrets(stack, secret):
    given = {part.name: psutil.Process(part.pid).environ() for part in local.status(stack.home)}
    assert {name for name, environment in given.items() if secret in environment} == {"promoter"}
    assert set(given) == {*local.SERVERS, *local.RUNNERS}
