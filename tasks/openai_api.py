"""The OpenAI-compatible face of a service: completions and chat, its health, and metrics for Prometheus.

What a client asks for is granted or refused by name, never silently ignored. Each answer says which release gave it, in
`system_fingerprint` and in the headers `x-corrigenda-release` and `x-corrigenda-candidate`. Temperature is 0 where
none is given: that is how the release was judged.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from random import SystemRandom
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from jinja2 import TemplateError
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from editors.errors import EditorError
from editors.tokens import Row, messages_row, text_row
from editors.writing import Answer, Wish
from tasks.service import BusyServiceError, Held, Service

LARGEST = 1 << 20  # bytes of a request
PROMPTS = 32  # of one request
STOPS = 4
SHORT = 16  # tokens of a completion for which no length is given, as OpenAI has it
LISTEN = 1.0  # seconds between two looks whether the client is still there
OPEN = {"/health", "/metrics"}  # without the key

# What may be sent as long as it asks for nothing.
NEUTRAL: Mapping[str, Any] = {
    "n": 1,
    "best_of": 1,
    "echo": False,
    "logprobs": False,
    "top_logprobs": 0,
    "logit_bias": {},
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "suffix": None,
    "tools": [],
    "tool_choice": "none",
    "parallel_tool_calls": False,
    "response_format": {"type": "text"},
    "store": False,
}
ABOUT_THE_CLIENT = {"user", "metadata", "safety_identifier"}


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(stops) > STOPS or "" in stops:
        raise ValueError(f"at most {STOPS} stops, none of them empty")
    return stops


class StreamOptions(BaseModel):
    """How to stream."""

    include_usage: bool = False


class Asked(BaseModel):
    """What both ways of asking share."""

    model_config = ConfigDict(extra="forbid")

    model: str
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Annotated[str | list[str] | None, AfterValidator(_stops)] = None
    stream: bool = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def drop_what_asks_for_nothing(cls, given: Any) -> Any:  # noqa: ANN401 - whatever a client sent
        """Take away parameters that are at the value at which they change nothing."""
        if not isinstance(given, dict):
            return given
        return {
            name: value
            for name, value in given.items()
            if name not in ABOUT_THE_CLIENT and not (name in NEUTRAL and value in (None, NEUTRAL[name]))
        }


class CompletionAsked(Asked):
    """A text to continue, or several."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=PROMPTS)]

    def rows(self, held: Held) -> list[Row]:
        """The prompts as tokens."""
        texts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        return [text_row(held.tokenizer, text) for text in texts]

    def length(self, room: int) -> int:
        """How many tokens to write at most."""
        return self.max_tokens or min(SHORT, room)


class Part(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A message of a conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str | list[Part]

    def plain(self) -> dict[str, str]:
        """The message as a chat template wants it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": self.role, "content": text}


class ChatAsked(Asked):
    """A conversation to continue."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)

    def rows(self, held: Held) -> list[Row]:
        """The conversation as tokens."""
        return [messages_row(held.tokenizer, [message.plain() for message in self.messages])]

    def length(self, room: int) -> int:
        """How many tokens to write at most."""
        return self.max_completion_tokens or self.max_tokens or room


class RefusedError(Exception):
    """A request that can't be granted."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code


class Metrics:
    """What is counted, under the names that Prometheus reads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("corrigenda_requests", "Requests", ["path", "status"], registry=self.registry)
        self.seconds = Histogram("corrigenda_request_seconds", "Until the last byte", ["path"], registry=self.registry)
        self.tokens = Counter("corrigenda_tokens", "Tokens read and written", ["kind"], registry=self.registry)
        self.reloads = Counter("corrigenda_reloads", "Releases taken or not", ["outcome"], registry=self.registry)

    def show(self, service: Service) -> None:
        """Add what the service itself knows."""
        waiting = Gauge("corrigenda_waiting", "Answers that have not begun", registry=self.registry)
        writing = Gauge("corrigenda_writing", "Answers being written", registry=self.registry)
        release = Gauge("corrigenda_release", "Position of the release that answers", registry=self.registry)
        waiting.set_function(lambda: service.waiting)
        writing.set_function(lambda: service.writing)
        release.set_function(lambda: _release(service.held)["position"])


def make_app(service: Service, metrics: Metrics, *, key: str = "") -> FastAPI:
    """Return the application that answers with a service.

    Args:
        service: it runs already.
        metrics: the ones that the service reports reloads to.
        key: that clients send as a bearer token; nobody is asked for one if it is empty.
    """
    app = FastAPI(title="Corrigenda", docs_url=None, redoc_url=None, lifespan=_until_the_end(service))
    metrics.show(service)
    _handle_errors(app)

    @app.middleware("http")
    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        begun = time.monotonic()
        response = _turned_away(request, key) or await go_on(request)
        path = request.url.path if response.status_code != 404 else "other"
        metrics.requests.labels(path, str(response.status_code)).inc()
        metrics.seconds.labels(path).observe(time.monotonic() - begun)
        return response

    @app.get("/health")
    async def health() -> dict[str, Any]:
        held, checked = service.held, service.checked
        return {
            "status": "ok",
            "model": service.name,
            "release": _release(held)["position"],
            "candidate": held.version.candidate,
            "base": held.version.manifest["base"],
            "patch": held.version.manifest["patch"],
            "since": held.since.isoformat(),
            "checked": checked.at.isoformat(),
            "problem": checked.problem or None,
        }

    @app.get("/metrics")
    async def prometheus() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        created = int(service.held.since.timestamp())
        return {
            "object": "list",
            "data": [{"id": service.name, "object": "model", "created": created, "owned_by": "corrigenda"}],
        }

    @app.post("/v1/completions")
    async def completions(asked: CompletionAsked, request: Request) -> Response:
        return await _Reply(asked, service=service, metrics=metrics, form=_COMPLETION).given(request)

    @app.post("/v1/chat/completions")
    async def chat(asked: ChatAsked, request: Request) -> Response:
        return await _Reply(asked, service=service, metrics=metrics, form=_CHAT).given(request)

    return app


class _Form:
    """How answers are written down in one of the two ways of asking."""

    def __init__(self, prefix: str, kind: str, chunk_kind: str, put: str, put_chunk: str) -> None:
        self.prefix, self.kind, self.chunk_kind = prefix, kind, chunk_kind
        self._put, self._put_chunk = put, put_chunk

    def whole(self, text: str) -> dict[str, Any]:
        return {self._put: {"role": "assistant", "content": text} if self._put == "message" else text}

    def piece(self, text: str) -> dict[str, Any]:
        return {self._put_chunk: {"content": text} if self._put_chunk == "delta" else text}


_COMPLETION = _Form("cmpl", "text_completion", "text_completion", "text", "text")
_CHAT = _Form("chatcmpl", "chat.completion", "chat.completion.chunk", "message", "delta")


class _Reply:
    """One request: what is asked of the service, and what goes back."""

    def __init__(self, asked: CompletionAsked | ChatAsked, *, service: Service, metrics: Metrics, form: _Form) -> None:
        self.asked, self.service, self.metrics, self.form = asked, service, metrics, form
        self.held = service.held
        self.head = {
            "id": f"{form.prefix}-{uuid4().hex}",
            "created": int(time.time()),
            "model": service.name,
            "system_fingerprint": self.held.version.candidate,
        }
        self.moved = asyncio.Event()
        self.answers: list[Answer] = []

    async def given(self, request: Request) -> Response:
        """Ask the service, and answer the client, all at once or as it is written."""
        self._ask()
        headers = {
            "x-corrigenda-release": str(_release(self.held)["position"]),
            "x-corrigenda-candidate": self.held.version.candidate,
        }
        if self.asked.stream:
            return StreamingResponse(self._stream(), media_type="text/event-stream", headers=headers)
        try:
            while any(not answer.ended for answer in self.answers):
                if not await self._next() and await request.is_disconnected():
                    return Response(status_code=499)
        finally:
            self._leave()
        if any(answer.ended == "failed" for answer in self.answers):
            raise RefusedError(500, "the answer could not be written; the log of the service says why")
        choices = [
            {"index": at, **self.form.whole(answer.text), "logprobs": None, "finish_reason": answer.ended}
            for at, answer in enumerate(self.answers)
        ]
        body = {**self.head, "object": self.form.kind, "choices": choices, "usage": self._usage()}
        return JSONResponse(body, headers=headers)

    def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        for at, row in enumerate(self._rows()):
            wish = Wish(
                ids=row.ids,
                length=self._length(row),
                temperature=self.asked.temperature,
                top_p=self.asked.top_p,
                seed=self._seed(at),
                stop=_stops(self.asked.stop),
            )
            told = _waker(loop, self.moved)
            try:
                self.answers.append(self.service.ask(wish, told=told, held=self.held))
            except BusyServiceError as error:
                self._leave()
                raise RefusedError(503, str(error), code="busy") from error

    def _rows(self) -> Sequence[Row]:
        if self.asked.model not in (self.service.name, self.held.version.candidate):
            raise RefusedError(
                404,
                f"this service answers as {self.service.name!r}, not {self.asked.model!r}",
                param="model",
                code="model_not_found",
            )
        try:
            return self.asked.rows(self.held)
        except (EditorError, TemplateError) as error:
            raise RefusedError(400, str(error), param="messages") from error

    def _length(self, row: Row) -> int:
        room = self.held.window - len(row.ids)
        length = self.asked.length(room)
        if room < 1 or length > room:
            raise RefusedError(
                400,
                f"the prompt has {len(row.ids)} tokens and {max(length, 1)} are to be written, which is more than the "
                f"{self.held.window} that the model reads",
                code="context_length_exceeded",
            )
        return length

    def _seed(self, at: int) -> int:
        drawn = SystemRandom().getrandbits(63) if self.asked.seed is None else self.asked.seed
        return (drawn + at) % 2**63

    async def _next(self) -> bool:
        """Wait for the next word, but not for long; returns whether there is one."""
        try:
            await asyncio.wait_for(self.moved.wait(), LISTEN)
        except TimeoutError:
            return False
        self.moved.clear()
        return True

    async def _stream(self) -> AsyncIterator[str]:
        sent = [0] * len(self.answers)
        closed = [False] * len(self.answers)
        try:
            while not all(closed):
                await self._next()
                for at, answer in enumerate(self.answers):
                    ended, text = answer.ended, answer.text
                    if closed[at] or (len(text) == sent[at] and not ended):
                        continue
                    yield self._chunk(at, text[sent[at] :], ended)
                    sent[at], closed[at] = len(text), bool(ended)
            if self.asked.stream_options and self.asked.stream_options.include_usage:
                yield _event({**self.head, "object": self.form.chunk_kind, "choices": [], "usage": self._usage()})
            yield "data: [DONE]\n\n"
        finally:
            self._leave()

    def _chunk(self, at: int, text: str, ended: str) -> str:
        choice = {"index": at, **self.form.piece(text), "logprobs": None, "finish_reason": ended or None}
        return _event({**self.head, "object": self.form.chunk_kind, "choices": [choice]})

    def _usage(self) -> dict[str, int]:
        read = sum(len(answer.wish.ids) for answer in self.answers)
        written = sum(len(answer.tokens) for answer in self.answers)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    def _leave(self) -> None:
        for answer in self.answers:
            answer.unwanted = True
        for kind, count in (("read", self._usage()["prompt_tokens"]), ("written", self._usage()["completion_tokens"])):
            self.metrics.tokens.labels(kind).inc(count)


def _waker(loop: asyncio.AbstractEventLoop, moved: asyncio.Event) -> Callable[[Answer], None]:
    def wake(answer: Answer) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(moved.set)

    return wake


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"


def _release(held: Held) -> dict[str, Any]:
    assert held.version.release is not None, "only releases are served"
    return held.version.release


def _turned_away(request: Request, key: str) -> Response | None:
    length = request.headers.get("content-length")
    if request.method == "POST" and length is None:
        return _refusal(411, "say how long the request is, as 'Content-Length'")
    if int(length or 0) > LARGEST:
        return _refusal(413, f"a request may have {LARGEST} bytes")
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    if key and request.url.path not in OPEN and not hmac.compare_digest(given.encode(), key.encode()):
        return _refusal(401, "send the service's key as 'Authorization: Bearer KEY'", code="invalid_api_key")
    return None


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"] if step != "body")
        wanted = "this service can't do that; leave it out" if first["type"] == "extra_forbidden" else first["msg"]
        return _refusal(400, f"{where}: {wanted}", param=where or None)

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        return _refusal(error.status, str(error), param=error.param, code=error.code)


def _refusal(status: int, message: str, *, param: str | None = None, code: str | None = None) -> Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    headers = {"retry-after": "1"} if status == 503 else {}
    return JSONResponse({"error": error}, status_code=status, headers=headers)


def _until_the_end(service: Service) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.stop()

    return lifespan
