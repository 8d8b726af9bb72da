"""Publish: a release's manifest is written from its row in the ledger, and signed.

The manifest names everything that the release consists of and hangs on by digest, and the manifest of the release
before it, so the newest one stands for the whole chain back to the base. It is made of what the ledger told when the
release was approved, so it is the same each time. A signature differs each time: the first one that is kept stays.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import Any

from consuming.errors import AlteredError
from editors.digests import canonical_json, digest_of, sha256_bytes
from editors.errors import UntrustedError
from governance.envelopes import claimed, digest_of_envelope
from governance.evidence import CANDIDATE, FORMAT, OF_CANDIDATE, RELEASE, record_key, signature_key
from governance.identities import normalised
from governance.receipts import REVIEW_SERVICE
from governance.signing import RELEASE_SIGNER, Signing, sign_folder, verify_folder
from governance.verifying import check_signer
from tasks.changes import act_behind
from tasks.errors import IdentityError, StoreError
from tasks.ledger import Ledger
from tasks.locks import lock_objects
from tasks.objects import objects_of
from tasks.people import certified
from tasks.receipts import approvals_of, opened_at, receipts_for, took_part
from tasks.settings import Settings
from tasks.store import Store
from tasks.tables import Release


def publish(release: Release, *, store: Store, ledger: Ledger, settings: Settings) -> None:
    """Write a release's manifest with what proves it, sign and lock it; done again, it changes nothing.

    What it names is locked before it is there. Whoever calls this has checked the receipts. A release before it that
    lacks its manifest is published first.

    Raises:
        UntrustedError: no receipts stand behind the release before it; nothing is published.
        IdentityError: this process has nothing that it may sign releases with.
    """
    if release.position > 1 and store.read(record_key(release.parent)) is None:
        before = ledger.release_at(release.position - 1)
        approvals_of(before.candidate, ledger, settings, now=before.at, before=before.event)
        publish(before, store=store, ledger=ledger, settings=settings)
    proofs = [*receipts_for(release.candidate, ledger, before=release.event), *_certificates(release, ledger, settings)]
    proofs += act_behind(store.manifest(release.candidate), ledger)
    kept = [store.put(canonical_json(each)) for each in proofs]
    record = release_record(release, store=store, ledger=ledger, settings=settings)
    named = [*record["objects"].values(), *(store.stat(each.sha256).record() for each in kept)]
    lock_objects(named, store=store, settings=settings)
    store.put_record(record_key(release.candidate), record)
    _keep_signature(record, store=store, ledger=ledger, settings=settings)
    own = (record_key(release.candidate), signature_key(release.candidate))
    lock_objects([_first_version(key, store) for key in own], store=store, settings=settings)


def release_record(release: Release, *, store: Store, ledger: Ledger, settings: Settings) -> dict[str, Any]:
    """The manifest of a release.

    Raises:
        StoreError: the release before it has none.
    """
    manifest = store.manifest(release.candidate)
    approval = _approval(release, ledger)
    return {
        "format": FORMAT,
        "position": release.position,
        "candidate": release.candidate,
        "parent": release.parent,
        "parent_manifest": _parent_manifest(release, store),
        **{name: manifest[name] for name in OF_CANDIDATE},
        "objects": objects_of(release.candidate, store),
        "opened": opened_at(release.candidate, ledger, before=release.event).astimezone(UTC).isoformat(),
        "took_part": sorted(took_part(manifest, ledger, before=release.event)),
        "reviewer": approval["actor"],
        "comment": approval["reason"],
        "receipts": approval["data"].get("receipts", []),
        "certificates": sorted(digest_of(each) for each in _certificates(release, ledger, settings)),
        "approved": approval["at"].astimezone(UTC).isoformat(),
        "ledger": {"sequence": approval["seq"], "digest": approval["digest"]},
    }


def flaw_of_signature(record: Mapping[str, Any], *, store: Store, settings: Settings) -> str:
    """What is wrong with the signature that is kept of a release; empty where nothing is."""
    place = store.place(signature_key(record["candidate"]))
    try:
        kept = store.record(signature_key(record["candidate"]))
    except AlteredError as error:
        return str(error)
    if kept is None:
        return f"{place} is missing"
    with tempfile.TemporaryDirectory() as scratch:
        folder = _signed_folder(record, store, Path(scratch))
        try:
            signer = check_signer(kept["certificate"], settings.root_fingerprint)
            verify_folder(folder, kept["bundle"], public=signer.public_key)
        except (UntrustedError, KeyError, TypeError) as error:
            return f"{place} does not sign it: {error}"
    return ""


def _keep_signature(record: Mapping[str, Any], *, store: Store, ledger: Ledger, settings: Settings) -> None:
    """Sign a release, unless it is signed.

    Raises:
        IdentityError: the root certified nothing for it, or something else than this process has.
        StoreError: what is kept as its signature is none.
    """
    key = signature_key(record["candidate"])
    if store.read(key) is None:
        signature = _signature(record, store=store, ledger=ledger, settings=settings)
        try:
            store.put_record(key, signature)
        except StoreError:  # another promoter was faster, whose signature stands
            if store.read(key) is None:
                raise
    if flaw := flaw_of_signature(record, store=store, settings=settings):
        raise StoreError(f"release {record['position']}: {flaw}; find out who holds the promoter's credentials")


def _signature(
    record: Mapping[str, Any], *, store: Store, ledger: Ledger, settings: Settings
) -> dict[str, Mapping[str, Any]]:
    """A release's signature, with the certificate of what it was made with."""
    signer, certificate = certified(ledger, settings).get(normalised(RELEASE_SIGNER), (None, {}))
    if signer is None:
        raise IdentityError(
            f"nothing is certified to sign releases under the root {settings.root_fingerprint[:12] or '(none)'}; "
            "'corrigenda trust init' certifies the promoter's key, 'corrigenda trust signer' another one"
        )
    signing = Signing(
        pkcs11=settings.release_pkcs11.get_secret_value(),
        pkcs11_module=settings.release_pkcs11_module,
        sigstore=settings.release_sigstore,
        key=settings.release_key.get_secret_value(),
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = _signed_folder(record, store, Path(scratch))
        bundle = sign_folder(folder, signing)
        try:
            verify_folder(folder, bundle, public=signer.public_key)
        except UntrustedError as error:
            raise IdentityError(
                f"this process signs releases with something else than the root certified on {signer.at}; set the "
                f"key that it did, or revoke {RELEASE_SIGNER!r} and certify this one ({error})"
            ) from error
    return {"bundle": bundle, "certificate": certificate}


def _signed_folder(record: Mapping[str, Any], store: Store, scratch: Path) -> Path:
    """What is signed of a release: its manifest, and its candidate's."""
    folder = scratch / str(record["position"])
    folder.mkdir()
    (folder / RELEASE).write_bytes(canonical_json(record))
    (folder / CANDIDATE).write_bytes(canonical_json(store.manifest(record["candidate"])))
    return folder


def _certificates(release: Release, ledger: Ledger, settings: Settings) -> list[Mapping[str, Any]]:
    """The certificates of those whose signatures let a release through, as they stood when it was approved."""
    counted = set(_approval(release, ledger)["data"].get("receipts", []))
    names: set[str] = set()
    for envelope in receipts_for(release.candidate, ledger, before=release.event):
        if digest_of_envelope(envelope) in counted:
            says = claimed(envelope)["predicate"]
            names |= {normalised(says["reviewer"])} | ({REVIEW_SERVICE} if says["method"] == "totp" else set())
    known = certified(ledger, settings, before=release.event)
    return [known[name][1] for name in sorted(names & known.keys())]


def _parent_manifest(release: Release, store: Store) -> str | None:
    """The sha256 of the manifest of the release before this one; none before the first, which follows on the base."""
    if release.position == 1:
        return None
    content = store.read(record_key(release.parent))
    if content is None:
        raise StoreError(
            f"{store.place(record_key(release.parent))} is missing, on which release {release.position} follows; "
            "'corrigenda reconcile' writes it again"
        )
    return sha256_bytes(content)


def _first_version(key: str, store: Store) -> dict[str, str]:
    """The version of an object that readers take, whatever was put over it."""
    return {"key": key, "version_id": store.versions(key)[key][0]}


def _approval(release: Release, ledger: Ledger) -> dict[str, Any]:
    """The event that approved a release."""
    return next(e for e in ledger.history("candidate", release.candidate) if e["kind"] == "approved")
