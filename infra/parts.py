"""What every part of the stack has in common: a program, what it needs, and how to tell that it is well."""

from __future__ import annotations

import http.client
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.layout import HOST
from infra.processes import Program

# What would lead a part to another server, account or project than the stack's, or give it another part's secrets.
FOREIGN_PREFIXES = (
    "AWS_",
    "MLFLOW_",
    "PREFECT_",
    "CORRIGENDA_DATABASE_",
    "CORRIGENDA_RELEASE_KEY",
    "CORRIGENDA_S3_",
    "CORRIGENDA_SEALING_",
    "CORRIGENDA_SIGNING_",
    "PG",
)
ASK_SECONDS = 2.0


def do_nothing() -> None:
    """Prepare or settle a part that needs no such thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One server or runner of the stack.

    Args:
        title: its name in messages.
        address: where it is reached; empty for a runner.
        program: what is started.
        needs: the parts that must be up before.
        port: the public port that it listens on; None when it listens on none.
        start_seconds: how long it may take to become healthy.
        prepare: what is done before it starts, such as creating its folder.
        is_healthy: whether it does its work; called while it runs.
        settle: what is done once it is healthy, such as creating databases; done again, it changes nothing.
        clear: what is done after it has stopped.
    """

    title: str
    address: str
    program: Program
    needs: tuple[str, ...] = ()
    port: int | None = None
    start_seconds: float = 240.0
    prepare: Callable[[], None] = do_nothing
    is_healthy: Callable[[], bool]
    settle: Callable[[], None] = do_nothing
    clear: Callable[[], None] = do_nothing

    @property
    def name(self) -> str:
        """The part's short name."""
        return self.program.name


def clean_environment() -> dict[str, str]:
    """Return our environment without what belongs to other servers, and with local addresses kept off any proxy."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN_PREFIXES)}
    quiet = {"DO_NOT_TRACK": "true", "NO_PROXY": f"{HOST},localhost", "no_proxy": f"{HOST},localhost"}
    return {**kept, **quiet, "PYTHONUNBUFFERED": "1"}


def own_aws_settings(access_key: str, secret_key: str) -> Mapping[str, str]:
    """Return the variables that give an S3 client these credentials and hide the user's own AWS settings from it."""
    return {
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def answers(port: int, path: str) -> bool:
    """Say whether a server on this machine answers a request for `path` with 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=ASK_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def private_folder(folder: Path) -> None:
    """Create a folder for our eyes only."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
