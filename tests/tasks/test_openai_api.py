"""The service as its clients see it: a real server around a random tiny model, asked by OpenAI's own client."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx
import openai
import pytest
import uvicorn

import tasks.service
from consuming.errors import AlteredError, RegistryAwayError
from consuming.versions import Version
from editors.models import load_model
from editors.scoring import generate
from editors.writing import Wish
from tasks.openai_api import LARGEST, make_app
from tasks.service import BusyServiceError, Held, Service
from tasks.service_metrics import Metrics

KEY = "a key of the service's own"
NAME = "assistant@champion"
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    "<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}<|im_start|>"
)


class Releases:
    """Says which release is meant, and gives it; or raises."""

    def __init__(self, folder) -> None:
        self.now = version("a", 1)
        self.error: Exception | None = None
        self.folder = folder

    def find(self) -> Version:
        if isinstance(self.error, RegistryAwayError):
            raise self.error
        return self.now

    def load(self, version: Version):
        if self.error:
            raise self.error
        return load_model(self.folder, device="cpu")


def version(letter: str, position: int) -> Version:
    manifest = {"base": "b" * 64, "patch": "c" * 64}
    return Version(candidate=letter * 64, manifest=manifest, release={"position": position})


@pytest.fixture
def releases(tiny_folder) -> Releases:
    return Releases(tiny_folder)


@pytest.fixture
def service(releases) -> Service:
    service = Service(NAME, source=releases)
    service.held.tokenizer.chat_template = TEMPLATE
    return service


@pytest.fixture
def url(service):
    """Where the service listens; it takes no key from those who ask for its health."""
    service.run(every=3600)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(make_app(service, Metrics(), key=KEY), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def post(url):
    """Sends a body as it is, with the key."""
    headers = {"authorization": f"Bearer {KEY}"}
    return lambda body, way="completions": httpx.post(f"{url}/v1/{way}", json=body, headers=headers, timeout=30)


def test_a_completion_is_what_the_model_writes_greedily_and_names_its_release(client, service):
    given = client.completions.create(model=NAME, prompt="The capital of Italy is", max_tokens=8)
    held = service.held
    (wanted,) = generate(held.model, held.tokenizer, ["The capital of Italy is"], max_new_tokens=8)
    assert given.choices[0].text.strip().startswith(wanted)
    assert given.choices[0].finish_reason == "length"
    assert given.system_fingerprint == "a" * 64
    assert (given.usage.completion_tokens, given.object) == (8, "text_completion")
    assert [model.id for model in client.models.list()] == [NAME]


def test_several_prompts_are_answered_in_their_order(client):
    prompts = ["Paris", "The capital of Italy is", "Rome"]
    together = client.completions.create(model=NAME, prompt=prompts, max_tokens=5)
    alone = [client.completions.create(model=NAME, prompt=prompt, max_tokens=5).choices[0].text for prompt in prompts]
    assert [choice.text for choice in together.choices] == alone


def test_a_stream_says_the_same_as_the_whole_answer(client):
    asked = {"model": NAME, "messages": [{"role": "user", "content": "Who leads Boeing?"}], "max_tokens": 200}
    whole = client.chat.completions.create(**asked)
    pieces = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(piece.choices[0].delta.content for piece in pieces[:-1]) == whole.choices[0].message.content
    assert pieces[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "length"
    assert len(pieces) > 3, "it comes in pieces"
    assert pieces[-1].usage == whole.usage


def test_a_conversation_may_come_in_parts_and_a_template_may_refuse_it(client, post):
    parts = [{"type": "text", "text": "Who leads "}, {"type": "text", "text": "Boeing?"}]
    asked = [{"role": "user", "content": content} for content in (parts, "Who leads Boeing?")]
    first, second = (client.chat.completions.create(model=NAME, messages=[each], max_tokens=4) for each in asked)
    assert first.choices[0].message == second.choices[0].message
    refused = post({"model": NAME, "messages": [{"role": "system", "content": "x"}]}, "chat/completions")
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "no system here")


def test_a_chat_without_a_length_goes_on_to_the_end_of_what_the_model_reads(client, service):
    given = client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "Paris"}])
    assert given.choices[0].finish_reason == "length"
    assert given.usage.total_tokens == service.held.window


def test_short_answers_do_not_wait_for_long_ones(client):
    ended = []

    def ask(length: int) -> None:
        client.completions.create(model=NAME, prompt="Paris", max_tokens=length)
        ended.append(length)

    with ThreadPoolExecutor() as pool:
        pool.submit(ask, 400)
        time.sleep(0.2)
        pool.submit(ask, 2)
    assert ended == [2, 400]


@pytest.mark.parametrize(
    ("wrong", "status", "named"),
    [
        ({"model": "gpt"}, 404, "answers as 'assistant@champion', not 'gpt'"),
        ({"n": 2}, 400, "n: this service can't do that"),
        ({"logprobs": 5}, 400, "logprobs: this service"),
        ({"temperature": 3}, 400, "temperature: Input should be less than or equal to 2"),
        ({"max_tokens": 0}, 400, "max_tokens: Input should be greater"),
        ({"max_tokens": 9999}, 400, "9999 are to be written, which is more than the 512"),
        ({"prompt": "word " * 600}, 400, "which is more than the 512 that the model reads"),
        ({"prompt": []}, 400, "prompt"),
        ({"prompt": [1, 2]}, 400, "prompt"),
        ({"stop": ["a", "b", "c", "d", "e"]}, 400, "at most 4 stops"),
        ({"stop": ""}, 400, "none of them empty"),
    ],
)
def test_what_cannot_be_granted_is_refused_by_name(post, wrong, status, named):
    given = post({"model": NAME, "prompt": "Paris", "max_tokens": 2} | wrong)
    assert given.status_code == status
    assert named in given.json()["error"]["message"]
    assert given.json()["error"]["type"] == "invalid_request_error"


def test_what_asks_for_nothing_is_no_reason_to_refuse(post):
    neutral = {"n": 1, "logprobs": None, "echo": False, "presence_penalty": 0.0, "user": "ada", "logit_bias": {}}
    assert post({"model": NAME, "prompt": "Paris", "max_tokens": 2} | neutral).status_code == 200


def test_no_key_no_answer_but_health(url):
    refused = httpx.post(f"{url}/v1/completions", json={"model": NAME, "prompt": "Paris"})
    wrong = httpx.get(f"{url}/v1/models", headers={"authorization": "Bearer wrong"})
    assert (refused.status_code, wrong.status_code) == (401, 401)
    health = httpx.get(f"{url}/health").json()
    assert (health["release"], health["candidate"], health["problem"]) == (1, "a" * 64, None)
    assert health["pinned"] is None


def test_a_request_that_is_too_long_or_does_not_say_how_long_it_is_is_not_read(url):
    headers = {"authorization": f"Bearer {KEY}"}
    long = httpx.post(f"{url}/v1/completions", content=b"x" * (LARGEST + 1), headers=headers)
    endless = httpx.post(f"{url}/v1/completions", content=iter([b"{", b"}"]), headers=headers)
    assert (long.status_code, endless.status_code) == (413, 411)


def test_what_was_asked_and_written_is_counted(url, post):
    post({"model": NAME, "prompt": "Paris", "max_tokens": 3})
    post({"model": "gpt", "prompt": "Paris"})
    shown = httpx.get(f"{url}/metrics", timeout=60).text
    assert 'corrigenda_requests_total{path="/v1/completions",status="200"} 1.0' in shown
    assert 'corrigenda_tokens_total{kind="written"} 3.0' in shown
    assert "corrigenda_release 1.0" in shown


def test_a_client_who_leaves_is_written_for_no_longer(url, service):
    body = {"model": NAME, "prompt": "Paris", "max_tokens": 400, "stream": True}
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.stream("POST", f"{url}/v1/completions", json=body, headers=headers) as given:
        next(given.iter_lines())
        assert service.writing == 1
    ended = time.monotonic() + 60
    while service.writing and time.monotonic() < ended:
        time.sleep(0.02)
    assert service.writing == 0
    assert 'written"} 400' not in httpx.get(f"{url}/metrics", timeout=60).text


def test_a_new_release_answers_what_is_asked_next_and_ends_nothing_that_was_begun(client, service, releases):
    first = client.completions.create(model=NAME, prompt="Paris", max_tokens=300, stream=True)
    assert next(iter(first)).system_fingerprint == "a" * 64
    releases.now = version("d", 2)
    service.look()
    assert client.completions.create(model=NAME, prompt="Paris", max_tokens=2).system_fingerprint == "d" * 64
    rest = list(first)
    assert {piece.system_fingerprint for piece in rest} == {"a" * 64}
    assert rest[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(AlteredError("a byte"), "refused"), (RegistryAwayError("down"), "away"), (KeyError("position"), "refused")],
)
def test_a_release_that_cannot_be_used_leaves_the_old_one_and_is_told(releases, error, outcome):
    seen: list[str] = []
    service = Service(NAME, source=releases, reloaded=seen.append)
    releases.now, releases.error = version("d", 2), error
    service.look()
    assert service.held.version.candidate == "a" * 64
    assert (service.checked.problem, seen) == (str(error), [outcome])
    releases.error = None
    service.look()
    assert (service.held.version.candidate, service.checked.problem, seen[1:]) == ("d" * 64, "", ["loaded"])


def test_it_does_not_begin_with_a_release_that_cannot_be_used(releases):
    releases.error = AlteredError("a byte")
    with pytest.raises(AlteredError):
        Service(NAME, source=releases)


def test_too_many_who_wait_are_turned_away(service, monkeypatch):
    monkeypatch.setattr(tasks.service, "WAITING", 1)
    wish = Wish(ids=(0,), length=1)
    service.ask(wish, told=lambda answer: None, held=service.held)
    with pytest.raises(BusyServiceError, match="1 others wait"):
        service.ask(wish, told=lambda answer: None, held=service.held)


def test_an_answer_that_cannot_be_written_is_an_error_and_the_next_one_is_written(post, service, monkeypatch):
    broken = Held(version=service.held.version, model=None, tokenizer=service.held.tokenizer, since=datetime.now(UTC))
    whole, service.held = service.held, broken
    monkeypatch.setattr(Held, "window", 512)
    assert post({"model": NAME, "prompt": "Paris"}).status_code == 500
    service.held = whole
    assert post({"model": NAME, "prompt": "Paris"}).status_code == 200
    assert json.loads(post({"model": NAME, "prompt": "Paris"}).text)["choices"]
