"""What a consumer sets: where the registry is, and as whom to read it."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)


class ConsumerSettings(BaseSettings):
    """Where the registry is, and as whom to read it.

    Each field is read from `CORRIGENDA_<FIELD>`, else from `./corrigenda.toml`, else from `.corrigenda/stack.toml`,
    which `corrigenda up` writes for the local stack.
    """

    model_config = SettingsConfigDict(env_prefix="CORRIGENDA_", extra="ignore", frozen=True)

    home: Path = Path(".corrigenda")
    mlflow_url: str = ""
    s3_endpoint: str = ""
    s3_bucket: str = "corrigenda"
    s3_region: str = "us-east-1"
    s3_access_key: SecretStr = SecretStr("")
    s3_secret_key: SecretStr = SecretStr("")
    registered_model: str = "assistant"
    root_fingerprint: str = ""
    lock: Path = Path("corrigenda.lock")
    device: str = "auto"
    serve_key: SecretStr = SecretStr("")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, the environment over the files."""
        stack = Path(os.environ.get("CORRIGENDA_HOME", ".corrigenda")) / "stack.toml"
        files = TomlConfigSettingsSource(settings_cls, toml_file=[stack, Path("corrigenda.toml")])
        return init_settings, env_settings, files
