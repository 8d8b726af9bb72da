"""Notices: people and programs are told what happened, as an event in Prefect and by webhook where one is set.

Telling never fails or holds up the flow that tells. A notice is recorded in the ledger as due, passed on by a thread of
its own, and recorded as sent or failed. The event goes to Prefect's server, where an automation passes it on
(automation.py). What a process that is killed leaves due, reconcile passes on.
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Thread
from typing import Any, Literal, Self
from uuid import UUID, uuid5

import httpx
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import BaseModel, ConfigDict

from editors.digests import canonical_json
from governance.lifecycle import Event
from tasks.errors import IllegalTransitionError, UnreachableError
from tasks.ledger import Ledger
from tasks.prefect_api import prefect_client
from tasks.settings import Settings
from tasks.tables import Standing
from tasks.webhook import Delivery, deliver

Kind = Literal["candidate-ready", "approved", "rejected", "promoted", "revoked", "stale", "found"]

ACTOR = "notices"
NAMES = UUID("6f1d6f5e-6a0c-4d3f-9c56-0f7f5d1c8a11")
PATIENCE_SECONDS = 90
"""How long a process that ends waits for a message that is still being sent; all attempts take less."""

logger = logging.getLogger(__name__)


class Notice(BaseModel):
    """What is told.

    Attributes:
        id: names it, so that a receiver knows one that it got twice.
        kind: what happened.
        candidate: to which one; empty where it is about none.
        text: one sentence for people.
        at: when it happened.
        data: what programs may want besides.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    kind: Kind
    candidate: str
    text: str
    at: str
    data: Mapping[str, Any]

    @classmethod
    def of(cls, event: Mapping[str, Any], kind: Kind, text: str, *, candidate: str, data: Mapping[str, Any]) -> Self:
        """Tell of an event of the ledger; the notice is named after it."""
        at, name = _in_seconds(event["at"]), _name(kind, event["digest"])
        return cls(id=name, kind=kind, candidate=candidate, text=text, at=at, data=data)


def tell(kind: Kind, *, candidate: str = "", text: str, ledger: Ledger, data: Mapping[str, Any] | None = None) -> None:
    """Tell whoever listens what is no event of the ledger (news.py tells of those).

    The same is told once: of one opening of a candidate, or in one day where it is about none.

    Args:
        kind: what happened.
        candidate: its digest, where it happened to one.
        text: one sentence for people.
        ledger: where it is recorded.
        data: what programs may want besides.
    """
    with only_warning(f"{kind} of {candidate[:12] or 'no candidate'}"):
        now = datetime.now(UTC)
        occasion = _openings(candidate, ledger) if candidate else f"{now:%Y-%m-%d}"
        name = _name(kind, candidate, occasion, text)
        told = dict(data or {})
        pass_on(Notice(id=name, kind=kind, candidate=candidate, text=text, at=_in_seconds(now), data=told), ledger)


def pass_on(notice: Notice, ledger: Ledger) -> None:
    """Record a notice as due, and send it while the flow goes on; one that is known was sent or is being sent."""
    message = notice.model_dump(mode="json")
    due = Event(entity="notice", key=notice.id, kind="due", actor=ACTOR, reason=notice.text, data={"notice": message})
    try:
        ledger.append([due])
    except IllegalTransitionError:
        return
    _send_beside(message, ledger)


def pass_on_left(ledger: Ledger, *, before: datetime) -> None:
    """Send what has been due since before a time, since whoever recorded it was killed."""
    with only_warning("what was left"):
        for standing in ledger.standings("notice", states=["due"]):
            if standing.at <= before:
                _send_beside(standing.content["notice"], ledger)


def resend(ledger: Ledger) -> list[Standing]:
    """Send again what is due or failed; returns where each of those notices stands then."""
    waiting = ledger.standings("notice", states=["due", "failed"])
    for standing in waiting:
        _send(standing.content["notice"], ledger)
    return ledger.standings("notice", keys=[s.key for s in waiting]) if waiting else []


@contextmanager
def only_warning(what: str) -> Iterator[None]:
    """Log whatever goes wrong: what is told of has happened all the same."""
    try:
        yield
    except Exception as error:
        logger.warning("%s could not be told: %s", what, error)


def _name(*parts: object) -> str:
    """Name what is told after what it is about, so that a flow which is run again tells nothing twice."""
    return str(uuid5(NAMES, canonical_json(parts).decode()))


def _openings(candidate: str, ledger: Ledger) -> int:
    return sum(event["kind"] == "opened" for event in ledger.history("candidate", candidate))


def _in_seconds(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _send_beside(message: Mapping[str, Any], ledger: Ledger) -> None:
    work = (PREFECT_API_URL.value(), message, ledger)
    thread = Thread(target=_send_to, args=work, name=f"notice {message['id']}", daemon=True)
    thread.start()
    atexit.register(thread.join, PATIENCE_SECONDS)


def _send_to(prefect: str | None, message: Mapping[str, Any], ledger: Ledger) -> None:
    """Send to the Prefect server of whoever started the thread; the settings of a thread are its own."""
    with only_warning(f"notice {message['id']}"), temporary_settings({PREFECT_API_URL: prefect} if prefect else {}):
        _send(message, ledger)


def _send(message: Mapping[str, Any], ledger: Ledger) -> None:
    """Send a message, and record what became of it: what did not take it, or else where it went last."""
    with only_warning(f"notice {message['id']}"):
        passed = [_emit(message), *_by_webhook(message)]
        kind = "sent" if all(each.taken for each in passed) else "failed"
        detail = "; ".join(each.detail for each in passed if not each.taken) or passed[-1].detail
        ledger.append([Event(entity="notice", key=message["id"], kind=kind, actor=ACTOR, reason=detail)])


def _emit(message: Mapping[str, Any]) -> Delivery:
    """Hand an event to Prefect's server; one that it has already it keeps once."""
    if not PREFECT_API_URL.value():  # the client would start a server of its own, on SQLite
        return Delivery(taken=False, detail="no Prefect server is set")
    candidate = message["candidate"]
    event = {
        "id": message["id"],
        "occurred": message["at"],
        "event": f"corrigenda.{message['kind']}",
        "resource": {
            "prefect.resource.id": f"corrigenda.candidate.{candidate}" if candidate else "corrigenda.ledger",
            "prefect.resource.name": f"candidate {candidate[:12]}" if candidate else "ledger",
        },
        "payload": message,
    }
    try:
        with prefect_client() as client:
            client.request("POST", "/events", json=[event]).raise_for_status()
    except (UnreachableError, httpx.HTTPStatusError) as error:
        return Delivery(taken=False, detail=str(error).splitlines()[0])
    return Delivery(taken=True, detail="Prefect has it as an event")


def _by_webhook(message: Mapping[str, Any]) -> list[Delivery]:
    settings = Settings()
    if not settings.webhook_url:
        return []
    secret = settings.webhook_secret.get_secret_value()
    return [deliver(canonical_json(message), notice=message["id"], url=settings.webhook_url, secret=secret)]
