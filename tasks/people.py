"""People and services: enrolled in the ledger by certificates that the root signs, and revoked.

The ledger says who was enrolled when, and the certificate proves it: without the root's key nobody gets in, whatever
they may write into the database. A certificate from before a revocation brings nobody back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyotp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from governance.acts import Act, Asked, check_act
from governance.envelopes import fingerprint, key_of, new_key, public_key, save_key
from governance.events import Row
from governance.history import REVOKE_PERSON, Certified, certified_by, identities_in
from governance.identities import Identity, Role, certify, check_name, normalised
from governance.lifecycle import Entity, Event
from governance.receipts import REVIEW_SERVICE
from governance.signing import RELEASE_SIGNER
from tasks.acts import check_unused, sign_act
from tasks.errors import IdentityError
from tasks.ledger import Ledger
from tasks.own_keys import key_folder_file
from tasks.sealing import seal, sealing_public, unseal
from tasks.settings import Settings

ROOT = "root key"
"""Who enrols the first ones: whoever holds the root's key."""
FIRST_ROLES: tuple[Role, ...] = ("administrator", "requester", "protector")
"""Of the first one enrolled: everything but to review, since whoever submits can't approve."""
RESERVED = frozenset(
    {"rootkey", REVIEW_SERVICE, normalised(RELEASE_SIGNER), "editor", "consumer", "corrigenda", "refresh", "intake"}
)
"""Names by which the ledger calls the platform's own parts."""
ISSUER = "Corrigenda"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """Somebody who was just enrolled; the secret is shown to them once, and kept sealed.

    Attributes:
        identity: as the ledger knows it.
        secret: of a reviewer's one-time codes, in base32; empty for others, who need none.
        key_file: where their own key is.
    """

    identity: Identity
    secret: str
    key_file: Path

    @property
    def address(self) -> str:
        """The secret as an otpauth address, which authenticator apps read."""
        return pyotp.TOTP(self.secret).provisioning_uri(name=self.identity.name, issuer_name=ISSUER)


@dataclass(frozen=True, slots=True)
class PastOf:
    """What a ledger has recorded, under the root that the settings name; each thing is looked up once."""

    ledger: Ledger
    settings: Settings
    _seen: dict[tuple[Entity, str], Sequence[Row]] = field(default_factory=dict, init=False, repr=False)

    def of(self, entity: Entity, key: str) -> Sequence[Row]:
        """The events of one thing, oldest first."""
        if (entity, key) not in self._seen:
            self._seen[entity, key] = self.ledger.history(entity, key)
        return self._seen[entity, key]

    def identities(self, before: int | None = None) -> Mapping[str, Identity]:
        """Those who are enrolled by their normalised names, now or before the event of a number."""
        return identities(self.ledger, self.settings, before=before)


def enrol(
    name: str,
    *,
    roles: Sequence[Role],
    by: str,
    root: Ed25519PrivateKey,
    ledger: Ledger,
    settings: Settings,
) -> Enrolled:
    """Enrol a person: a key of their own, a reviewer's secret for one-time codes, and a certificate in the ledger.

    Args:
        name: as people write it.
        roles: what they may do.
        by: the administrator who asks for it, or `ROOT` where there is none yet.
        root: the root's key.
        ledger: where it is recorded.
        settings: say where keys are kept.

    Raises:
        IdentityError: the name is taken; or who asks is no administrator, or is to be enrolled.
        UnclearNameError: the name can be taken for another one.
        KeyFileError: their key can't be written.
    """
    check_name(name)
    known = identities(ledger, settings)
    _check_enrolment(name, by=by, known=known)
    service = known.get(REVIEW_SERVICE)
    if service is None:
        raise IdentityError(
            f"the review service is not enrolled under the root {settings.root_fingerprint[:12] or '(none)'}; "
            "'corrigenda trust init' enrols it, and people after it"
        )
    key = new_key()
    secret = pyotp.random_base32() if "reviewer" in roles else ""
    identity = Identity(
        name=name,
        kind="person",
        roles=tuple(sorted(set(roles))),
        public_key=public_key(key),
        enrolled_by=by,
        at=_now(),
        sealed_secret=seal(secret, public=service.sealing_key, name=normalised(name)) if secret else "",
    )
    about = {identity.key: fingerprint(identity.public_key)}
    asked = Asked(verb="enrol", about=about, options={"roles": list(identity.roles)})
    act = None if by == ROOT else _signed(asked, by=by, known=known, settings=settings)
    file = key_folder_file(name, settings)
    if file.exists():  # of somebody who was revoked, or whose enrolment was not recorded
        file.rename(file.with_suffix(f".until-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.pem"))
    save_key(key, file)
    try:
        _record(identity, root, ledger, settings, act=act)
    except BaseException:
        file.unlink()
        raise
    return Enrolled(identity=identity, secret=secret, key_file=file)


def enrol_review_service(root: Ed25519PrivateKey, *, ledger: Ledger, settings: Settings) -> Identity:
    """Enrol the review service with the keys that the settings hold; once.

    Raises:
        IdentityError, KeyFileError: the settings don't hold its keys.
    """
    signing = public_key(service_key(settings))
    sealing = sealing_public(settings.sealing_key.get_secret_value())
    known = identities(ledger, settings).get(REVIEW_SERVICE)
    if known and (known.public_key, known.sealing_key) == (signing, sealing):
        return known
    if known:
        raise IdentityError(
            f"another key is enrolled for the review service; 'corrigenda people revoke {REVIEW_SERVICE}' ends that, "
            "and every person then needs a new one-time-code secret"
        )
    identity = Identity(
        name=REVIEW_SERVICE,
        kind="service",
        roles=(),
        public_key=signing,
        enrolled_by=ROOT,
        at=_now(),
        sealing_key=sealing,
    )
    _record(identity, root, ledger, settings)
    return identity


def enrol_release_signer(public: str, root: Ed25519PrivateKey, *, ledger: Ledger, settings: Settings) -> Identity:
    """Certify what releases are signed with; once.

    Args:
        public: what their signatures are held against, by governance/signing.py.
        root: the root's key.
        ledger: where it is recorded.
        settings: name the root.

    Raises:
        IdentityError: something else is certified for it.
    """
    known = identities(ledger, settings).get(normalised(RELEASE_SIGNER))
    if known and known.public_key == public:
        return known
    if known:
        raise IdentityError(
            f"releases are signed with another key since {known.at}; 'corrigenda people revoke \"{RELEASE_SIGNER}\"' "
            "ends that. What it signed before stays signed"
        )
    identity = Identity(name=RELEASE_SIGNER, kind="signer", roles=(), public_key=public, enrolled_by=ROOT, at=_now())
    _record(identity, root, ledger, settings)
    return identity


def enrol_first(name: str, *, root: Ed25519PrivateKey, ledger: Ledger, settings: Settings) -> Enrolled | None:
    """Enrol the first administrator, who may also submit and protect; nobody where there is one."""
    if any("administrator" in each.roles for each in identities(ledger, settings).values()):
        return None
    return enrol(name, roles=FIRST_ROLES, by=ROOT, root=root, ledger=ledger, settings=settings)


def revoke_identity(name: str, *, by: str, reason: str, ledger: Ledger, settings: Settings) -> None:
    """End what somebody may do; what they decided and what nobody has carried out yet counts no more.

    Raises:
        IdentityError: they are not enrolled, or the last administrator; or who asks is not, or has no key here.
        RoleError: who asks is no administrator.
    """
    known = identities(ledger, settings)
    if normalised(name) not in known:
        raise IdentityError(f"{name!r} is not enrolled; see 'corrigenda people list'")
    key = normalised(name)
    about = {key: fingerprint(known[key].public_key)}
    act = _signed(Asked(verb=REVOKE_PERSON, about=about, reason=reason), by=by, known=known, settings=settings)
    if [each.key for each in known.values() if "administrator" in each.roles] == [key]:
        raise IdentityError(
            f"{name!r} is the last administrator; enrol another one before, or nobody could enrol anybody"
        )
    revoked = Event(entity="identity", key=key, kind="revoked", actor=act.by, reason=reason, data={"act": act.digest})
    ledger.append([act.used(), revoked])


def identities(ledger: Ledger, settings: Settings, *, before: int | None = None) -> dict[str, Identity]:
    """Those who are enrolled, by their normalised names: only whom the root vouches for.

    Args:
        ledger: says who was enrolled and revoked.
        settings: name the root by its fingerprint.
        before: as it was before the event of this number.
    """
    return identities_in(certified(ledger, settings, before=before))


def certified(ledger: Ledger, settings: Settings, *, before: int | None = None) -> Certified:
    """Those who are enrolled as `identities` tells, each with the certificate that proves it."""
    events = ledger.histories("identity", "")
    return certified_by(settings.root_fingerprint, events, lambda key: ledger.history("act", key), before=before)


def secret_of(identity: Identity, settings: Settings) -> str:
    """The secret of somebody's one-time codes, which only the review service can read.

    Raises:
        IdentityError: this process is not the review service, or the secret was sealed to another one.
    """
    if not identity.sealed_secret:
        raise IdentityError(f"{identity.name} has no one-time codes; enrol them again")
    return unseal(identity.sealed_secret, pem=settings.sealing_key.get_secret_value(), name=identity.key)


def service_key(settings: Settings) -> Ed25519PrivateKey:
    """The key of the review service.

    Raises:
        IdentityError: this process is not the review service.
    """
    pem = settings.signing_key.get_secret_value()
    if not pem:
        raise IdentityError("this process has no signing key, which only the review service has: it acts as promoter")
    return key_of(pem, place="CORRIGENDA_SIGNING_KEY")


def known_as(name: str, role: Role, *, ledger: Ledger, settings: Settings) -> Identity:
    """Who is enrolled under a name, if they have a role.

    Raises:
        IdentityError: nobody is.
        RoleError: they don't have it.
    """
    identity = identities(ledger, settings).get(normalised(name))
    if identity is None:
        raise IdentityError(
            f"{name!r} is not enrolled; an administrator does that with 'corrigenda people add NAME --role {role}'"
        )
    identity.may(role)
    return identity


def asker(envelope: Mapping[str, Any] | None, asked: Asked, *, role: Role, ledger: Ledger, settings: Settings) -> Act:
    """The act that somebody signed, who is enrolled now, and that was not used yet; see `check_act`.

    Raises:
        UntrustedError: nobody did who may, or it was used, or its time is over.
    """
    known = identities(ledger, settings)
    act = check_act(envelope, asked, role=role, identities=known)
    act.check_age(datetime.now(UTC))
    check_unused(act, ledger)
    return act


def _check_enrolment(name: str, *, by: str, known: Mapping[str, Identity]) -> None:
    key = normalised(name)
    if key in RESERVED:
        raise IdentityError(f"{name!r} is what the ledger calls a part of the platform; choose another name")
    if key in known:
        raise IdentityError(
            f"{name!r} is enrolled already, as {known[key].name!r}; another administrator changes what "
            "they may do by revoking and enrolling them again, and whoever reviews is somebody else than who submits"
        )
    if normalised(by) == key:
        raise IdentityError(f"{by} can't enrol themselves; another administrator does it")
    if by == ROOT and any("administrator" in each.roles for each in known.values()):
        raise IdentityError("there is an administrator, who enrols people under their own name")


def _signed(asked: Asked, *, by: str, known: Mapping[str, Identity], settings: Settings) -> Act:
    """What an administrator asks for, with their own signature."""
    if normalised(by) not in known:
        raise IdentityError(f"{by!r} is not enrolled, so not an administrator; see 'corrigenda people list'")
    known[normalised(by)].may("administrator")
    envelope = sign_act(asked, by=by, settings=settings)
    return check_act(envelope, asked, role="administrator", identities=known)


def _record(
    identity: Identity, root: Ed25519PrivateKey, ledger: Ledger, settings: Settings, *, act: Act | None = None
) -> None:
    """Enter a certificate; whoever enrols the first ones has the root's key alone, and no act.

    Raises:
        IdentityError: it counts for nothing.
    """
    data = {"certificate": certify(identity, root), **({"act": act.digest} if act else {})}
    enrolled = Event(entity="identity", key=identity.key, kind="enrolled", actor=identity.enrolled_by, data=data)
    ledger.append([*([act.used()] if act else []), enrolled])
    if identity.key not in identities(ledger, settings):
        raise IdentityError(
            f"the certificate of {identity.name} is entered and counts for nothing: it is of {identity.at}, by this "
            "machine's clock, and they were revoked later than that, by the database's. Set this clock right, and "
            "enrol them again"
        )


def _now() -> str:
    return datetime.now(UTC).isoformat()
