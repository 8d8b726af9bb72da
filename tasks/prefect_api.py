"""Prefect's API as our own code calls it: a server that doesn't answer is an error of ours, with the way out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL

from tasks.errors import UnreachableError


@contextmanager
def prefect_client() -> Iterator[SyncPrefectClient]:
    """Give a client of the server that is set.

    Raises:
        UnreachableError: it doesn't answer.
    """
    with prefect_answers(), get_client(sync_client=True) as client:
        yield client


@contextmanager
def prefect_answers() -> Iterator[None]:
    """Tell a server that doesn't answer from whatever else can go wrong in calls of Prefect.

    Raises:
        UnreachableError: it doesn't answer.
    """
    try:
        yield
    except (httpx.TransportError, RuntimeError) as error:
        lost = error if isinstance(error, httpx.TransportError) else error.__cause__  # of a flow that can't begin
        if not isinstance(lost, httpx.TransportError):
            raise
        raise UnreachableError(
            f"the Prefect server at {PREFECT_API_URL.value()} doesn't answer: {str(lost) or type(lost).__name__}; "
            "start the local stack with 'make up', or set CORRIGENDA_PREFECT_API_URL to a server that runs"
        ) from error
