"""Spreading: what is missing at the last layer of a range is written from its first layer on, a share a layer.

Keys and what is still missing are read again after each layer, with the earlier deltas in place. The model is given
back as it was, bit for bit.

The hidden state after the last layer is h = a + N(z): what arrives there, and the last site's output z behind its norm
N, which is the identity in most architectures (outputnorms.py). It shall become what it is with the injection held at
that site, a + N(v*). Once earlier layers have moved a to a', the last site has to write x with N(x) = N(v*) - (a' - a):

    missing = v* - z' - before(a' - a)

which without a norm is the injection less the change of h. The last layer is given all that is missing there; so one
layer alone makes the site's output v*, on every architecture. An earlier layer is given a share of what that is worth
in the stream, taken through its own norm.

Source: Meng et al. 2023 (MEMIT), algorithm 1, arXiv:2210.07229, for architectures without such norms.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.batch import by_subject, subject_rows
from editors.collisions import warn_of_collisions
from editors.decoding import Progress
from editors.effect import effective
from editors.facts import Fact
from editors.layouts import output_norm_of, read_weight, site_module, sites_of, write_weight
from editors.material import Material
from editors.outputnorms import before, behind
from editors.patch import Delta, LowRank, Patch, added, restored, smaller
from editors.reading import read_subjects
from editors.tokens import Row
from editors.values import ValueSettings, optimise_injections

logger = logging.getLogger(__name__)

Solve = Callable[[str, Float[Tensor, "edits d_in"], Float[Tensor, "edits d_out"]], LowRank]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """What is read at the subjects while some layers are edited.

    Attributes:
        keys: of the site that is next.
        output: of that site.
        last: the last site's output z.
        arriving: the hidden state after the last layer without what its site adds, a.
    """

    keys: Float[Tensor, "edits d_in"]
    output: Float[Tensor, "edits d_out"]
    last: Float[Tensor, "edits d_out"]
    arriving: Float[Tensor, "edits d_model"]


def spread_values(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    facts: Sequence[Fact],
    *,
    layers: Sequence[int],
    values: ValueSettings,
    material: Material,
    solve: Solve,
    progress: Progress | None = None,
) -> Patch:
    """Return the patch that spreads each subject's value, optimised at the last layer; no facts give the empty one.

    Args:
        model: the base.
        tokenizer: its own.
        facts: all that shall hold.
        layers: in ascending order.
        values: how to optimise.
        material: of the base.
        solve: from a site, its keys and its residuals to a delta.
        progress: told of subjects and of layers.

    Raises:
        InvalidFactError: a subject cannot be found, or two facts contradict each other.
        NonFiniteError: a loss or the result holds NaN or infinity.
        UneditedError: no weight would change though a fact asks for it.
    """
    subjects = by_subject(facts)
    if not subjects:
        return Patch(base=material.base)
    injections = optimise_injections(
        model,
        tokenizer,
        subjects,
        layers=layers[-1:],
        contexts=material.contexts,
        settings=values,
        progress=progress,
    )

    def watched(site: str, keys: Float[Tensor, "edits d_in"], residuals: Float[Tensor, "edits d_out"]) -> LowRank:
        warn_of_collisions(site, keys, subjects)
        return solve(site, keys, residuals)

    rows, wanted = subject_rows(tokenizer, subjects, material.contexts), injections[:, 0].double()
    deltas = spread(model, rows, wanted, layers=layers, solve=watched, budget=values.budget, progress=progress)
    asks = [bool(injection.any()) for injection in injections]
    return effective(model, Patch(base=material.base, deltas=deltas), subjects=subjects, wanted=asks)


@torch.no_grad()
def spread(
    model: PreTrainedModel,
    rows: Sequence[Sequence[Row]],
    injections: Float[Tensor, "edits d_out"],
    *,
    layers: Sequence[int],
    solve: Solve,
    budget: int,
    progress: Progress | None = None,
) -> dict[str, Delta]:
    """Return the delta of each layer's site.

    Args:
        model: the base.
        rows: of each edit, cut behind the subject.
        injections: v* - W k of each edit at the last layer's site.
        layers: in ascending order.
        solve: from a site, its keys and its residuals to a delta.
        budget: tokens in a forward pass, padding included.
        progress: told of the keys of each layer, and of layers.
    """
    sites = sites_of(model, layers)
    deltas: dict[str, Delta] = {}
    start: _Reading | None = None
    with restored(model, sites):
        for done, site in enumerate(sites):
            now = _read(model, rows, site=site, last=layers[-1], budget=budget)
            if progress is not None:
                progress("keys", done + 1, len(sites))
            start = now if start is None else start
            missing = _missing(model, start, now, injections, last=layers[-1])
            share = 1 / (len(sites) - done)
            residuals = missing if share == 1 else _converted(model, now, share, missing, layers[done], layers[-1])
            solved = solve(site, now.keys, residuals)
            deltas[site] = smaller(solved.left, solved.right)
            write_weight(model, site, added(read_weight(model, site), deltas[site]))
            part = float(torch.linalg.vector_norm(missing) / torch.linalg.vector_norm(injections).clamp(min=1e-12))
            logger.info("%s: %d edits, %.0f %% of the change was missing", site, len(injections), 100 * part)
            if progress is not None:
                progress("layers", done + 1, len(sites))
    return deltas


def _read(model: PreTrainedModel, rows: Sequence[Sequence[Row]], *, site: str, last: int, budget: int) -> _Reading:
    (last_site,) = sites_of(model, [last])
    keys, hidden = read_subjects(
        model, rows, sites=list(dict.fromkeys([site, last_site])), layers=[last], budget=budget
    )
    outputs = {name: _output(model, name, read) for name, read in keys.items()}
    return _Reading(
        keys=keys[site],
        output=outputs[site],
        last=outputs[last_site],
        arriving=hidden[last] - behind(output_norm_of(model, last), outputs[last_site]),
    )


def _output(model: PreTrainedModel, site: str, keys: Float[Tensor, "edits d_in"]) -> Float[Tensor, "edits d_out"]:
    return site_module(model, site)(keys.to(model.device, model.dtype)).double().cpu()


def _missing(
    model: PreTrainedModel, start: _Reading, now: _Reading, injections: Float[Tensor, "edits d_out"], *, last: int
) -> Float[Tensor, "edits d_out"]:
    """What the last site's output lacks of v*, less what earlier layers have brought in its stead."""
    value = start.last + injections
    brought = before(output_norm_of(model, last), now.arriving - start.arriving, at=value)
    return value - now.last - brought


def _converted(
    model: PreTrainedModel, now: _Reading, share: float, missing: Float[Tensor, "edits d_out"], layer: int, last: int
) -> Float[Tensor, "edits d_out"]:
    """What an earlier site's output has to change by, for a share of what is missing at the last one."""
    norm = output_norm_of(model, last)
    worth = behind(norm, now.last + missing) - behind(norm, now.last)
    return before(output_norm_of(model, layer), share * worth, at=now.output)
