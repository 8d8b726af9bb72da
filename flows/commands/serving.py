"""The command for a service that answers with a release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from flows.commands.terminal import console, say

if TYPE_CHECKING:
    from tasks.service import Service

app = typer.Typer()

GRACE = 30  # seconds for the requests that are being answered when it is stopped


@app.command()
def serve(
    name: Annotated[str, typer.Argument(help="model@alias, model/number, or a release's digest")],
    host: Annotated[str, typer.Option(help="the address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8000,
    every: Annotated[float, typer.Option(min=0.1, help="seconds between two looks where the name points")] = 10.0,
) -> None:
    """Answer over HTTP with a verified release, as OpenAI's API does, and follow its name unless the lock file pins it.

    POST /v1/completions and /v1/chat/completions, GET /v1/models, /health and /metrics. A release that takes the
    name's place is verified and loaded beside the old one; no request is dropped. CORRIGENDA_SERVE_KEY is asked of
    clients where it is set.
    """
    import corrigenda
    from tasks.service import Named, Service
    from tasks.settings import is_loopback

    try:
        from tasks.openai_api import make_app
        from tasks.service_metrics import Metrics
    except ModuleNotFoundError as error:
        console.print(f"[bold red]error:[/] {error}; 'pip install corrigenda\\[serve]' brings what serving needs")
        raise typer.Exit(1) from error

    settings = corrigenda.ConsumerSettings()
    key = settings.serve_key.get_secret_value()
    if not key and not is_loopback(host):
        say(f"whoever reaches {host} may ask: CORRIGENDA_SERVE_KEY is not set")
    metrics = Metrics()
    with console.status("verifying and loading"):
        source = Named.here(name, settings=settings, report=say)
        if source.pin:
            say("so another release is served only once the lock file names it and this is started again")
        service = Service(
            name,
            source=source,
            pinned=source.pinned,
            reloaded=lambda outcome: metrics.reloads.labels(outcome).inc(),
        )
    service.run(every=every)
    application = make_app(service, metrics, key=key)
    _listen(application, service, host=host, port=port)


def _listen(application: object, service: Service, *, host: str, port: int) -> None:
    """Serve until stopped, and say where as soon as it can be asked."""
    import socket

    import uvicorn

    from tasks.service import told_of

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()  # clients may connect now, and are answered as soon as the server runs
        address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        told = escape(f"{service.name}, {told_of(service.held)}")
        console.print(f"serving {told}, at {address}/v1; Ctrl-C stops it", highlight=False, soft_wrap=True)
        config = uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=GRACE)  # pyright: ignore[reportArgumentType]
        uvicorn.Server(config).run(sockets=[listening])
