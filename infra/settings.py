"""Where the local stack listens.

Each field is read from `CORRIGENDA_<FIELD>`. A port that isn't set is the one of the last start, else the usual one;
0 asks for any free one, so a second stack can run beside the first.
"""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

USUAL_PORTS = {"prefect": 4200, "mlflow": 5000, "s3": 8333}


class StackSettings(BaseSettings):
    """The ports that people and programs connect to; the others are internal and chosen among the free ones."""

    model_config = SettingsConfigDict(env_prefix="CORRIGENDA_", extra="ignore", frozen=True)

    prefect_port: int | None = Field(default=None, ge=0, lt=65536)
    mlflow_port: int | None = Field(default=None, ge=0, lt=65536)
    s3_port: int | None = Field(default=None, ge=0, lt=65536)

    @classmethod
    def on_free_ports(cls) -> StackSettings:
        """Ask for free ports everywhere, for a stack beside another one."""
        return cls(prefect_port=0, mlflow_port=0, s3_port=0)

    def wanted_port(self, part: str) -> int | None:
        """Return the port set for a part: None when nothing is set, 0 for any free one."""
        ports = {"prefect": self.prefect_port, "mlflow": self.mlflow_port, "s3": self.s3_port}
        return ports[part]
