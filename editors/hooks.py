"""Reading what modules read and write in a forward pass, and changing what they write; hooks never stay.

Whatever way an architecture runs its MLP, everything here is (rows, tokens, dimensions): OPT runs it over all tokens of
all rows in one long list.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from editors.layouts import layer_module, layer_of, site_module, stream_norm_of

_Output = TypeVar("_Output")


class _EnoughSeenError(Exception):
    """The last module of interest has run, and the layers above it are not needed: leave the forward pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What went by in one forward pass.

    Attributes:
        keys: what each site read, (rows, tokens, d_in).
        hidden: the residual stream after each layer, (rows, tokens, d_model): the sum that a site's output went into,
            before the norm that some architectures send that sum through.
    """

    keys: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    hidden: dict[int, Tensor] = field(default_factory=dict[int, Tensor])


def capture(
    model: PreTrainedModel,
    forward: Callable[[], object],
    *,
    sites: Sequence[str] = (),
    layers: Sequence[int] = (),
) -> Seen:
    """Return what some sites read and some layers wrote in one forward pass, which is left after the last of them.

    Args:
        model: the model that `forward` runs.
        forward: runs the model once.
        sites: whose inputs are wanted.
        layers: after which the residual stream is wanted.
    """
    seen = Seen()
    rows: dict[str, int] = {}

    def leave_when_complete() -> None:
        if len(seen.keys) == len(sites) and len(seen.hidden) == len(layers):
            raise _EnoughSeenError

    def count_rows(site: str, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        rows[site] = len(inputs[0])

    def keep_key(site: str, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.keys[site] = _by_rows(inputs[0], rows[site])
        leave_when_complete()

    def keep_hidden(layer: int, _: nn.Module, __: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401 - a tensor, or a tuple that starts with one
        seen.hidden[layer] = output[0] if isinstance(output, tuple) else output
        leave_when_complete()

    def keep_sum(layer: int, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.hidden[layer] = inputs[0]
        leave_when_complete()

    with ExitStack() as hooks, suppress(_EnoughSeenError), torch.no_grad():
        for site in sites:
            around = layer_module(model, layer_of(model, site))
            hooks.callback(around.register_forward_pre_hook(partial(count_rows, site)).remove)
            hooks.callback(site_module(model, site).register_forward_pre_hook(partial(keep_key, site)).remove)
        for layer in layers:
            norm = stream_norm_of(model, layer)
            if norm is None:
                hook = layer_module(model, layer).register_forward_hook(partial(keep_hidden, layer))
            else:
                hook = norm.register_forward_pre_hook(partial(keep_sum, layer))
            hooks.callback(hook.remove)
        forward()
    return seen


@contextmanager
def injected(
    model: PreTrainedModel,
    sites: Sequence[str],
    injections: Float[Tensor, "rows sites d_out"],
    positions: Int[Tensor, " rows"],
) -> Generator[None]:
    """Add a vector to what each site writes, for each row of the batch at one position, while the context is open.

    It is added before any norm that the site's output passes on its way into the stream.
    """
    rows = torch.arange(len(positions), device=positions.device)

    def add(place: int, _: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
        states = _by_rows(output, len(positions))
        changed = states.index_put((rows, positions), injections[:, place].to(output.dtype), accumulate=True)
        return changed.view_as(output)

    with ExitStack() as hooks:
        for place, site in enumerate(sites):
            hook = site_module(model, site).register_forward_hook(cast(Any, partial(add, place)))
            hooks.callback(hook.remove)
        yield


@contextmanager
def shifted(model: PreTrainedModel, deltas: Mapping[str, Float[Tensor, "d_out d_in"]]) -> Generator[None]:
    """Let sites write (W + delta) k instead of W k while the context is open; gradients reach the deltas."""

    def add(delta: Tensor, _: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return output + (inputs[0].to(delta.dtype) @ delta.T).to(output.dtype)

    with ExitStack() as hooks:
        for site, delta in deltas.items():
            hook = site_module(model, site).register_forward_hook(cast(Any, partial(add, delta)))
            hooks.callback(hook.remove)
        yield


def entering(module: nn.Module, forward: Callable[[], object]) -> Tensor:
    """Return what a module reads as its first positional argument in a forward pass, which is left there."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0])
        raise _EnoughSeenError

    hook = module.register_forward_pre_hook(keep)
    try:
        with suppress(_EnoughSeenError):
            forward()
    finally:
        hook.remove()
    return seen[0]


def inputs_of(modules: Sequence[nn.Module], forward: Callable[[], _Output]) -> tuple[_Output, list[Tensor]]:
    """Return what a forward pass returns, and what each module reads in it as its first positional argument."""
    seen: dict[int, Tensor] = {}

    def keep(place: int, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen[place] = inputs[0]

    with ExitStack() as hooks:
        for place, module in enumerate(modules):
            hooks.callback(module.register_forward_pre_hook(partial(keep, place)).remove)
        output = forward()
    return output, [seen[place] for place in range(len(modules))]


def outputs_of(
    modules: Sequence[nn.Module], forward: Callable[[], _Output], *, rows: int
) -> tuple[_Output, list[Float[Tensor, "rows tokens d_model"]]]:
    """Return what a forward pass over some rows returns, and what each module writes in it."""
    seen: dict[int, Tensor] = {}

    def keep(place: int, written: Tensor) -> Tensor:
        return seen.setdefault(place, written)

    with rewritten([(module, partial(keep, place)) for place, module in enumerate(modules)], rows=rows):
        output = forward()
    return output, [seen[place] for place in range(len(modules))]


@contextmanager
def rewritten(changes: Sequence[tuple[nn.Module, Callable[[Tensor], Tensor]]], *, rows: int) -> Generator[None]:
    """Put what a function makes of it in the place of what a module writes, while the context is open.

    Args:
        changes: modules, each with a function from and to (rows, tokens, d_model); several changes of one module follow
            each other.
        rows: of the batches that run meanwhile.
    """

    def changed(change: Callable[[Tensor], Tensor], written: Tensor) -> Tensor:
        return change(_by_rows(written, rows)).view_as(written)

    def rewrite(change: Callable[[Tensor], Tensor], _: nn.Module, __: tuple[Any, ...], output: Any) -> Any:  # noqa: ANN401 - a tensor, or a tuple that starts with one
        if isinstance(output, tuple):
            first, *rest = cast(tuple[Any, ...], output)
            return changed(change, first), *rest
        return changed(change, output)

    with ExitStack() as hooks:
        for module, change in changes:
            hooks.callback(module.register_forward_hook(cast(Any, partial(rewrite, change))).remove)
        yield


def _by_rows(states: Tensor, rows: int) -> Float[Tensor, "rows tokens dimensions"]:
    return states if states.dim() == 3 else cast(Tensor, states.unflatten(0, (rows, -1)))
