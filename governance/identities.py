"""Identities: who somebody is, what they may do, and how the root vouches for it.

A certificate is a statement about a public key, signed by the root. It carries the root's public key, which is believed
because its fingerprint is the one that the reader was given by another way.

Names are compared as a reader takes them in: "Grace Hopper", "grace.hopper", "GRACE HOPPER" and one with a Cyrillic а
in it are one name. So another spelling makes nobody somebody else.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from governance.envelopes import claimed, fingerprint, public_key, sign, statement, subject_of, verify
from governance.errors import ForgedError, RoleError, UnclearNameError

CERTIFICATE = "urn:corrigenda:certificate:v1"
LONGEST_NAME = 100
PUNCTUATION = " .'’-_,@+\\"
TOGETHER = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "KATAKANA-HIRAGANA": "CJK"}
"""Scripts that one name may mix."""
LOOKALIKES = str.maketrans(
    "авсԁеһіјкӏмнорԛгѕтуԝхѵ" + "αβεηικνορτυχ",
    "abcdehijklmhopqrstywxv" + "abeniknoptux",
)
"""Cyrillic and Greek letters that are read as Latin ones."""

Kind = Literal["person", "service", "signer"]
Role = Literal["requester", "reviewer", "protector", "administrator"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Somebody, or a service, that the root vouches for.

    Attributes:
        name: as people write it.
        kind: a person, a service, or a signer of releases.
        roles: what a person may do; others have none.
        public_key: of their own Ed25519 key, in hexadecimal; of a signer, what signing.py holds a release against.
        enrolled_by: who asked the root for it.
        at: when, an ISO time in UTC.
        sealed_secret: of one-time codes, sealed to the review service; empty for others.
        sealing_key: with which secrets are sealed to a service, in hexadecimal; empty for others.
    """

    name: str
    kind: Kind
    roles: tuple[Role, ...]
    public_key: str
    enrolled_by: str
    at: str
    sealed_secret: str = ""
    sealing_key: str = ""

    @property
    def key(self) -> str:
        """The name as it is compared."""
        return normalised(self.name)

    def may(self, role: Role) -> None:
        """Refuse a role that the root didn't give them.

        Raises:
            RoleError: it didn't.
        """
        if role not in self.roles or self.kind != "person":
            raise RoleError(
                f"{self.name} is no {role}: enrolled as {', '.join(self.roles) or 'a ' + self.kind}; an administrator "
                f"enrols a {role} with 'corrigenda people add NAME --role {role}'"
            )


def normalised(name: str) -> str:
    """Return a name as it is compared: letters and digits alone, without accents, case and look-alikes."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    kept = "".join(c for c in unicodedata.normalize("NFKD", plain) if c.isalnum())
    return unicodedata.normalize("NFKC", kept).translate(LOOKALIKES)


def check_name(name: str) -> None:
    """Refuse a name that can be taken for another one.

    Raises:
        UnclearNameError: it mixes scripts, holds signs that nobody sees, or is too long or empty.
    """
    scripts = {_script(c) for c in name if c.isalpha()}
    if odd := [c for c in name if not (c.isalnum() or c in PUNCTUATION or unicodedata.category(c) in ("Mn", "Mc"))]:
        raise UnclearNameError(f"the name {name!r} holds U+{ord(odd[0]):04X}, which is no part of a name")
    if len(scripts) > 1:
        raise UnclearNameError(f"the name {name!r} mixes {' and '.join(sorted(scripts))}; write it in one script")
    if len(name) > LONGEST_NAME or not normalised(name) or name != name.strip():
        raise UnclearNameError(f"{name[:LONGEST_NAME]!r} is no name: 1 to {LONGEST_NAME} letters, no spaces around it")


def certify(identity: Identity, root: Ed25519PrivateKey) -> dict[str, Any]:
    """Return the certificate of an identity, signed by the root."""
    subject = {identity.name: fingerprint(identity.public_key)}
    predicate = asdict(identity) | {"roles": list(identity.roles), "root": public_key(root)}
    return sign(statement(CERTIFICATE, subject=subject, predicate=predicate), root)


def identity_of(certificate: Mapping[str, Any], root_fingerprint: str) -> Identity:
    """Return whom a certificate is about, if the root signed it.

    Raises:
        ForgedError: it didn't, or it is no certificate.
    """
    root = str(claimed(certificate)["predicate"].get("root", ""))
    if not _is_key(root) or fingerprint(root) != root_fingerprint:
        raise ForgedError(f"the certificate is signed under another root than {root_fingerprint[:12] or 'none'}")
    found = verify(certificate, root)
    subject = subject_of(found, CERTIFICATE)
    try:
        values: dict[str, Any] = {each.name: found["predicate"][each.name] for each in fields(Identity)}
        values["roles"] = tuple(values["roles"])
    except (KeyError, TypeError) as error:
        raise ForgedError(f"the certificate lacks {error}") from error
    identity = Identity(**values)
    if subject != {identity.name: fingerprint(identity.public_key)}:
        raise ForgedError(f"the certificate of {identity.name!r} is about another key than it names")
    return identity


def _script(character: str) -> str:
    script = unicodedata.name(character, "UNKNOWN").split()[0]
    return TOGETHER.get(script, script)


def _is_key(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")
