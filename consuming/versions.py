"""Versions: which candidate a name means, and whether it may be used.

MLflow says where an alias points, and is believed no further: a version is a release only where the object store holds
a release's manifest for it, which the promoter alone may write.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from consuming.errors import AlteredError, NotReleasedError, RegistryAwayError, UnknownVersionError
from consuming.lockfile import Pin, check_pinned
from consuming.objects import Objects
from consuming.records import check_manifest, check_release
from consuming.settings import ConsumerSettings
from editors.digests import DIGEST
from governance.evidence import manifest_key, record_key

NUMBER = re.compile(r"[1-9][0-9]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A candidate that may be used: its digest, its manifest, and its release's (None with `candidate=True`)."""

    candidate: str
    manifest: dict[str, Any]
    release: dict[str, Any] | None

    def told(self) -> str:
        """Which release it is, for a line of text."""
        return f"release {self.release['position']}" if self.release else "not released"

    def as_pinned(self, *, root: str) -> Pin:
        """What an entry of the lock file says of a release."""
        assert self.release is not None, "only releases are pinned"
        position, patch = self.release["position"], self.manifest["patch"]
        return Pin(candidate=self.candidate, patch=patch, position=position, root=root)


def resolve(
    name: str, objects: Objects, *, candidate: bool, settings: ConsumerSettings, pin: Pin | None = None
) -> Version:
    """Find the version that a name means, and refuse it unless it may be used.

    Args:
        name: `model@alias`, `model/number`, or the 64 hex digits of a candidate.
        objects: the object store.
        candidate: also find one that is no release.
        settings: where the registry is.
        pin: what the lock file pins the name to, if it does; then the registry isn't asked.

    Raises:
        NotReleasedError: it is no release, and `candidate` is not set.
        AlteredError: its manifest hashes to something else, or is none, or its release's is.
        LockError: it is not what the lock file pins.
    """
    digest = pin.candidate if pin else name if DIGEST.fullmatch(name) else _registered_digest(name, settings)
    release = objects.record(record_key(digest))
    if release is None and not candidate:
        raise NotReleasedError(
            f"{name} is candidate {digest[:12]}, which is no release: nobody approved it, wherever the alias points; "
            "use a released version, or ask for the candidate explicitly"
        )
    if release is not None:
        check_release(release, place=objects.place(record_key(digest)))
        if release["candidate"] != digest:
            raise AlteredError(f"{record_key(digest)} is the record of candidate {release['candidate']}")
    manifest = objects.manifest(digest)
    check_manifest(manifest, place=objects.place(manifest_key(digest)))
    version = Version(candidate=digest, manifest=manifest, release=release)
    if pin:
        found = version.as_pinned(root=settings.root_fingerprint)
        check_pinned(pin, found, entry=f'{settings.lock}, entry "{name}"')
    return version


def _registered_digest(name: str, settings: ConsumerSettings) -> str:
    """Ask MLflow which candidate `model@alias` or `model/number` is."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    model, _, alias = name.partition("@")
    model, _, number = model.partition("/")
    if not model or bool(alias) == bool(number) or (number and not NUMBER.fullmatch(number)):
        raise UnknownVersionError(f"{name!r} names no version; write model@alias, model/number or a digest")
    if not settings.mlflow_url:
        raise RegistryAwayError("no registry: set CORRIGENDA_MLFLOW_URL, or start the local stack with 'corrigenda up'")
    client = MlflowClient(tracking_uri=settings.mlflow_url, registry_uri=settings.mlflow_url)
    try:
        version = client.get_model_version_by_alias(model, alias) if alias else client.get_model_version(model, number)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise UnknownVersionError(f"{name}: the registry at {settings.mlflow_url} has no such version") from error
        raise RegistryAwayError(f"the registry at {settings.mlflow_url} doesn't answer: {error}") from error
    digest = version.tags.get("corrigenda.candidate", "")
    if not DIGEST.fullmatch(digest):
        raise NotReleasedError(f"{name} is version {version.version}, which Corrigenda did not register")
    return digest
