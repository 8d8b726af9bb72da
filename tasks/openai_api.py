"""The OpenAI-compatible face of a service: completions and chat, its health, and metrics for Prometheus."""

from __future__ import annotations

import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tasks.openai_replies import CHAT, COMPLETION, RefusedError, Reply
from tasks.openai_requests import ChatAsked, CompletionAsked
from tasks.service import Service
from tasks.service_metrics import Metrics

LARGEST = 1 << 20  # bytes of a request
OPEN = {"/health", "/metrics"}  # without the key


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
            "release": held.position,
            "candidate": held.version.candidate,
            "base": held.version.manifest["base"],
            "patch": held.version.manifest["patch"],
            "pinned": service.pinned or None,
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
        return await Reply(asked, service=service, metrics=metrics, form=COMPLETION).given(request)

    @app.post("/v1/chat/completions")
    async def chat(asked: ChatAsked, request: Request) -> Response:
        return await Reply(asked, service=service, metrics=metrics, form=CHAT).given(request)

    return app


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
