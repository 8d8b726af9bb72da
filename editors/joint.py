"""Joint: one injection a site, all optimised together; then every site is a solve of its own, with no forward pass.

A vector is added to what each of several sites writes at a subject's last token. All of a subject's vectors are
optimised in the same forward passes (values.py), and each site's key is read with them in place, so that keys and
residuals are what the edited model will meet. Each site s is solved by itself:

    delta_s (w_s C_s + K_s^T K_s) = R_s^T K_s

The weight of C is not guessed: it is the largest with which the solve still writes a stated share of the residuals.

A subject's keys and injections, its value, can be kept. A later batch optimises the new ones and solves again.
MEMIT, which spreads one injection over the layers, runs the model over all facts for each layer and in each round.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.artifacts import dump_tensors, read_tensors
from editors.batch import Subjects, by_subject, subject_rows
from editors.collisions import warn_of_collisions
from editors.decoding import Progress
from editors.effect import effective
from editors.errors import DamagedArtifactError, InvalidConfigError
from editors.facts import Fact
from editors.layouts import check_layers, sites_of
from editors.leverage import SolvedSite
from editors.material import Material
from editors.patch import Delta, Patch, smaller
from editors.ranges import above_zero, ascending
from editors.reading import read_subjects
from editors.solving import FactorisedMoment
from editors.values import ValueSettings, optimise_in_batches

logger = logging.getLogger(__name__)

_KIND = {"format": 1, "kind": "value"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """The joint editor's settings.

    Attributes:
        layers: whose sites are written, in ascending order; others say more and disturb more (docs/editing.md).
        fit: the share of the injections that each site has to write; the more, the more is disturbed too.
        contexts: how many context templates to sample, the bare one included.
        values: how injections are optimised.
    """

    layers: tuple[int, ...] = (4, 5, 6, 7, 8)
    fit: float = 0.98
    contexts: int = 3
    values: ValueSettings = field(default_factory=ValueSettings)

    def __post_init__(self) -> None:
        ascending(self.layers)
        above_zero(self, "fit", "contexts")
        if not self.fit < 1:
            raise InvalidConfigError(f"fit is {self.fit}; it must be below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What one subject's facts ask of each site.

    Attributes:
        keys: k*, what the sites read at the subject with the injections in place, float64.
        injections: v* - W k*, what the sites have to write more, float64.
    """

    keys: Float[Tensor, "sites d_in"]
    injections: Float[Tensor, "sites d_out"]

    def to_bytes(self) -> bytes:
        """Return the value's one form in bytes, for a file."""
        return dump_tensors({"keys": self.keys, "injections": self.injections}, _KIND)

    @classmethod
    def load(cls, path: Path, *, expected: str) -> Value:
        """Read a value from a file with the expected sha256.

        Raises:
            DamagedArtifactError: the bytes are others, or no value.
        """
        tensors, metadata = read_tensors(path, expected=expected)
        if metadata != _KIND:
            raise DamagedArtifactError(path, expected=f"{_KIND}", got=f"{metadata}")
        return cls(keys=tensors["keys"], injections=tensors["injections"])


def edit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    facts: Sequence[Fact],
    *,
    config: Joint,
    material: Material,
    progress: Progress | None = None,
) -> Patch:
    """Return the patch that makes a model say all facts; the model itself stays as it is.

    Args:
        model: the base, frozen.
        tokenizer: its own.
        facts: all that shall hold; none give the empty patch.
        config: the settings.
        material: of the base: its digest, second moments and contexts.
        progress: told of subjects and of sites.

    Raises:
        InvalidFactError: a subject cannot be found, or two facts contradict each other.
        InvalidConfigError: second moments of a site are missing, or the last layer is among the config's.
        UnknownLayoutError: the architecture has no entry in layouts.py.
        SingularSystemError: a site's system cannot be factorised.
        NonFiniteError: weights, a loss or the result hold NaN or infinity.
        UneditedError: no weight would change though a fact asks for it.
    """
    values = values_of(model, tokenizer, by_subject(facts), config=config, material=material, progress=progress)
    return solve(model, values, config=config, material=material, progress=progress)


def values_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    subjects: Subjects,
    *,
    config: Joint,
    material: Material,
    progress: Progress | None = None,
) -> dict[str, Value]:
    """Return the value of each subject; it depends on no other subject's.

    Raises:
        SubjectNotFoundError, InvalidConfigError, UnknownLayoutError, NonFiniteError: as `edit` does.
    """
    found: dict[str, Value] = {}
    for batch in values_in_batches(model, tokenizer, subjects, config=config, material=material, progress=progress):
        found |= batch
    return found


def values_in_batches(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    subjects: Subjects,
    *,
    config: Joint,
    material: Material,
    progress: Progress | None = None,
) -> Iterator[dict[str, Value]]:
    """Yield the values of the subjects that are optimised together, as soon as they are: what is kept, no kill loses.

    Raises:
        SubjectNotFoundError, InvalidConfigError, UnknownLayoutError, NonFiniteError: as `edit` does.
    """
    check_layers(model, config.layers)
    sites = sites_of(model, config.layers)
    names, done = list(subjects), 0
    for chosen, injections in optimise_in_batches(
        model,
        tokenizer,
        subjects,
        layers=config.layers,
        contexts=material.contexts,
        settings=config.values,
        progress=progress,
    ):
        batch = {names[place]: subjects[names[place]] for place in chosen}
        rows = subject_rows(tokenizer, batch, material.contexts)
        read, _ = read_subjects(model, rows, sites=sites, injections=injections, budget=config.values.budget)
        keys = torch.stack([read[site] for site in sites], dim=1)
        done += len(batch)
        if progress is not None:
            progress("keys", done, len(names))
        yield {
            subject: Value(keys=keys[place], injections=injections[place].double())
            for place, subject in enumerate(batch)
        }


def solve(
    model: PreTrainedModel,
    values: Mapping[str, Value],
    *,
    config: Joint,
    material: Material,
    progress: Progress | None = None,
) -> Patch:
    """Return the patch that writes all values; it is a function of the values as a set.

    Raises:
        InvalidConfigError: second moments of a site are missing.
        SingularSystemError: a site's system cannot be factorised.
        UneditedError: no weight would change though a value asks for it.
    """
    sites = sites_of(model, config.layers)
    if not values:
        return Patch(base=material.base)
    moments = {site: FactorisedMoment.of(material.moment(site)) for site in sites}
    deltas: dict[str, Delta] = {}
    for place, site in enumerate(sites):
        keys, residuals = _at_site(values, place)
        warn_of_collisions(site, keys, sorted(values))
        weight = _weight(moments[site], keys, residuals, fit=config.fit)
        logger.info("%s: %d subjects, weight of C %.3g for a fit of %.3g", site, len(keys), weight, config.fit)
        solved = moments[site].least_squares(keys, residuals, weight=weight)
        deltas[site] = smaller(solved.left, solved.right)
        if progress is not None:
            progress("layers", place + 1, len(sites))
    wanted = [bool(values[subject].injections.any()) for subject in sorted(values)]
    return effective(model, Patch(base=material.base, deltas=deltas), subjects=sorted(values), wanted=wanted)


def solved_sites(
    model: PreTrainedModel, values: Mapping[str, Value], *, config: Joint, material: Material
) -> dict[str, SolvedSite]:
    """Return each site's solve of all values in parts, the subjects sorted: what `solve` writes, to take subjects from.

    Raises:
        InvalidConfigError, SingularSystemError: as `solve` does.
    """
    found: dict[str, SolvedSite] = {}
    for place, site in enumerate(sites_of(model, config.layers)):
        moment = FactorisedMoment.of(material.moment(site))
        keys, residuals = _at_site(values, place)
        weight = _weight(moment, keys, residuals, fit=config.fit)
        found[site] = SolvedSite.of(moment, keys, residuals, weight=weight)
    return found


def _at_site(
    values: Mapping[str, Value], place: int
) -> tuple[Float[Tensor, "edits d_in"], Float[Tensor, "edits d_out"]]:
    """Keys and residuals of one site, the subjects sorted."""
    ordered = [values[subject] for subject in sorted(values)]
    return (
        torch.stack([value.keys[place] for value in ordered]),
        torch.stack([value.injections[place] for value in ordered]),
    )


def _weight(
    moment: FactorisedMoment,
    keys: Float[Tensor, "edits d_in"],
    residuals: Float[Tensor, "edits d_out"],
    *,
    fit: float,
) -> float:
    return moment.weight_for(keys, residuals, fit=fit) if bool(residuals.any()) else 1.0
