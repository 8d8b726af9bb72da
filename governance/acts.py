"""Acts: what people ask of the platform, signed with their own key, for once.

Submitting, protecting and taking back change what the model will say, so the ledger keeps who really asked: a statement
with all that decides what then happens, signed by an enrolled person with the role for it. An act is good for an hour
and is used up by what it causes, so that nobody who gets hold of it can send it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from editors.digests import digest_of
from governance.envelopes import claimed, subject_of, verify
from governance.errors import ForgedError, RoleError, SpentActError
from governance.identities import Identity, Role, normalised
from governance.lifecycle import Event, in_utc
from governance.receipts import SKEW, YEARS

ACT = "urn:corrigenda:act:v1"
LIFE = timedelta(hours=1)
"""For how long an act is good: as long as a run may wait for its runner, and too short to keep one for later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """All that decides what happens when somebody asks for it.

    Attributes:
        verb: what is to be done.
        about: the sha256 of each thing to which it is done, by its name.
        reason: why.
        options: how, where the verb leaves a choice.
    """

    verb: str
    about: Mapping[str, str]
    reason: str = ""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What somebody asked for, and signed.

    Attributes:
        asked: what.
        by: who, as they are enrolled.
        at: when they signed.
        envelope: what they signed, with the signature.
    """

    asked: Asked
    by: str
    at: datetime
    envelope: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """The sha256 by which the act is known: over what was signed, whatever signatures lie beside it."""
        return digest_of(claimed(self.envelope))

    def used(self) -> Event:
        """The event that uses the act up; it goes with what the act causes, in one transaction."""
        data = {"envelope": dict(self.envelope)}
        return Event(entity="act", key=self.digest, kind="used", actor=self.by, reason=self.asked.reason, data=data)

    def check_age(self, now: datetime, *, late: timedelta = timedelta(0)) -> None:
        """Refuse an act that is too old, or from the future.

        Args:
            now: when it is used, or was.
            late: by how much later than it was checked it may have been used.

        Raises:
            SpentActError: it is.
        """
        what = f"this {self.asked.verb} was signed by {self.by} at {in_utc(self.at)}"
        if now > self.at + LIFE + late:
            hours = LIFE // timedelta(hours=1)
            raise SpentActError(
                f"{what}, and is good for {hours} hour from then; run the command again, which signs it anew"
            )
        if now < self.at - SKEW:
            raise SpentActError(
                f"{what}, which is still to come; set the clock of the machine right, then run the command again"
            )


def check_act(
    envelope: Mapping[str, Any] | None,
    asked: Asked,
    *,
    role: Role,
    identities: Mapping[str, Identity],
) -> Act:
    """Return a signed act, if it is this one, by somebody who may.

    Args:
        envelope: of the act; None where nothing was signed.
        asked: what is asked for.
        role: that it needs.
        identities: those who are enrolled, by their normalised names.

    Raises:
        ForgedError: it is not signed, the signature does not hold, or something else was signed.
        RoleError: nobody who is enrolled signed it, or somebody who may not.
    """
    if envelope is None:
        raise ForgedError(f"this {asked.verb} is not signed; {_way_in(role)}")
    act = read_act(envelope, role=role, identities=identities)
    other = [each.name for each in fields(Asked) if getattr(act.asked, each.name) != getattr(asked, each.name)]
    if other:
        raise ForgedError(
            f"{act.by} signed another act than this {asked.verb} (another {' and '.join(other)}); run the command "
            "again, which signs this one"
        )
    return act


def read_act(envelope: Mapping[str, Any], *, role: Role, identities: Mapping[str, Identity]) -> Act:
    """Return what somebody asked for, if they signed it and have a role.

    Raises:
        ForgedError: the signature does not hold, or it is no act.
        RoleError: nobody who is enrolled signed it, or somebody who may not.
    """
    name = str(claimed(envelope)["predicate"].get("by", ""))
    identity = identities.get(normalised(name))
    if identity is None:
        raise RoleError(f"{name!r} is not enrolled, or was revoked; {_way_in(role)}")
    found = verify(envelope, identity.public_key)
    about, predicate = subject_of(found, ACT), found["predicate"]
    identity.may(role)
    try:
        at = datetime.fromisoformat(predicate["at"]).astimezone(UTC)
        asked = Asked(
            verb=predicate["act"], about=about, reason=predicate["reason"], options=dict(predicate["options"])
        )
        if at.year not in YEARS:
            raise ValueError(f"nobody signed it in the year {at.year}")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ForgedError(
            f"what {identity.name} signed is no whole act: {type(error).__name__}: {error}; run the command again, "
            "which signs it anew"
        ) from error
    return Act(asked=asked, by=identity.name, at=at, envelope=envelope)


def _way_in(role: Role) -> str:
    return f"an administrator enrols you with 'corrigenda people add NAME --role {role}'. Nothing was recorded"
