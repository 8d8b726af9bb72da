"""Every setting of the platform, and as whom this process acts.

One class reads all of it, from `CORRIGENDA_<FIELD>`, `./corrigenda.toml` or the local stack's own file, so pointing any
part at a production service is one line. Credentials belong to a role: a runner is started with those of its own role
in its environment; on the local stack a command takes them from `.corrigenda/credentials/<role>.toml`.
"""

from __future__ import annotations

import getpass
import ipaddress
import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from consuming.settings import ConsumerSettings

Role = Literal["editor", "promoter", "consumer"]

SHORTEST_SECRET = 16

# No part calls home, no client starts a server of its own on SQLite, and loading a model shows no bars.
QUIET = {
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
}


class Settings(ConsumerSettings):
    """The operator's settings: the consumer's, and the database, Prefect, the base model, refresh and review."""

    model_config = SettingsConfigDict(hide_input_in_errors=True)  # a secret may be in it

    database_url: str = ""
    database_user: str = ""
    database_password: SecretStr = SecretStr("")
    prefect_api_url: str = ""
    prefect_ui_url: str = ""
    model: str = "smollm2-135m-instruct"
    model_revision: str = ""
    layers: tuple[int, ...] = ()
    seed: int = 0
    policy: str = "default"
    withdrawal_policy: str = "withdraw"
    refresh_cron: str = "0 3 * * *"
    expiry_cron: str = "0 4 * * *"
    reconcile_cron: str = "*/30 * * * *"
    housekeeping_cron: str = "10 * * * *"
    refresh_limit: int = Field(default=200, ge=1)
    culprit_trials: int = Field(default=40, ge=0)
    review_timeout_hours: float = Field(default=168, gt=0)
    reminder_hours: float = Field(default=24, gt=0)
    receipt_hours: float = Field(default=72, gt=0)
    code_attempts: int = Field(default=10, ge=1)
    code_hours: float = Field(default=24, gt=0)
    lock_days: float = Field(default=1, ge=0)
    corpus: Path | None = None
    held_text: Path | None = None
    regression_tasks: tuple[str, ...] = ()
    regression_data: Path | None = None
    regression_limit: int | None = Field(default=None, ge=1)
    submitter: str = Field(default_factory=getpass.getuser)
    trust: Path | None = None
    key_file: Path | None = None
    signing_key: SecretStr = SecretStr("")
    sealing_key: SecretStr = SecretStr("")
    release_key: SecretStr = SecretStr("")
    release_pkcs11: SecretStr = SecretStr("")
    release_pkcs11_module: str = ""
    release_sigstore: bool = False
    webhook_url: str = ""
    webhook_secret: SecretStr = SecretStr("")

    @property
    def trust_folder(self) -> Path:
        """Where the root's key and people's own keys are kept."""
        return self.trust or self.home / "trust"

    @model_validator(mode="before")
    @classmethod
    def enter_as_role(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Put the database's user and password into its address, unless that names a user itself."""
        address = urlsplit(str(given.get("database_url", "")))
        if not address.scheme or "@" in address.netloc or not given.get("database_user"):
            return given
        user, password = (quote(str(given.get(f"database_{name}", "")), safe="") for name in ("user", "password"))
        return given | {"database_url": address._replace(netloc=f"{user}:{password}@{address.netloc}").geturl()}

    @model_validator(mode="after")
    def webhook_is_safe(self) -> Self:
        """Refuse a webhook that would be sent in the clear or unsigned."""
        if not self.webhook_url:
            return self
        if not _is_private(self.webhook_url):
            raise ValueError("webhook_url must be https://, or http:// to 127.0.0.1, ::1 or localhost")
        if len(self.webhook_secret.get_secret_value()) < SHORTEST_SECRET:
            raise ValueError(
                f"webhook_secret must have {SHORTEST_SECRET} characters or more; 'openssl rand -hex 32' makes one"
            )
        return self


def connect() -> Settings:
    """Point Prefect's client, which reads the environment when it is first imported, to the server that is set.

    Returns:
        The settings as they are now.
    """
    settings = Settings()
    os.environ.update(QUIET)
    if settings.prefect_api_url:
        os.environ["PREFECT_API_URL"] = settings.prefect_api_url
    return settings


@contextmanager
def acting_as(role: Role) -> Iterator[Settings]:
    """Act in a role for a while, with what the local stack keeps for it, unless the environment names credentials."""
    file = Settings().home / "credentials" / f"{role}.toml"
    if "CORRIGENDA_S3_ACCESS_KEY" in os.environ or not file.is_file():
        yield Settings()
        return
    keys = tomllib.loads(file.read_text(encoding="utf-8"))
    names = {f"CORRIGENDA_{name.upper()}": value for name, value in keys.items()}
    os.environ.update(names)
    try:
        yield Settings()
    finally:
        for name in names:
            os.environ.pop(name, None)


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_private(url: str) -> bool:
    """Whether nobody on the way reads what is sent there: over TLS, or within this machine."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port  # a port that is none raises ValueError
    return port != 0 and ((parts.scheme == "https" and bool(host)) or (parts.scheme == "http" and is_loopback(host)))
