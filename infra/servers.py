"""The Prefect server, the MLflow server and the two runners that serve the deployments.

A runner gets the credentials of its own role and no other, for S3 and for the ledger's database: the promoter's alone
can sign receipts, and open the secrets of one-time codes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from infra.layout import HOST, Keys, Layout
from infra.objectstore import BUCKET, MLFLOW_BUCKET
from infra.parts import Part, answers, clean_environment, own_aws_settings, private_folder
from infra.processes import Program
from tasks.settings import QUIET


def prefect_server(layout: Layout) -> Part:
    """Describe the Prefect server of a stack."""
    home = layout.home / "prefect"
    port = layout.ports["prefect"]
    environment = {
        **QUIET,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": layout.owner_url("prefect", driver="asyncpg"),
        "PREFECT_SERVER_UI_API_URL": layout.prefect_api_url,
        # By default the UI's files are written into the installed package, where two servers would share them.
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_LOGGING_COLORS": "false",
    }
    return Part(
        title="Prefect server",
        address=layout.prefect_ui_url,
        port=port,
        needs=("postgres",),
        program=Program(
            name="prefect",
            command=[sys.executable, "-P", "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)],
            environment={**clean_environment(), **environment},
            folder=layout.home,
        ),
        prepare=lambda: private_folder(home),
        is_healthy=lambda: answers(port, "/api/health"),
    )


def mlflow_server(layout: Layout) -> Part:
    """Describe the MLflow server of a stack."""
    home = layout.home / "mlflow"
    port = layout.ports["mlflow"]
    environment = {
        **own_aws_settings(layout.keys["mlflow"].access_key, layout.keys["mlflow"].secret_key),
        **QUIET,
        "MLFLOW_S3_ENDPOINT_URL": layout.s3_endpoint,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "CORRIGENDA_MLFLOW_STORE": layout.owner_url("mlflow"),
    }
    options = [f"--artifacts=s3://{MLFLOW_BUCKET}", f"--host={HOST}", f"--port={port}"]
    return Part(
        title="MLflow server",
        address=layout.mlflow_url,
        port=port,
        needs=("postgres", "s3"),
        program=Program(
            name="mlflow",
            command=[sys.executable, "-P", "-m", "infra.mlflow_app", *options],
            environment={**clean_environment(), **environment},
            folder=home,
        ),
        prepare=lambda: private_folder(home),
        is_healthy=lambda: answers(port, "/health"),
    )


def runner(layout: Layout, role: Literal["editor", "promoter"]) -> Part:
    """Describe the runner that serves the deployments of a role."""
    ready = layout.run / f"{role}.ready"
    environment = {
        **client_environment(layout),
        **own_credentials(layout.keys[role]),
        "CORRIGENDA_READY_FILE": str(ready),
    }
    return Part(
        title=f"{role}'s runner",
        address="",
        needs=("postgres", "s3", "prefect", "mlflow"),
        program=Program(
            name=role,
            command=[sys.executable, "-P", "-m", "flows.serve", role],
            environment={**clean_environment(), **environment},
            folder=Path.cwd(),
        ),
        prepare=lambda: ready.unlink(missing_ok=True),
        is_healthy=ready.is_file,
    )


def own_credentials(keys: Keys) -> Mapping[str, str]:
    """Return the variables that hold a role's credentials, and no empty ones."""
    table = {
        "CORRIGENDA_S3_ACCESS_KEY": keys.access_key,
        "CORRIGENDA_S3_SECRET_KEY": keys.secret_key,
        "CORRIGENDA_DATABASE_USER": keys.database_user,
        "CORRIGENDA_DATABASE_PASSWORD": keys.database_password,
        "CORRIGENDA_SIGNING_KEY": keys.signing_key,
        "CORRIGENDA_SEALING_KEY": keys.sealing_key,
        "CORRIGENDA_RELEASE_KEY": keys.release_key,
    }
    return {name: value for name, value in table.items() if value}


def client_environment(layout: Layout) -> Mapping[str, str]:
    """Return the variables with which a program uses the servers of this stack."""
    prefect_home = layout.home / "prefect"
    return {
        **QUIET,
        "CORRIGENDA_HOME": str(layout.home),
        "CORRIGENDA_DATABASE_URL": layout.database_url("corrigenda"),
        "CORRIGENDA_PREFECT_API_URL": layout.prefect_api_url,
        "CORRIGENDA_PREFECT_UI_URL": layout.prefect_ui_url,
        "CORRIGENDA_MLFLOW_URL": layout.mlflow_url,
        "CORRIGENDA_S3_ENDPOINT": layout.s3_endpoint,
        "CORRIGENDA_S3_BUCKET": BUCKET,
        "CORRIGENDA_ROOT_FINGERPRINT": layout.root_fingerprint,
        "MLFLOW_TRACKING_URI": layout.mlflow_url,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PREFECT_API_URL": layout.prefect_api_url,
        "PREFECT_UI_URL": layout.prefect_ui_url,
        "PREFECT_HOME": str(prefect_home),
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(prefect_home / "results"),
        "PREFECT_LOGGING_COLORS": "false",
        # The editor shares its cores with the servers; threads that spin while they wait slow it down many times over.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
