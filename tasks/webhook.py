"""Webhook: one signed message to an address, tried a few times.

The signature is the one that Stripe and others use: HMAC-SHA256 with a shared secret over a time and the body, so that
the receiver can refuse both what others sent and what is sent again later. A redirect is not followed: it would take
the message to an address that nobody set.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx

from tasks.settings import is_loopback

SIGNATURE = "Corrigenda-Signature"
NOTICE = "Corrigenda-Notice"
DELAYS = (1.0, 4.0, 16.0)
"""Seconds before the second, third and fourth attempt."""
TIMEOUT_SECONDS = 5.0
WORTH_ANOTHER_TRY = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of a message: whether the receiver took it, and what it answered last."""

    taken: bool
    detail: str


def deliver(body: bytes, *, notice: str, url: str, secret: str, delays: Sequence[float] = DELAYS) -> Delivery:
    """Post a message until the receiver takes it, refuses it, or the attempts are used up.

    Args:
        body: JSON.
        notice: names the message, so that the receiver knows one that it got twice.
        url: where to; its path may be a secret, and is never told.
        secret: shared with the receiver.
        delays: seconds before each further attempt.
    """
    with _client(url) as client:
        for attempt, delay in enumerate((*delays, None), start=1):
            headers = {
                "Content-Type": "application/json",
                NOTICE: notice,
                SIGNATURE: signature(body, secret=secret, at=int(time.time())),
            }
            taken, again, detail = _post(client, url, body, headers)
            if taken or not again or delay is None:
                return Delivery(taken=taken, detail=f"{_host(url)} {detail} (attempt {attempt})")
            time.sleep(delay)
    raise AssertionError("the last attempt has no delay after it")


def signature(body: bytes, *, secret: str, at: int) -> str:
    """Sign a time, in seconds since 1970, and a body."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def _post(client: httpx.Client, url: str, body: bytes, headers: dict[str, str]) -> tuple[bool, bool, str]:
    """Try once; returns whether it was taken, whether another try is worth it, and what was answered."""
    try:
        with client.stream("POST", url, content=body, headers=headers) as response:  # the answer's body is not read
            status = response.status_code
    except httpx.HTTPError as error:
        return False, True, f"does not answer: {type(error).__name__}"
    if response.is_success:
        return True, False, f"answered {status}"
    if response.has_redirect_location:
        return False, False, f"answered {status}, a redirect, which is not followed: set webhook_url to where it leads"
    return False, status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in WORTH_ANOTHER_TRY, f"answered {status}"


def _client(url: str) -> httpx.Client:
    on_this_machine = is_loopback(urlsplit(url).hostname or "")
    return httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=not on_this_machine)


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
