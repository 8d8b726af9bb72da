"""A network between a client and a server that is slow or breaks, for tests."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

CHUNK = 16 << 10


class Proxy:
    """Passes connections on to a server.

    Attributes:
        delay: seconds that each piece takes longer.
        breaks: how many of the next connections are cut once the client has sent its request.
        cuts: how many of the next connections are cut in the middle of what the server answers.
        cut_after: the bytes of answers after which that happens.
        answered: the bytes of answers that were passed on.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.delay = 0.0
        self.breaks = 0
        self.cuts = 0
        self.cut_after = 0
        self.answered = 0

    def serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _connect(self, client: socket.socket) -> None:
        breaks, self.breaks = self.breaks > 0, max(0, self.breaks - 1)
        cut, self.cuts = self.cuts > 0, max(0, self.cuts - 1)
        with client, socket.create_connection(self._target) as server:
            back = threading.Thread(target=self._answer, args=(server, client, cut), daemon=True)
            back.start()
            self._pass_on(client, server, breaks)
            back.join()

    def _pass_on(self, source: socket.socket, sink: socket.socket, breaks: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(CHUNK):
                time.sleep(self.delay)
                sink.sendall(piece)
                if breaks:  # the server has it, and the client never hears
                    source.shutdown(socket.SHUT_RDWR)
        self._end(source, sink)

    def _answer(self, server: socket.socket, client: socket.socket, cut: bool) -> None:
        passed = 0
        with suppress(OSError):
            while (not cut or passed < self.cut_after) and (piece := server.recv(CHUNK)):
                time.sleep(self.delay)
                client.sendall(piece)
                passed += len(piece)
                self.answered += len(piece)
        self._end(server, client)

    def _end(self, *sockets: socket.socket) -> None:
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    """A network to a server."""
    made = Proxy(target)
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.close()
