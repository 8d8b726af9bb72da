"""When a task is tried again: while a service is away, for a minute and a half, and never for a real refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

from prefect.client.schemas.objects import State, TaskRun

from consuming.errors import RegistryAwayError
from tasks.errors import UnreachableError

Condition = Callable[[Any, TaskRun, State[Any]], bool]


class Retries(TypedDict):
    """How a Prefect task is retried."""

    retries: int
    retry_delay_seconds: list[float]
    retry_condition_fn: Condition


def service_is_away(task: Any, run: TaskRun, state: State[Any]) -> bool:  # noqa: ANN401 - Prefect's signature
    """Whether a task failed because a service did not answer."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, UnreachableError | RegistryAwayError)


WHILE_AWAY: Retries = {
    "retries": 6,
    "retry_delay_seconds": [1, 3, 6, 12, 24, 48],
    "retry_condition_fn": service_is_away,
}
