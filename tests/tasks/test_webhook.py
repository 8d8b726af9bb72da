from __future__ import annotations

import re
import socket
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from tasks import webhook
from tasks.settings import Settings
from tasks.webhook import NOTICE, SIGNATURE, deliver

SECRET = "a secret of some length"
BODY = b'{"kind":"promoted"}'
DOCUMENT = Path(__file__).parents[2] / "docs" / "notices.md"


def send(receiver, **more):
    return deliver(BODY, notice="n-1", url=receiver.url, secret=SECRET, **{"delays": (0.0, 0.0)} | more)


@pytest.fixture(scope="module")
def is_genuine():
    """The check that the document gives to receivers."""
    code = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    names = {}
    exec(code[1], names)
    return names["is_genuine"]


def test_a_receiver_who_follows_the_document_takes_what_was_signed_and_nothing_else(receiver, is_genuine, monkeypatch):
    assert send(receiver).taken
    (_, body, headers), signature = receiver.got[0], receiver.got[0][2][SIGNATURE]
    assert (body, headers[NOTICE], headers["Content-Type"]) == (BODY, "n-1", "application/json")
    assert is_genuine(body, signature, SECRET)
    assert not is_genuine(body.replace(b"promoted", b"rejected"), signature, SECRET)
    assert not is_genuine(body, signature, "another secret of some length")
    assert not is_genuine(body, re.sub("t=[0-9]+", f"t={int(time.time()) - 1}", signature), SECRET)
    assert not is_genuine(body, signature, SECRET, tolerance=-1)
    for broken in ("", "t=1", "v1=00", "t=x,v1=00", "t=1,v1=zz", signature.split(",")[0]):
        assert not is_genuine(body, broken, SECRET)


@pytest.mark.parametrize("statuses", [[503, 500, 200], [429, 408, 201], [0, 0, 204]])
def test_a_receiver_who_is_away_or_busy_is_tried_again(receiver, statuses):
    receiver.statuses = statuses
    done = send(receiver)
    assert done.taken and done.detail.endswith(f"answered {statuses[-1]} (attempt 3)")


def test_each_attempt_is_signed_at_its_own_time(receiver, is_genuine):
    receiver.statuses = [503, 200]
    send(receiver, delays=(1.1,))
    first, second = (headers[SIGNATURE] for _, _, headers in receiver.got)
    assert first != second and is_genuine(BODY, second, SECRET, tolerance=1)


def test_a_receiver_who_stays_away_is_given_up_and_what_it_answered_is_kept(receiver):
    receiver.statuses = [503]
    done = send(receiver)
    assert not done.taken and done.detail.endswith("answered 503 (attempt 3)")
    assert len(receiver.got) == 3


@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_a_refusal_is_not_tried_again(receiver, status):
    receiver.statuses = [status, 200]
    done = send(receiver)
    assert not done.taken and f"answered {status} (attempt 1)" in done.detail and len(receiver.got) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(receiver, status):
    receiver.statuses = [status]
    done = send(receiver)
    assert not done.taken and "not followed" in done.detail
    assert [path for path, _, _ in receiver.got] == ["/secret-path"]


def test_a_slow_receiver_is_given_up_in_time(receiver, monkeypatch):
    monkeypatch.setattr(webhook, "TIMEOUT_SECONDS", 0.2)
    receiver.seconds = 1.0
    began = time.monotonic()
    done = send(receiver, delays=(0.0,))
    assert not done.taken and "ReadTimeout (attempt 2)" in done.detail
    assert time.monotonic() - began < 2 * receiver.seconds


def test_nobody_at_the_address_is_said_without_the_path(receiver):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        receiver.url = f"http://127.0.0.1:{taken.getsockname()[1]}/secret-path"
        done = send(receiver)
    assert not done.taken and "does not answer: ConnectError" in done.detail and "secret-path" not in done.detail


def test_a_proxy_of_the_environment_is_not_asked_about_this_machine(receiver, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    assert send(receiver).taken


@pytest.mark.parametrize(
    ("url", "secret", "why"),
    [
        ("http://example.org/hook", SECRET, "must be https"),
        ("http://127.0.0.1.example.org/", SECRET, "must be https"),
        ("http://localhost@example.org/", SECRET, "must be https"),
        ("ftp://127.0.0.1/", SECRET, "must be https"),
        ("https:///hook", SECRET, "must be https"),
        ("https://example.org:99999/", SECRET, "[Pp]ort"),
        ("https://example.org/hook", "", "must have 16 characters"),
        ("https://example.org/hook", "too short", "must have 16 characters"),
    ],
)
def test_a_webhook_in_the_clear_or_without_a_secret_is_refused_and_no_secret_is_shown(url, secret, why):
    with pytest.raises(ValidationError, match=why) as refused:
        Settings(webhook_url=url, webhook_secret=secret)
    assert not secret or secret not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["https://example.org/h", "http://127.0.0.1:1/", "http://[::1]:1/", "http://localhost/"]
)
def test_https_and_this_machine_are_taken(url):
    assert Settings(webhook_url=url, webhook_secret=SECRET).webhook_url == url
