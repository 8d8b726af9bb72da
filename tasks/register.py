"""Register: a candidate becomes a version of the registered model in MLflow, once.

MLflow has no idempotency key, so the version is looked up by the candidate's digest under an advisory lock of the
ledger's database, and created only where there is none. The version carries the lineage in its tags; its artifacts hold
copies for people to read, while consumers follow the digests into the object store.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import RegistryError, UnreachableError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from tasks.ledger import Ledger
    from tasks.settings import Settings

EXPERIMENT = "corrigenda"
CODE = Path(__file__).with_name("served_model.py")
REQUIREMENTS = ["corrigenda"]
LINEAGE = ("base", "parent", "patch", "policy", "code", "report", "corrections", "moments", "editor")
"""What of a candidate's manifest its version names in tags."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the registry shall know of a candidate.

    Attributes:
        candidate: its digest, by which it is looked up.
        tags: the lineage, full digests.
        metrics: the numbers after the edit.
        params: the editor's settings.
        files: copies for people to read, by file name.
        corrections: the facts in it, one record each.
        description: a few lines of Markdown.
    """

    candidate: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    files: Mapping[str, bytes]
    corrections: Sequence[Mapping[str, Any]]
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """Where a candidate stands in MLflow: the version's number, and the run that logged it."""

    version: str
    run: str
    experiment: str


def registry(settings: Settings) -> MlflowClient:
    """A client of the registry that the settings name."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=settings.mlflow_url, registry_uri=settings.mlflow_url)


def register(entry: Entry, *, settings: Settings, ledger: Ledger) -> Registered:
    """Register a candidate, unless it is registered already.

    Raises:
        UnreachableError: the MLflow server doesn't answer; nothing is left half-registered that a second call
            would not complete.
    """
    client = registry(settings)
    with ledger.named_lock(f"mlflow {entry.candidate}"), _answers(settings):
        if not find_version(client, settings.registered_model, entry.candidate):
            uri, run_id = _log(entry, settings)
            _create_version(client, settings.registered_model, entry, uri=uri, run_id=run_id)
        version = find_version(client, settings.registered_model, entry.candidate)
        assert version is not None, "it was just created"
        assert version.run_id is not None, "it was created from a run"
        run = client.get_run(version.run_id)
    return Registered(version=str(version.version), run=run.info.run_id, experiment=run.info.experiment_id)


def find_version(client: MlflowClient, name: str, candidate: str) -> ModelVersion | None:
    """The version that stands for a candidate, if it was registered."""
    found = client.search_model_versions(f"name = '{name}' and tags.`corrigenda.candidate` = '{candidate}'")
    return min(found, key=lambda version: int(version.version), default=None)


def lineage_tags(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The tags by which a version names what its candidate is made of."""
    return {f"corrigenda.{name}": str(manifest[name]) for name in LINEAGE}


def version_for(settings: Settings, candidate: str) -> ModelVersion | None:
    """The version that stands for a candidate, if it was registered; the registry is asked for it anew."""
    with _answers(settings):
        return find_version(registry(settings), settings.registered_model, candidate)


def version_of(settings: Settings, candidate: str) -> str:
    """The number of a candidate's version.

    Raises:
        RegistryError: it has none.
    """
    version = version_for(settings, candidate)
    if version is None:
        raise RegistryError(
            f"candidate {candidate[:12]} has no version in MLflow's {settings.registered_model}, though it was "
            "registered before it was opened; restore MLflow's database from before the version was deleted"
        )
    return str(version.version)


def all_versions(settings: Settings) -> list[ModelVersion]:
    """Every version of the registered model, oldest first."""
    client = registry(settings)
    found: list[ModelVersion] = []
    token: str | None = None
    with _answers(settings):
        while True:
            page = client.search_model_versions(f"name = '{settings.registered_model}'", page_token=token)
            found += page
            if not (token := page.token):
                return sorted(found, key=lambda version: int(version.version))


def aliased(settings: Settings) -> dict[str, str]:
    """The number of the version that each alias of the registered model stands for; none where there is no model."""
    from mlflow.exceptions import MlflowException

    with _answers(settings):
        try:
            model = registry(settings).get_registered_model(settings.registered_model)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
    return {alias: str(version) for alias, version in model.aliases.items()}


def point_alias(settings: Settings, *, alias: str, candidate: str) -> None:
    """Let an alias stand for a candidate's version.

    Raises:
        RegistryError: it has none.
    """
    version = version_of(settings, candidate)
    with _answers(settings):
        registry(settings).set_registered_model_alias(settings.registered_model, alias, version)


def _log(entry: Entry, settings: Settings) -> tuple[str, str]:  # pyright: ignore[reportReturnType]
    """Record the run and the model; returns the model's address and the run's id."""
    # The checker thinks that leaving an MLflow run may swallow an error; it does not.
    import mlflow

    mlflow.set_tracking_uri(settings.mlflow_url)
    mlflow.set_registry_uri(settings.mlflow_url)
    mlflow.set_experiment(EXPERIMENT)
    name = f"candidate {entry.candidate[:12]}"
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run(run_name=name, tags=dict(entry.tags)) as run:
        mlflow.log_params(dict(entry.params))
        mlflow.log_metrics(dict(entry.metrics))
        mlflow.log_input(_dataset(entry.corrections), context="editing")
        for name, content in entry.files.items():
            (Path(folder) / name).write_bytes(content)
        mlflow.log_artifacts(folder)
        note = Path(folder) / "candidate.json"
        noted = {"candidate": entry.candidate, "model": settings.registered_model}
        note.write_text(json.dumps(noted), encoding="utf-8")
        model = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(CODE),
            artifacts={"candidate": str(note)},
            signature=_signature(),
            pip_requirements=REQUIREMENTS,
        )
        return model.model_uri, run.info.run_id


def _create_version(client: MlflowClient, name: str, entry: Entry, *, uri: str, run_id: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="Kept true by Corrigenda; use it through an alias.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    client.create_model_version(
        name=name,
        source=uri,
        run_id=run_id,
        tags=dict(entry.tags),
        description=entry.description,
        model_id=uri.rpartition("/")[2],
    )


def _dataset(corrections: Sequence[Mapping[str, Any]]) -> Any:  # noqa: ANN401 - MLflow's own type, imported late
    import pandas as pd
    from mlflow.data.pandas_dataset import from_pandas

    rows = [
        {key: value if isinstance(value, str) else json.dumps(value) for key, value in c.items()} for c in corrections
    ]
    return from_pandas(pd.DataFrame(rows, dtype="object"), name="corrections")


def _signature() -> Any:  # noqa: ANN401 - MLflow's own type, imported late
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, DataType, Schema

    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "prompt")]), outputs=Schema([ColSpec(DataType.string, "answer")])
    )


@contextmanager
def _answers(settings: Settings) -> Iterator[None]:
    """Say in plain words that the registry is away."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        yield
    except (MlflowException, RequestException) as error:
        raise UnreachableError(
            f"the MLflow server at {settings.mlflow_url} doesn't do it: {error}; see 'corrigenda status'"
        ) from error
