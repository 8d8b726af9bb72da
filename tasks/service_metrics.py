"""What is counted of a service, under the names that Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tasks.service import Service


class Metrics:
    """The counters, in a registry of their own."""

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
        release.set_function(lambda: service.held.position)
