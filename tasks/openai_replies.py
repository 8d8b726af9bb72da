"""What goes back to a client, as OpenAI's API has it: the whole answer, or pieces of it as they are written.

Each answer says which release gave it, in `system_fingerprint` and in the headers `x-corrigenda-release` and
`x-corrigenda-candidate`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from random import SystemRandom
from typing import Any
from uuid import uuid4

from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from jinja2 import TemplateError

from editors.errors import EditorError
from editors.tokens import Row
from editors.writing import Answer, Wish
from tasks.openai_requests import ChatAsked, CompletionAsked
from tasks.service import BusyServiceError, Service
from tasks.service_metrics import Metrics

LISTEN = 1.0  # seconds between two looks whether the client is still there


class RefusedError(Exception):
    """A request that can't be granted."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How answers are written down in one of the two ways of asking.

    Attributes:
        prefix: of a reply's id.
        kind: what a whole reply is called; `chunk`: what a piece of it is.
        whole: an answer's text as it stands in a reply; `piece`: as it stands in a piece.
    """

    prefix: str
    kind: str
    chunk: str
    whole: Callable[[str], dict[str, Any]]
    piece: Callable[[str], dict[str, Any]]


COMPLETION = Form(
    prefix="cmpl",
    kind="text_completion",
    chunk="text_completion",
    whole=lambda text: {"text": text},
    piece=lambda text: {"text": text},
)
CHAT = Form(
    prefix="chatcmpl",
    kind="chat.completion",
    chunk="chat.completion.chunk",
    whole=lambda text: {"message": {"role": "assistant", "content": text}},
    piece=lambda text: {"delta": {"content": text}},
)


class Reply:
    """One request: what is asked of the service, and what goes back."""

    def __init__(self, asked: CompletionAsked | ChatAsked, *, service: Service, metrics: Metrics, form: Form) -> None:
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
            "x-corrigenda-release": str(self.held.position),
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
        """Ask for all answers, or for none if one of them can't be granted."""
        wishes = [self._wish(at, row) for at, row in enumerate(self._rows())]
        told = _waker(asyncio.get_running_loop(), self.moved)
        try:
            for wish in wishes:
                self.answers.append(self.service.ask(wish, told=told, held=self.held))
        except BusyServiceError as error:
            self._leave()
            raise RefusedError(503, str(error), code="busy") from error

    def _wish(self, at: int, row: Row) -> Wish:
        return Wish(
            ids=row.ids,
            length=self._length(row),
            temperature=self.asked.temperature,
            top_p=self.asked.top_p,
            seed=self._seed(at),
            stop=self.asked.stop,
        )

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
                yield _event({**self.head, "object": self.form.chunk, "choices": [], "usage": self._usage()})
            yield "data: [DONE]\n\n"
        finally:
            self._leave()

    def _chunk(self, at: int, text: str, ended: str) -> str:
        choice = {"index": at, **self.form.piece(text), "logprobs": None, "finish_reason": ended or None}
        return _event({**self.head, "object": self.form.chunk, "choices": [choice]})

    def _usage(self) -> dict[str, int]:
        read = sum(len(answer.wish.ids) for answer in self.answers)
        written = sum(len(answer.tokens) for answer in self.answers)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    def _leave(self) -> None:
        """Let nothing more be written, and count what was."""
        for answer in self.answers:
            answer.unwanted = True
        usage = self._usage()
        self.metrics.tokens.labels("read").inc(usage["prompt_tokens"])
        self.metrics.tokens.labels("written").inc(usage["completion_tokens"])


def _waker(loop: asyncio.AbstractEventLoop, moved: asyncio.Event) -> Callable[[Answer], None]:
    def wake(answer: Answer) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(moved.set)

    return wake


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"
