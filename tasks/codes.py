"""Codes: whether a one-time code is a reviewer's own; each counts once, and nobody guesses for long.

Three of a million codes are right at any time: the one of the moment at which the answer was given, and its neighbours.
Whoever gave `code_attempts` wrong ones under a name within `code_hours` is refused under that name until the first of
them is older than that. At ten a day, who guesses without a pause succeeds within a year once in ninety times, and
every guess is in the ledger. A reviewer whom somebody keeps out so signs with a key of their own, which has no limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pyotp
from pyotp.exceptions import OTPVerificationError

from governance.identities import Identity, normalised
from governance.lifecycle import Event, in_utc
from tasks.errors import RefusedAnswerError, WrongCodeError
from tasks.ledger import Ledger
from tasks.people import secret_of
from tasks.settings import Settings

DRIFT = 1
"""By how many steps of half a minute a reviewer's clock may differ."""
GUESS = "guess"
"""Under which a refused answer keeps the name that a wrong code was given for, as names are compared."""


def owner_of(
    code: str, *, name: str, at: datetime, identities: Mapping[str, Identity], ledger: Ledger, settings: Settings
) -> tuple[Identity, Event]:
    """Return whose code this is, and the event that burns it.

    Args:
        code: as it was given.
        name: under which.
        at: when.
        identities: those that the root vouches for, by their normalised names.
        ledger: that knows the codes that were used, and the wrong ones.
        settings: how many wrong ones are allowed.

    Raises:
        WrongCodeError: it is nobody's of that name.
        RefusedAnswerError: it was used already, or too many wrong ones were given under the name.
    """
    check_guesses(name, ledger=ledger, settings=settings)
    identity = identities.get(normalised(name))
    step = step_of(code, secret=secret_of(identity, settings), at=at) if identity and identity.sealed_secret else None
    if identity is None or step is None:
        raise WrongCodeError("reviewer and code don't match; a code is right for about a minute")
    burns = Event(entity="code", key=f"{identity.key}:{step}", kind="used", actor=identity.name)
    check_unused(burns.key, ledger=ledger)
    return identity, burns


def check_unused(code: str, *, ledger: Ledger) -> None:
    """Refuse a code that was used before; the ledger itself refuses one that is used meanwhile.

    Raises:
        RefusedAnswerError: it was.
    """
    if ledger.standings("code", keys=[code]):
        raise RefusedAnswerError("this code was used already; wait for the next one")


def check_guesses(name: str, *, ledger: Ledger, settings: Settings) -> None:
    """Refuse a name under which too many wrong codes were given lately, whether or not anybody has it.

    Raises:
        RefusedAnswerError: no code counts under it for now.
    """
    window = timedelta(hours=settings.code_hours)
    since = datetime.now(UTC) - window
    refused = ledger.standings("answer", states=["refused"])
    guesses = [s.at for s in refused if s.data.get(GUESS) == normalised(name) and s.at > since]
    if len(guesses) >= settings.code_attempts:
        until = guesses[-settings.code_attempts] + window
        raise RefusedAnswerError(
            f"{len(guesses)} wrong codes were given under this name, so none counts until {in_utc(until)}; "
            "a reviewer's own key does, with 'corrigenda review approve' in a terminal"
        )


def step_of(code: str, *, secret: str, at: datetime) -> int | None:
    """The time step whose code this is, of those around a moment; None where it is no right one."""
    try:
        return pyotp.TOTP(secret).verify_and_get_timecode(code, for_time=at, valid_window=DRIFT)
    except OTPVerificationError:
        return None
