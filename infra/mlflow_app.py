"""The MLflow server in one process.

`mlflow server` is two processes, each of which imports all of MLflow: one serves, the other waits for it. This one
serves alone, so it starts in half the time and takes half the memory. The names of MLflow's internal variables are
taken from MLflow itself: should they change, this fails to start rather than keep its data elsewhere. The database's
address comes in the environment: it holds a password, and everybody on a machine can read the options of a process.
"""

from __future__ import annotations

import argparse
import os

import uvicorn
from fastapi import FastAPI

ARTIFACT_ROOT = "mlflow-artifacts:/"
STORE = "CORRIGENDA_MLFLOW_STORE"
"""The variable that holds the database's address, in SQLAlchemy's form."""


def main() -> None:
    """Serve the registry of a database and an artifact folder until a signal ends it."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=f"{STORE}: the database, in SQLAlchemy's form")
    parser.add_argument("--artifacts", required=True, help="the folder of artifacts, such as s3://bucket")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", required=True, type=int)
    options = parser.parse_args()
    app = create_app(os.environ[STORE], artifacts=options.artifacts)
    uvicorn.run(app, host=options.host, port=options.port, access_log=False)


def create_app(store: str, *, artifacts: str) -> FastAPI:
    """Return MLflow's app, with its tables created and its artifacts served through it."""
    from mlflow.server import constants
    from mlflow.server.handlers import initialize_backend_stores

    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = store
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = ARTIFACT_ROOT
    os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = artifacts
    os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
    initialize_backend_stores(store, store, ARTIFACT_ROOT)
    from mlflow.server.fastapi_app import app

    return app


if __name__ == "__main__":
    main()
