"""Cancel: a correction that waits is taken back, by a requester who signs for that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from governance.lifecycle import Event
from tasks.asking import to_cancel
from tasks.ledger import Ledger
from tasks.people import asker
from tasks.settings import Settings


def cancel(ledger: Ledger, key: str, *, act: Mapping[str, Any] | None, reason: str = "", settings: Settings) -> None:
    """Take a correction back that is in no candidate and no release.

    Args:
        ledger: that knows it.
        key: its id.
        act: a requester's signature under `to_cancel`.
        reason: why.
        settings: name the root under which the requester must be enrolled.

    Raises:
        UnknownKeyError: the ledger has never heard of it.
        UntrustedError: no requester signed, or the act was used or is too old.
        IllegalTransitionError: it stands elsewhere.
    """
    asked = to_cancel(ledger, key, reason=reason)
    signed = asker(act, asked, role="requester", ledger=ledger, settings=settings)
    data = {"act": signed.digest}
    cancelled = Event(entity="correction", key=key, kind="cancelled", actor=signed.by, reason=reason, data=data)
    ledger.append([signed.used(), cancelled])
