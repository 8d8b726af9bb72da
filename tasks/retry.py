"""Retry: a correction that was set aside is queued again, with other settings of the editor if wanted.

They are kept in the ledger as part of the correction, and hold for as long as it does: its value is optimised with
them, and each candidate that it is in names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from governance.lifecycle import Event
from tasks.asking import to_retry
from tasks.candidate import the_open_candidate
from tasks.corrections import Correction, Editing
from tasks.errors import IllegalTransitionError
from tasks.ledger import Ledger
from tasks.people import asker
from tasks.settings import Settings

SET_ASIDE = ("quarantined", "held", "superseded")
_OR = ", ".join(SET_ASIDE[:-1]) + f" or {SET_ASIDE[-1]}"


def retry(
    ledger: Ledger,
    key: str,
    *,
    act: Mapping[str, Any] | None,
    reason: str = "",
    editing: Editing | None = None,
    settings: Settings,
) -> None:
    """Queue a quarantined, held or superseded correction again.

    Args:
        ledger: that knows it.
        key: its id.
        act: a requester's signature under `to_retry`.
        reason: why.
        editing: settings in place of those that it had; None leaves it as it is.
        settings: name the root under which the requester must be enrolled.

    Raises:
        UnknownKeyError: the ledger has never heard of it.
        UntrustedError: no requester signed, or the act was used or is too old.
        IllegalTransitionError: it stands elsewhere, or the candidate that waits for review brings it back.
    """
    standing = ledger.standing("correction", key)
    if standing.state not in SET_ASIDE:
        raise IllegalTransitionError(f"{key!r} is {standing.state}; only what is {_OR} is queued again")
    waiting = the_open_candidate(ledger)
    if waiting and key in waiting.content["returning"]:
        raise IllegalTransitionError(f"candidate {waiting.key[:12]} brings {key!r} back already; decide on that first")
    asked = to_retry(ledger, key, reason=reason, editing=editing)
    signed = asker(act, asked, role="requester", ledger=ledger, settings=settings)
    data: dict[str, Any] = {}
    if editing is not None:
        correction = Correction.model_validate(standing.content["correction"])
        changed = correction.model_copy(update={"editing": editing})
        data = dict(standing.content) | {"correction": changed.model_dump(mode="json")}
    data["act"] = signed.digest
    queued = Event(entity="correction", key=key, kind="queued", actor=signed.by, reason=reason, data=data)
    ledger.append([signed.used(), queued])
