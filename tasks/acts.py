"""Acts: what people ask of the platform, signed with their own key.

Submitting, protecting and taking back change what the model will say, so the ledger keeps who really asked: a statement
with the act, what it is about by digest, and when, signed by an enrolled person with the role for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from editors.digests import sha256_bytes, sha256_file
from editors.envelopes import claimed, sign, statement, subject_of, verify
from editors.errors import ForgedError
from editors.identities import Identity, Role, normalised
from tasks.errors import IdentityError
from tasks.own_keys import sign_as
from tasks.parse import CorrectionFileError
from tasks.settings import Settings

ACT = "urn:corrigenda:act:v1"


def sign_act(verb: str, *, by: str, about: Mapping[str, str], settings: Settings) -> dict[str, Any]:
    """Sign an act with a person's own key; returns its envelope.

    Args:
        verb: what is asked for.
        by: who asks.
        about: the sha256 of each thing that it is about, by its name.
        settings: say where the key is.

    Raises:
        IdentityError: their key is not on this machine.
    """
    predicate = {"act": verb, "by": by, "at": datetime.now(UTC).isoformat()}
    return sign(statement(ACT, subject=about, predicate=predicate), sign_as(by, settings))


def check_act(
    envelope: Mapping[str, Any] | None,
    verb: str,
    *,
    about: Mapping[str, str],
    role: Role,
    identities: Mapping[str, Identity],
) -> Identity:
    """Return who asked for an act, if they signed it and may.

    Args:
        envelope: of the act; None where nothing was signed.
        verb: what is asked for.
        about: the sha256 of each thing that it is about, by its name.
        role: that it needs.
        identities: those who are enrolled, by their normalised names.

    Raises:
        IdentityError: it is not signed, or by nobody who is enrolled.
        ForgedError: the signature does not hold, or it is about something else.
        RoleError: who signed may not.
    """
    if envelope is None:
        raise IdentityError(f"this {verb} is not signed; {_way_in(role)}")
    name = str(claimed(envelope)["predicate"].get("by", ""))
    identity = identities.get(normalised(name))
    if identity is None:
        raise IdentityError(f"{name!r} is not enrolled, or was revoked; {_way_in(role)}")
    found = verify(envelope, identity.public_key)
    if found["predicate"].get("act") != verb or subject_of(found, ACT) != about:
        raise ForgedError(f"{identity.name} signed another act than this {verb}; sign and send it again")
    identity.may(role)
    return identity


def of_file(path: Path) -> dict[str, str]:
    """What an act about a file is about.

    Raises:
        CorrectionFileError: it can't be read.
    """
    try:
        return {path.name: sha256_file(path)}
    except OSError as error:
        raise CorrectionFileError(path, f"cannot be read: {error.strerror}; check the path") from error


def of_key(*keys: str) -> dict[str, str]:
    """What an act about things in the ledger is about."""
    return {key: sha256_bytes(key.encode()) for key in keys}


def _way_in(role: Role) -> str:
    return f"an administrator enrols you with 'corrigenda people add NAME --role {role}'. Nothing was recorded"
