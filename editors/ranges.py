"""Settings in their range: the checks that all configs share, each with one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from editors.errors import InvalidConfigError


def above_zero(config: object, *names: str) -> None:
    """Check that some settings of a config are above 0; NaN is not.

    Raises:
        InvalidConfigError: one of them is not.
    """
    for name in names:
        if not getattr(config, name) > 0:
            raise InvalidConfigError(f"{name} is {getattr(config, name)}; it must be above 0")


def not_negative(config: object, *names: str) -> None:
    """Check that some settings of a config are 0 or more; NaN is not.

    Raises:
        InvalidConfigError: one of them is not.
    """
    for name in names:
        if not getattr(config, name) >= 0:
            raise InvalidConfigError(f"{name} is {getattr(config, name)}; it must not be negative")


def ascending(layers: Sequence[int]) -> None:
    """Check that there is at least one layer, and that none stands before a lower one or twice.

    Raises:
        InvalidConfigError: it is not so.
    """
    if not layers or list(layers) != sorted(set(layers)) or layers[0] < 0:
        raise InvalidConfigError(f"layers are {tuple(layers)}; they must be ascending from 0 on, with at least one")
