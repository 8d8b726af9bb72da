"""Notices: people and programs are told what happened to a candidate, as an event in Prefect and by webhook.

Telling never fails or holds up the flow that tells. The event goes to Prefect's server, where an automation passes it
on (automation.py). The webhook's message is recorded in the ledger as due, then sent by a thread of its own, and
recorded as sent or failed. A process that is killed before leaves it due, and `corrigenda notices resend` sends it.
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Thread
from typing import Any, Literal
from uuid import UUID, uuid5

from prefect.events import emit_event
from prefect.settings import PREFECT_API_URL

from editors.digests import canonical_json
from tasks.errors import CorrigendaError, IllegalTransitionError, NoticeError
from tasks.ledger import Ledger
from tasks.lifecycle import Event
from tasks.settings import Settings
from tasks.tables import Release, Standing
from tasks.webhook import deliver

Kind = Literal["candidate-ready", "approved", "rejected", "promoted", "revoked", "stale", "found"]

ACTOR = "notices"
NAMES = UUID("6f1d6f5e-6a0c-4d3f-9c56-0f7f5d1c8a11")
PATIENCE_SECONDS = 90
"""How long a process that ends waits for a message that is still being sent; all attempts take less."""

logger = logging.getLogger(__name__)


def tell(kind: Kind, *, candidate: str = "", text: str, ledger: Ledger, data: Mapping[str, Any] | None = None) -> None:
    """Tell whoever listens that something happened.

    The same is told once: of one opening of a candidate, or in one day where it is about none.

    Args:
        kind: what happened.
        candidate: its digest, where it happened to one.
        text: one sentence for people.
        ledger: where it is recorded.
        data: what programs may want besides.
    """
    with _only_warning(kind, candidate):
        notice = {
            "id": str(_name(kind, candidate, text, ledger)),
            "kind": kind,
            "candidate": candidate,
            "text": text,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "data": dict(data or {}),
        }
        _emit(notice)
        if Settings().webhook_url:
            _send_beside(notice, ledger)


def tell_approved(release: Release, *, ledger: Ledger) -> None:
    """Tell that a candidate is to be the next release, and by whose word."""
    text = f"candidate {release.candidate[:12]} is approved by {release.reviewer}, as release {release.position}"
    data = {"release": release.position, "comment": release.comment}
    tell("approved", candidate=release.candidate, text=text, ledger=ledger, data=data)


def tell_promoted(release: Release, *, version: str, ledger: Ledger) -> None:
    """Tell that a candidate is in production, and which facts were revoked with it."""
    about = f"release {release.position}, candidate {release.candidate[:12]} (version {version})"
    data = {"release": release.position, "version": version}
    tell("promoted", candidate=release.candidate, text=f"{about} is in production", ledger=ledger, data=data)
    with _only_warning("revoked", release.candidate):
        leaving = ledger.standing("candidate", release.candidate).content["leaving"]
        if revoked := [each["id"] for each in leaving if each["becomes"] == "revoked"]:
            text = f"revoked with {about}: {', '.join(revoked)}"
            tell("revoked", candidate=release.candidate, text=text, ledger=ledger, data=data | {"facts": revoked})


def resend(ledger: Ledger) -> list[Standing]:
    """Send again what is due or failed; returns where each of those notices stands then.

    Raises:
        NoticeError: no webhook is set.
    """
    if not Settings().webhook_url:
        raise NoticeError("no webhook is set: set CORRIGENDA_WEBHOOK_URL and CORRIGENDA_WEBHOOK_SECRET")
    waiting = ledger.standings("notice", states=["due", "failed"])
    for standing in waiting:
        _send(standing.content["notice"], ledger)
    return ledger.standings("notice", keys=[s.key for s in waiting]) if waiting else []


@contextmanager
def _only_warning(kind: Kind, candidate: str) -> Iterator[None]:
    """Log whatever goes wrong: what is told of has happened all the same."""
    try:
        yield
    except Exception as error:
        logger.warning("%s of %s could not be told: %s", kind, candidate[:12] or "no candidate", error)


def _name(kind: str, candidate: str, text: str, ledger: Ledger) -> UUID:
    """Name what is told after what it is about, so that a flow which is run again tells nothing twice."""
    if candidate:
        occasion = sum(event["kind"] == "opened" for event in ledger.history("candidate", candidate))
    else:
        occasion = f"{datetime.now(UTC):%Y-%m-%d}"
    return uuid5(NAMES, canonical_json([kind, candidate, occasion, text]).decode())


def _emit(notice: Mapping[str, Any]) -> None:
    """Hand an event to Prefect's client, which sends it from a thread of its own."""
    if not PREFECT_API_URL.value():  # the client would start a server of its own, on SQLite
        return
    candidate = notice["candidate"]
    resource = {
        "prefect.resource.id": f"corrigenda.candidate.{candidate}" if candidate else "corrigenda.ledger",
        "prefect.resource.name": f"candidate {candidate[:12]}" if candidate else "ledger",
    }
    emit_event(f"corrigenda.{notice['kind']}", resource, payload=dict(notice), id=UUID(notice["id"]))


def _send_beside(notice: Mapping[str, Any], ledger: Ledger) -> None:
    """Record a message as due, and send it while the flow goes on; one that is known was sent or is being sent."""
    due = Event(
        entity="notice", key=notice["id"], kind="due", actor=ACTOR, reason=notice["text"], data={"notice": notice}
    )
    try:
        ledger.append([due])
    except IllegalTransitionError:
        return
    thread = Thread(target=_send, args=(notice, ledger), name=f"notice {notice['id']}", daemon=True)
    thread.start()
    atexit.register(thread.join, PATIENCE_SECONDS)


def _send(notice: Mapping[str, Any], ledger: Ledger) -> None:
    """Send a message, and record what became of it."""
    settings = Settings()
    done = deliver(
        canonical_json(notice),
        notice=notice["id"],
        url=settings.webhook_url,
        secret=settings.webhook_secret.get_secret_value(),
    )
    kind = "sent" if done.taken else "failed"
    try:
        ledger.append([Event(entity="notice", key=notice["id"], kind=kind, actor=ACTOR, reason=done.detail)])
    except CorrigendaError as error:
        logger.warning("notice %s is %s, which could not be recorded: %s", notice["id"], kind, error)
