"""The public face of Corrigenda for programs: pull, verify and load a release, and pin what a service runs.

    folder = corrigenda.pull("assistant@champion", "served/")
    corrigenda.verify(folder, root="9f2c...")
    model, tokenizer = corrigenda.load("assistant@champion")
    adapter = corrigenda.pull("assistant@champion", "adapter/", form="adapter")
    corrigenda.lock(["assistant@champion"])

A version is believed only if the object store holds a release's manifest for it, which the promoter alone may write,
and if every byte hashes to what its manifest says. Where a root's fingerprint is set, its signatures, receipts and the
chain behind it must lead to that root too. A name that the lock file pins means what is pinned there. Of the project's
packages this module imports `editors` alone, so it works in a folder that has a `tasks/` or `flows/` of its own;
nothing heavy is imported before it is used.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from pydantic import SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from editors.digests import sha256_file
from editors.errors import LockFileError, UnprovenError
from editors.evidence import CARD, DTYPES, FOLDER, FORMS, MEASURED, NEWEST, gather, record_key
from editors.folders import files_of, whole_folder
from editors.lockfile import Pin, check_name, check_pinned, model_of, read_lock, write_lock

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from editors.forms import Form
    from editors.verifying import Link

__all__ = ["ConsumerSettings", "ReleaseError", "load", "lock", "outdated", "pull", "verify"]

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 5
ATTEMPTS = 4
CUTS = 8
"""How often one download may be cut before it is given up; what came is kept for the next one."""
CHUNK = 1 << 18
RELEASES = "releases/"
ABSENT = {"404", "NoSuchKey", "NotFound", "NoSuchVersion"}
NO_VERSION = {"InvalidArgument", "InvalidRequest"}
"""What is said to the VersionId of another store, where a bucket was copied."""
COMPARED = 32  # prompts
GONE = {"revoked": "was revoked", "expired": "expired"}
"""How a fact leaves that no longer holds, in words."""
DIGEST = re.compile(r"[0-9a-f]{64}")
NUMBER = re.compile(r"[1-9][0-9]*")
PLAIN_PATH = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*")

Progress = Callable[[str], None]


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


class ReleaseError(Exception):
    """A release can't be used: the message says which, why, and the way out.

    ReleaseError
    ├── UnknownVersionError   the registry has no such version
    ├── NotReleasedError      the version is no release
    ├── AlteredError          a file or record is missing, incomplete, or differs from its digest
    ├── LockError             the lock file can't be read, or pins something else
    ├── FormError             a form or a precision in which it can't be had
    └── RegistryAwayError     the registry or the object store doesn't answer

    Of AlteredError is also what doesn't prove what it should: signatures, receipts, and the chain of releases.
    """


class UnknownVersionError(ReleaseError):
    """The registry has no such version."""


class NotReleasedError(ReleaseError):
    """The version was never approved as a release, whatever an alias says."""


class AlteredError(ReleaseError):
    """A file or record is missing, incomplete, differs from its digest, or doesn't prove what it should."""


class LockError(ReleaseError):
    """The lock file can't be read, or pins something else than what is there."""


class FormError(ReleaseError):
    """A form or a precision in which a release can't be had."""


class RegistryAwayError(ReleaseError):
    """The registry or the object store doesn't answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A candidate that may be used: its digest, its manifest, and its release's (None with `candidate=True`)."""

    candidate: str
    manifest: dict[str, Any]
    release: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lagging:
    """What the lock file pins, beside what the name stands for now.

    Attributes:
        name: that is pinned.
        pin: to what.
        approved: when the pinned release was.
        now: what the name stands for.
        added, withdrawn: the ids of facts that this one has and the pinned one has not, and the reverse.
        gone: of the pinned one's facts, what became of those that were revoked or have expired in any release since.
    """

    name: str
    pin: Pin
    approved: str
    now: Version
    added: Sequence[str]
    withdrawn: Sequence[str]
    gone: Sequence[str]

    @property
    def outdated(self) -> bool:
        """Whether the name stands for something else, or what is pinned says what was revoked or has expired."""
        return self.now.candidate != self.pin.candidate or bool(self.gone)


def pull(
    name: str,
    folder: str | Path,
    *,
    form: Form = "model",
    dtype: Literal["float32", "bfloat16"] | None = None,
    candidate: bool = False,
    settings: ConsumerSettings | None = None,
    report: Progress = logger.info,
) -> Path:
    """Write a release into a folder, with what proves it.

    As a model or a checkpoint `AutoModelForCausalLM.from_pretrained` loads it, as an adapter PEFT beside its base; as a
    patch, whoever has the base adds it themselves. What an adapter or a checkpoint lost is measured against the
    release, its logits at the prompts of its first facts; the card in the folder names it.

    Args:
        name: `model@alias`, `model/number`, or the 64 hex digits of a candidate.
        folder: must not exist, or hold an earlier pull, which is replaced in one step.
        form: model, adapter, checkpoint or patch; an adapter names the base in the cache as its own.
        dtype: of an adapter or a checkpoint; float32 by default.
        candidate: also take a version that is no release.
        settings: where the registry is; read from the environment by default.
        report: called with a line for each stage; logs it by default.

    Returns:
        The folder.

    Raises:
        ReleaseError: see there; nothing half-written is left.
        FileExistsError: the folder holds something else.
    """
    from editors.forms import lines_of, record_of, write_form

    _check_form(form, dtype)
    settings, target, dtype = settings or ConsumerSettings(), Path(folder), dtype or "float32"
    pin, settings = pin_of(name, candidate=candidate, settings=settings, report=report)
    with whole_folder(target, card=CARD) as built:
        objects = Objects(settings)
        version = resolve(name, objects, candidate=candidate, settings=settings, pin=pin)
        base, patch = _fetch(version, objects, form=form, settings=settings, report=report)
        _prove(version, built / FOLDER, patch=patch, settings=settings, report=report)
        report(f"writing its {form}")
        prompts = _prompts(version.manifest, objects) if form in MEASURED else []
        lost = write_form(
            form,
            version.manifest,
            candidate=version.candidate,
            patch=patch,
            base=base,
            folder=built,
            dtype=dtype,
            prompts=prompts,
        )
        for line in lines_of(lost):
            report(line)
        _write_card(built, version, form=form, dtype=dtype, lost=record_of(lost))
    return target


def verify(
    folder: str | Path,
    *,
    root: str = "",
    base: str | Path | None = None,
    without_base: bool = False,
    lock: str | Path | None = None,
    settings: ConsumerSettings | None = None,
    report: Progress = lambda line: None,
) -> dict[str, Any]:
    """Verify a pulled folder, or the whole history as an audit has it, with no service asked; returns its card.

    Every file, the signatures under the root, the receipts, the chain of releases back to the base, and that the
    weights or the adapter are what base and patch give.

    Args:
        folder: as `pull` wrote it, or `corrigenda audit export`.
        root: the root's fingerprint, had from somebody who can be believed; that of the settings by default.
        base: folder of the base; by default the one that `pull` left in the cache.
        without_base: leave the weights and the configuration unverified where the base is not here.
        lock: refuse a release that this lock file does not pin.
        settings: name the root and the cache; read from the environment by default.
        report: called with a line for each check that holds.

    Raises:
        AlteredError: a check doesn't hold, or can't be made; the message names the file.
        LockError: the lock file pins another release, or can't be read.
    """
    from editors.auditing import is_export, verify_audit
    from editors.verifying import read_card, verify_release

    settings, folder = settings or ConsumerSettings(), Path(folder)
    root = root or settings.root_fingerprint
    if not DIGEST.fullmatch(root):
        raise AlteredError(
            f"{root!r} is no fingerprint of a root, without which nothing can be verified: name it with --root, or set "
            "CORRIGENDA_ROOT_FINGERPRINT, to what whoever runs the platform told you; 'corrigenda trust show' prints it"
        )
    if is_export(folder):
        if lock is not None or base:
            raise AlteredError(f"{folder} is an audit's export, of which neither a lock file nor a base says anything")
        with _unproven():
            return verify_audit(folder, root=root, report=report)
    with _unproven():
        release, card = verify_release(folder, root=root, report=report), read_card(folder)
        _verify_form(release, card, folder, base=base, without_base=without_base, settings=settings, report=report)
        if lock is not None:
            report(f"lock: {_verify_pinned(release, Path(lock), folder, root=root)}")
        return card


def load(
    name: str,
    *,
    candidate: bool = False,
    settings: ConsumerSettings | None = None,
    report: Progress = logger.info,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Pull a release into the cache, verify it, and load its model and tokenizer.

    Raises:
        ReleaseError: see there.
    """
    from editors.models import load_model

    settings = settings or ConsumerSettings()
    return load_model(cached(name, candidate=candidate, settings=settings, report=report), device=settings.device)


def cached(
    name: str,
    *,
    candidate: bool = False,
    settings: ConsumerSettings | None = None,
    report: Progress = logger.info,
) -> Path:
    """Pull a release into the cache, unless it is there, and verify all of it but its weights; returns its folder.

    Raises:
        ReleaseError: see there.
    """
    from editors.verifying import check_files, read_card, verify_release

    settings = settings or ConsumerSettings()
    pin, settings = pin_of(name, candidate=candidate, settings=settings, report=report)
    version = resolve(name, Objects(settings), candidate=candidate, settings=settings, pin=pin)
    folder = settings.home / "cache" / "versions" / version.candidate
    proven = bool(version.release and settings.root_fingerprint)
    if not folder.is_dir() or (proven and not (folder / FOLDER).is_dir()):
        pull(version.candidate, folder, candidate=candidate, settings=settings, report=report)
    with _unproven():
        card = read_card(folder)
        if (card.get("candidate"), card["form"]) != (version.candidate, "model"):
            found = f"the {card['form']} of candidate {card.get('candidate')}"
            raise UnprovenError(f"{folder / CARD} is of {found}, not of the model of {version.candidate}")
        if proven:
            verify_release(folder, root=settings.root_fingerprint)
        else:
            check_files(folder, card)
    return folder


def lock(
    names: Sequence[str], *, settings: ConsumerSettings | None = None, report: Progress = logger.info
) -> dict[str, Pin]:
    """Pin names to the releases that they stand for now, in the lock file; returns all that it pins.

    Raises:
        LockError: the lock file can't be read, or one of them is no name that can be pinned.
        ReleaseError: one of them stands for no release; the lock file is left as it was.
    """
    settings = settings or ConsumerSettings()
    with _lock_errors():
        pins = read_lock(settings.lock)
        for name in names:
            check_name(name)
        objects = Objects(settings)
        for name in names:
            version = resolve(name, objects, candidate=False, settings=settings)
            before = pins.get(name)
            root = settings.root_fingerprint or (before.root if before else "")
            pins[name] = _as_pinned(version, root=root)
            moved = f", and no longer to {before.told()}" if before and before != pins[name] else ""
            report(f"{name} is pinned to {pins[name].told()}{moved}")
        write_lock(settings.lock, pins)
    return pins


def outdated(*, settings: ConsumerSettings | None = None) -> list[Lagging]:
    """Hold what the lock file pins against what each name stands for now, as the registry tells it.

    Raises:
        LockError: there is no lock file, or it can't be read.
        ReleaseError: what is pinned, or what a name stands for, is no release.
    """
    settings = settings or ConsumerSettings()
    with _lock_errors():
        pins = read_lock(settings.lock)
    if not pins:
        raise LockError(f"{settings.lock} pins nothing; 'corrigenda lock NAME' pins what NAME stands for now")
    objects = Objects(settings)
    return [_lagging(name, pin, objects, settings=settings) for name, pin in pins.items()]


def pin_of(
    name: str, *, settings: ConsumerSettings, candidate: bool = False, report: Progress = logger.info
) -> tuple[Pin | None, ConsumerSettings]:
    """What the lock file pins a name to, if it does, and the settings with the root that it names.

    A digest pins itself, and who asks for a candidate wants what nobody approved: neither is looked up.

    Raises:
        LockError: the lock file can't be read, is set and not there, or the settings name another root.
    """
    if candidate or DIGEST.fullmatch(name):
        return None, settings
    if "lock" in settings.model_fields_set and not settings.lock.exists():
        raise LockError(f"{settings.lock} is set as the lock file, and is not there; 'corrigenda lock NAME' writes it")
    with _lock_errors():
        pin = read_lock(settings.lock).get(name)
    if pin is None:
        return None, settings
    if pin.root and settings.root_fingerprint and pin.root != settings.root_fingerprint:
        raise LockError(
            f'{settings.lock}, entry "{name}" pins the root {pin.root}, and the settings name '
            f"{settings.root_fingerprint}. Find out which is right; 'corrigenda lock {name}' pins the settings' own"
        )
    report(f"{name} is pinned to {pin.told()} by {settings.lock}")
    return pin, settings.model_copy(update={"root_fingerprint": settings.root_fingerprint or pin.root})


def name_of(model: str, candidate: str, *, settings: ConsumerSettings | None = None) -> str:
    """The name by which to load a candidate that MLflow was asked for: the lock file's own, where it pins the model.

    MLflow tells a model which version it is, and not by which name it was asked for, so it can't be given another one.

    Raises:
        LockError: the lock file can't be read, or pins the model to something else.
    """
    settings = settings or ConsumerSettings()
    with _lock_errors():
        pins = {name: pin for name, pin in read_lock(settings.lock).items() if model_of(name) == model}
    same = [name for name, pin in pins.items() if pin.candidate == candidate]
    if pins and not same:
        told = ", ".join(f"{name} to {pin.told()}" for name, pin in pins.items())
        raise LockError(
            f"{settings.lock} pins {told}, and MLflow was asked for {candidate[:12]}; ask it for a number that is "
            "pinned, load by corrigenda.load(NAME), or pin this one by 'corrigenda lock'"
        )
    return same[0] if same else candidate


def resolve(
    name: str, objects: Objects, *, candidate: bool, settings: ConsumerSettings, pin: Pin | None = None
) -> Version:
    """Find the version that a name means, and refuse it unless it may be used.

    Args:
        name: as for `pull`.
        objects: the object store.
        candidate: also find one that is no release.
        settings: where the registry is.
        pin: what the lock file pins the name to, if it does; then the registry isn't asked.

    Raises:
        NotReleasedError: it is no release, and `candidate` is not set.
        AlteredError: its manifest hashes to something else.
        LockError: it is not what the lock file pins.
    """
    digest = pin.candidate if pin else name if DIGEST.fullmatch(name) else _registered_digest(name, settings)
    release = objects.record(record_key(digest))
    if release is None and not candidate:
        raise NotReleasedError(
            f"{name} is candidate {digest[:12]}, which is no release: nobody approved it, wherever the alias points; "
            "use a released version, or ask for the candidate explicitly"
        )
    if release is not None and release["candidate"] != digest:
        raise AlteredError(f"releases/{digest}.json is the record of candidate {release['candidate']}")
    version = Version(candidate=digest, manifest=objects.manifest(digest), release=release)
    if pin:
        with _lock_errors():
            found = _as_pinned(version, root=settings.root_fingerprint)
            check_pinned(pin, found, entry=f'{settings.lock}, entry "{name}"')
    return version


class Objects:
    """Read access to the bucket: what is read by digest is hashed before it is believed.

    Nothing that was put over a release is seen: its record is read as it was first written, and what the record names
    by the versions that it names.
    """

    def __init__(self, settings: ConsumerSettings) -> None:
        import boto3
        from botocore.config import Config

        self.bucket = settings.s3_bucket
        self.endpoint = settings.s3_endpoint or "AWS"
        self.client = boto3.client(
            "s3",
            endpoint_url=settings.s3_endpoint or None,
            region_name=settings.s3_region,
            aws_access_key_id=settings.s3_access_key.get_secret_value() or None,
            aws_secret_access_key=settings.s3_secret_key.get_secret_value() or None,
            config=Config(
                connect_timeout=CONNECT_SECONDS,
                retries={"max_attempts": ATTEMPTS, "mode": "standard"},
                response_checksum_validation="when_required",  # we hash everything ourselves, and name what differs
                s3={"addressing_style": "path"},
            ),
        )
        self._named: dict[str, str] = {}

    def record(self, key: str) -> dict[str, Any] | None:
        """Read a JSON object, or None where there is none."""
        content = self.read(key)
        return None if content is None else json.loads(content)

    def read(self, key: str) -> bytes | None:
        """The bytes under a key, or None where there are none.

        What a release's record names is read by the versions that it names from then on.
        """
        with self._errors(key):
            answer = self._open(key)
            content = None if answer is None else answer["Body"].read()
        if content is not None and key.startswith(RELEASES):
            self._learn(content)
        return content

    def manifest(self, candidate: str) -> dict[str, Any]:
        """The manifest of a candidate, which is named by its digest; of a release, by its version.

        Raises:
            AlteredError: it is missing, or hashes to something else.
        """
        key = f"candidates/{candidate}.json"
        if key not in self._named:
            self.read(f"{RELEASES}{candidate}.json")
        return json.loads(self.checked(key, candidate))

    def get(self, digest: str) -> bytes:
        """The blob with this sha256.

        Raises:
            AlteredError: it is missing, or what is there hashes to something else.
        """
        return self.checked(f"blobs/{digest}", digest)

    def checked(self, key: str, digest: str) -> bytes:
        """The bytes under a key, which must hash to a digest; somebody may have put something else over them.

        Raises:
            AlteredError: they are missing, or hash to something else.
        """
        found = ""
        for content in self._contents(key):
            got = hashlib.sha256(content).hexdigest()
            if got == digest:
                return content
            found = found or got
        raise AlteredError(
            f"{self.place(key)}: expected sha256 {digest}, got {found}" if found else f"{self.place(key)} is missing"
        )

    def fetch(self, digest: str, path: Path) -> None:
        """Stream the bytes with this sha256 into a file, which appears only when it is whole.

        A download that is cut goes on where it ended. What came of one that is given up or killed is kept beside the
        file, and the next one goes on from there; the whole is hashed either way.

        Raises:
            AlteredError: they are missing, or what came hashes to something else; no file is left.
            RegistryAwayError: the store is away, or cut the download too often; what came is kept.
            OSError: they don't fit on the disk; no file is left.
        """
        key = f"blobs/{digest}"
        name = f"{path.name} from {self.place(key)}"
        with _part_of(path, digest) as part:
            if _is_whole(path, digest):  # another process was faster
                Path(part.name).unlink()
                return
            kept = _size(part)
            self._stream(key, part, name=name)
            if kept and not _is_whole(Path(part.name), digest):  # what was kept may be damaged
                part.truncate(0)
                self._stream(key, part, name=name)
            _check_file(Path(part.name), digest, name=name)
            Path(part.name).replace(path)

    def versions(self, prefix: str) -> dict[str, list[str]]:
        """The versions of all objects whose key begins so, by key, oldest first; a delete marker is none."""
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=prefix)
        found: dict[str, list[str]] = {}
        for each in (each for page in pages for each in page.get("Versions", ())):  # newest first
            found.setdefault(each["Key"], []).insert(0, each["VersionId"])
        return found

    def place(self, key: str) -> str:
        """The address of a key, for messages."""
        return f"s3://{self.bucket}/{key} at {self.endpoint}"

    def _learn(self, content: bytes) -> None:
        """Keep in mind the versions that a release's record names."""
        with suppress(ValueError, KeyError, TypeError, AttributeError):  # no such record: whoever reads it finds out
            named = json.loads(content)["objects"].values()
            self._named |= {each["key"]: each["version_id"] for each in named if each["version_id"]}

    def _contents(self, key: str) -> Iterator[bytes]:
        """What readers find under a key, and then each of its versions, oldest first."""
        if (content := self.read(key)) is not None:
            yield content
        with self._errors(key):
            for version in self.versions(key).get(key, ()):
                if answer := self._get(key, version=version):
                    yield answer["Body"].read()

    def _stream(self, key: str, part: BinaryIO, *, name: str) -> None:
        """Write what is under a key behind what is in a file already."""
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        cut: Exception | None = None
        for _ in range(CUTS):
            with self._errors(key):
                answer = self._open(key, start=_size(part))
                if answer is None:
                    raise AlteredError(f"{name} is missing")
                if "ContentRange" not in answer:  # the whole, whatever was asked for
                    part.truncate(0)
                try:
                    for chunk in answer["Body"].iter_chunks(CHUNK):
                        part.write(chunk)
                except (HTTPClientError, IncompleteReadError) as error:
                    cut = error
                else:
                    part.flush()
                    return
        raise RegistryAwayError(f"{name} was cut {CUTS} times: {cut}; what came is kept, so just ask again") from cut

    def _open(self, key: str, *, start: int = 0) -> dict[str, Any] | None:
        """Ask for an object from a byte on: a release's record by its first version, what it names by the named one.

        A version that is gone, as in a copy of the bucket, is no loss: whatever a record names is hashed.
        """
        if key.startswith(RELEASES):
            versions = self.versions(key).get(key)
            return self._get(key, version=versions[0], start=start) if versions else None
        named = self._named.get(key)
        answer = self._get(key, version=named, start=start) if named else None
        return answer or self._get(key, start=start)

    def _get(self, key: str, *, version: str | None = None, start: int = 0) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError
        from botocore.response import StreamingBody

        asked = {"Bucket": self.bucket, "Key": key}
        asked |= ({"VersionId": version} if version else {}) | ({"Range": f"bytes={start}-"} if start else {})
        try:
            return dict(self.client.get_object(**asked))
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code")
            if code in ABSENT or (version and code in NO_VERSION):
                return None
            if code == "InvalidRange":  # nothing is behind this byte
                return {"Body": StreamingBody(BytesIO(), 0), "ContentRange": ""}
            raise

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise RegistryAwayError(
                f"{self.place(key)}: {error}; is the object store up, and the key right?"
            ) from error


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


def _fetch(
    version: Version, objects: Objects, *, form: Form, settings: ConsumerSettings, report: Progress
) -> tuple[Path | None, Path]:
    """Bring the folder of a version's base, where its form needs one, and the file of its patch into the cache."""
    cache = settings.home / "cache"
    for what in ("base", "patch"):
        if not DIGEST.fullmatch(version.manifest[what]):
            raise AlteredError(f"the manifest names a {what} {version.manifest[what]!r}, which is no digest")
    report(f"candidate {version.candidate[:12]}, {_position(version)}")
    base = None if form == "patch" else _fetch_base(version.manifest, objects, cache=cache, report=report)
    return base, _fetch_patch(version.manifest["patch"], objects, cache=cache)


def _fetch_base(manifest: dict[str, Any], objects: Objects, *, cache: Path, report: Progress) -> Path:
    """Bring the base into the cache, once, and check every byte of it each time it is used."""
    folder = cache / "bases" / manifest["base"]
    for file in manifest["base_files"]:
        if not PLAIN_PATH.fullmatch(file["name"]):
            raise AlteredError(f"the manifest names a base file {file['name']!r}, which is no plain path")
        path = folder / file["name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            report(f"fetching {file['name']} ({file['size'] / 1e6:,.1f} MB)")
            objects.fetch(file["sha256"], path)
        _check_file(path, file["sha256"])
    return folder


def _fetch_patch(digest: str, objects: Objects, *, cache: Path) -> Path:
    path = cache / "patches" / f"{digest}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        objects.fetch(digest, path)
    _check_file(path, digest)
    return path


def _prove(version: Version, evidence: Path, *, patch: Path, settings: ConsumerSettings, report: Progress) -> None:
    """Bring what proves a release into a folder, and refuse it unless it leads to the root, where one is set."""
    if version.release is None:
        return
    from editors.verifying import verify_evidence

    card = {"candidate": version.candidate, "manifest": version.manifest, "release": version.release}
    try:
        gather(version.candidate, Objects(settings), evidence, patch=patch)
        if settings.root_fingerprint:
            verify_evidence(evidence, card, root=settings.root_fingerprint)
            report(f"it is signed, and was approved, under the root {settings.root_fingerprint[:12]}")
    except UnprovenError as error:
        if settings.root_fingerprint:
            raise AlteredError(str(error)) from error
        shutil.rmtree(evidence, ignore_errors=True)
        report(f"nothing here proves it: {error}")


def _check_form(form: str, dtype: str | None) -> None:
    """Refuse a form that there is none of, and a precision where it means nothing."""
    if form not in FORMS:
        raise FormError(f"a release can be had as {', '.join(FORMS)}, and not as {form!r}")
    if dtype is not None and form not in MEASURED:
        why = "is in float32" if form == "model" else "is as it was made"
        raise FormError(f"a {form} {why}, so leave the precision out, or take a checkpoint or an adapter")
    if dtype not in (None, *DTYPES):
        raise FormError(f"a {form} can be had in {' or '.join(DTYPES)}, and not in {dtype!r}")


def _write_card(folder: Path, version: Version, *, form: Form, dtype: str, lost: dict[str, Any]) -> None:
    """Name all that is in a folder, and what it is."""
    card = {
        "candidate": version.candidate,
        "dtype": dtype,
        "files": {name: sha256_file(path) for name, path in files_of(folder).items()},
        "form": form,
        "lost": lost,
        "manifest": version.manifest,
        "release": version.release,
    }
    (folder / CARD).write_text(json.dumps(card, indent=1, sort_keys=True), encoding="utf-8")


def _verify_form(
    release: Link,
    card: dict[str, Any],
    folder: Path,
    *,
    base: str | Path | None,
    without_base: bool,
    settings: ConsumerSettings,
    report: Progress,
) -> None:
    """Hold what a folder has of weights against what its base and its patch give."""
    from editors.forms import check_built, check_patch

    form, what = card["form"], "adapter" if card["form"] == "adapter" else "weights"
    place = Path(base) if base else settings.home / "cache" / "bases" / release.manifest["base"]
    if form == "patch":
        report(f"patch: {check_patch(release.manifest, candidate=release.candidate, folder=folder)}")
    elif place.is_dir():
        patch = folder / FOLDER / NEWEST["patch"]
        told = check_built(form, release.manifest, patch=patch, base=place, folder=folder, dtype=card["dtype"])
        report(f"{what}: {told}")
    elif base or not without_base:
        raise UnprovenError(
            f"{folder}: the {what} and the configuration were not verified, because the base "
            f"{release.manifest['base']} is not in {place}. All else holds. Name its folder with --base DIR, or "
            "leave this check out with --without-base"
        )
    else:
        report(f"{what}: NOT VERIFIED, nor the configuration, for the base is not here")
    if form in MEASURED:
        report("lost: NOT VERIFIED; the card says what was measured when it was pulled")


def _verify_pinned(release: Link, lock: Path, folder: Path, *, root: str) -> str:
    """Refuse a folder whose release is none that a lock file pins."""
    with _lock_errors():
        pins = read_lock(lock)
        same = [name for name, pin in pins.items() if pin.candidate == release.candidate]
        if not same:
            pinned = ", ".join(f"{name} at {pin.told()}" for name, pin in pins.items()) or "nothing"
            raise LockFileError(
                f"{folder} is release {release.position} ({release.candidate[:12]}), and {lock} pins {pinned}: one of "
                "the two is stale. 'corrigenda pull NAME DIR' fetches what is pinned; 'corrigenda lock NAME' pins what "
                "NAME stands for now"
            )
        patch = release.manifest["patch"]
        found = Pin(candidate=release.candidate, patch=patch, position=release.position, root=root)
        for name in same:
            check_pinned(pins[name], found, entry=f'{lock}, entry "{name}"')
    return f"{lock} pins it as {', '.join(same)}"


def _as_pinned(version: Version, *, root: str) -> Pin:
    """What an entry of the lock file says of a release."""
    assert version.release is not None, "only releases are pinned"
    position, patch = version.release["position"], version.manifest["patch"]
    return Pin(candidate=version.candidate, patch=patch, position=position, root=root)


def _lagging(name: str, pin: Pin, objects: Objects, *, settings: ConsumerSettings) -> Lagging:
    """Compare what is pinned with what the name stands for, and with the newest release."""
    rooted = settings.model_copy(update={"root_fingerprint": settings.root_fingerprint or pin.root})
    pinned = resolve(name, objects, candidate=False, settings=rooted, pin=pin)
    now = resolve(name, objects, candidate=False, settings=settings)
    newest = resolve(f"{model_of(name)}@champion", objects, candidate=False, settings=settings)
    assert pinned.release is not None, "nothing else is pinned"
    ours, theirs = ({fact["id"] for fact in version.manifest["facts"]} for version in (pinned, now))
    return Lagging(
        name=name,
        pin=pin,
        approved=pinned.release["approved"],
        now=now,
        added=sorted(theirs - ours),
        withdrawn=sorted(ours - theirs),
        gone=[line for fact, line in _gone_since(pin.position, newest, objects, settings=settings) if fact in ours],
    )


def _gone_since(
    position: int, newest: Version, objects: Objects, *, settings: ConsumerSettings
) -> Iterator[tuple[str, str]]:
    """The facts that were revoked or expired in the releases after a position, each with a line that says so.

    Candidates name their parents by digest, so this comes to an end whatever the records say.
    """
    version = newest
    while version.release and version.release["position"] > position:
        for each in version.manifest["leaving"]:
            if each["becomes"] in GONE:
                why = f": {each['reason']}" if each["reason"] else ""
                yield each["id"], f"{each['id']} {GONE[each['becomes']]} in {_position(version)}{why}"
        if version.manifest["parent"] == version.manifest["base"]:
            return
        version = resolve(version.manifest["parent"], objects, candidate=False, settings=settings)


@contextmanager
def _unproven() -> Iterator[None]:
    """Call what `editors` finds wrong with a release by this module's own name."""
    try:
        yield
    except UnprovenError as error:
        raise AlteredError(str(error)) from error


@contextmanager
def _lock_errors() -> Iterator[None]:
    """The same of a lock file."""
    try:
        yield
    except LockFileError as error:
        raise LockError(str(error)) from error


def _prompts(manifest: dict[str, Any], objects: Objects) -> list[str]:
    """The prompts of a version's first facts."""
    facts = [json.loads(line) for line in objects.get(manifest["corrections"]).splitlines()]
    return [fact["prompt"].replace("{}", fact["subject"]) for fact in facts[:COMPARED]]


def _position(version: Version) -> str:
    return f"release {version.release['position']}" if version.release else "not released"


@contextmanager
def _part_of(path: Path, digest: str) -> Iterator[BinaryIO]:
    """The beginning of a file that is being fetched, to go on with; who else wants the file waits for it.

    It is removed where what it holds is of no use, and kept where the download was only cut.
    """
    part = path.with_name(f".{path.name}.{digest[:16]}.part")
    file = _locked(part)
    try:
        yield file
    except (AlteredError, OSError) as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        with suppress(OSError):  # what it still holds doesn't fit on the disk either
            if not _size(file):
                part.unlink(missing_ok=True)
        with suppress(OSError):
            file.close()


def _locked(part: Path) -> BinaryIO:
    """Open a file to append to, and wait until nobody else has it."""
    while True:
        file = part.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        if part.exists() and os.path.samestat(os.fstat(file.fileno()), part.stat()):
            return file
        file.close()  # while we waited, it got its final name


def _size(file: BinaryIO) -> int:
    file.flush()
    return os.fstat(file.fileno()).st_size


def _is_whole(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_file(path) == digest


def _check_file(path: Path, digest: str, *, name: str = "") -> None:
    found = sha256_file(path) if path.is_file() else "no file"
    if found != digest:
        raise AlteredError(f"{name or path}: expected sha256 {digest}, got {found}; delete it and pull again")
