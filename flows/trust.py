"""The beginning of trust: a root, the promoter's keys, and the first who are enrolled under it.

On the local stack the first start does all of it. Elsewhere the root is made on a machine of its own, from which the
promoter's keys are carried to where it runs, and the fingerprint to everybody.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from governance.signing import release_public
from tasks.ledger import Ledger
from tasks.people import enrol_first, enrol_release_signer, enrol_review_service
from tasks.roots import make_root, root_key
from tasks.sealing import service_keys
from tasks.settings import Settings, acting_as


def found_trust(*, report: Callable[[str], None]) -> str:
    """Make what is missing of a root, the promoter's keys, and who is enrolled; returns the fingerprint.

    Raises:
        IdentityError: another key is enrolled for the review service, or the root's key is not here.
    """
    folder = Settings().trust_folder
    fingerprint = make_root(folder)
    with acting_as("promoter") as promoter:
        keys: Mapping[str, str] = {}
        kept = folder / "promoter.toml"
        if not promoter.signing_key.get_secret_value() and kept.is_file():
            keys = tomllib.loads(kept.read_text(encoding="utf-8"))
        elif not promoter.signing_key.get_secret_value():
            keys = service_keys()
            _keep(keys, kept)
            report(f"the promoter's keys are in {kept}: set them where it runs")
        settings = Settings.model_validate({**keys, "root_fingerprint": fingerprint})
    enrol_all_first(Ledger(settings.database_url), settings, report=report)
    return fingerprint


def enrol_all_first(ledger: Ledger, settings: Settings, *, report: Callable[[str], None]) -> None:
    """Enrol the review service, the key that signs releases, and whoever does this as first administrator; once.

    Where releases are signed in a token or through Sigstore, 'corrigenda trust signer' enrols that.

    Raises:
        IdentityError: see `found_trust`.
    """
    root = root_key(settings.trust_folder)
    enrol_review_service(root, ledger=ledger, settings=settings)
    if pem := settings.release_key.get_secret_value():
        public = release_public(pem, place="CORRIGENDA_RELEASE_KEY")
        enrol_release_signer(public, root, ledger=ledger, settings=settings)
    if first := enrol_first(settings.submitter, root=root, ledger=ledger, settings=settings):
        report(f"{first.identity.name} is enrolled as {', '.join(first.identity.roles)}; the key is {first.key_file}")


def _keep(keys: Mapping[str, str], file: Path) -> None:
    """Write the promoter's keys for their owner's eyes only."""
    import json

    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.writelines(f"{name} = {json.dumps(value)}\n" for name, value in keys.items())
