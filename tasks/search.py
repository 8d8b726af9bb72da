"""Search: which few facts, left out, take the harm off the others; by trials, of which there is a budget.

Each suspect is left out alone, the most suspicious first, for at most half of the budget. Those that took harm off are
then left out together, the best first, as long as each takes more off on top of those before it. Where that is not
enough, groups are left out: the first two suspects, four, eight; and a group that helps is shrunk, half by half, to
what can't be spared (as in Zeller and Hildebrandt 2002, "Simplifying and isolating failure-inducing input").

In a large batch everyone takes part in the harm. Whoever is set aside has to take off several times a fair share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

FAIR_SHARES = 3
LEAST_SHARE = 0.1
"""Of the harm in one bound, however many suspects there are."""
GROUP_SHARE = 0.25
"""Of the suspects: the largest group that is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found.

    Attributes:
        culprits: suspects, those that take most harm off first.
        together: those of them that help as a group alone.
        trials: how many were made.
    """

    culprits: tuple[str, ...]
    together: tuple[str, ...] = ()
    trials: int = 0


def search(
    suspects: Sequence[str],
    *,
    gain: Callable[[frozenset[str]], float],
    passes: Callable[[frozenset[str]], bool],
    budget: int,
) -> Found:
    """Find the suspects that do the harm.

    Args:
        suspects: the most suspicious first.
        gain: the share of the harm that is gone without these; of several bounds, their sum.
        passes: whether nothing stands in the way any more without these.
        budget: trials, at most; asking what happens without nobody is none.
    """
    trials = _Trials(gain, passes, budget)
    needed = min(max(FAIR_SHARES / max(len(suspects), 1), LEAST_SHARE), 0.5)
    alone = {suspect: trials.gain({suspect}) for suspect in suspects[: -(-budget // 2)]}
    ranked = sorted(suspects, key=lambda suspect: -alone.get(suspect, 0.0))
    found, gone = list[str](), 0.0
    for suspect in ranked:
        if alone.get(suspect, 0.0) < needed:
            break
        more = trials.gain({*found, suspect})
        if more - gone >= needed:
            found, gone = [*found, suspect], more
    rest = [suspect for suspect in ranked if suspect not in found]
    together = () if trials.passes(set(found)) else _group(rest, found, trials)
    return Found(culprits=(*found, *together), together=together, trials=trials.made)


class _Trials:
    """Counts the trials, and makes none beyond the budget: what is not tried does not help."""

    def __init__(
        self, gain: Callable[[frozenset[str]], float], passes: Callable[[frozenset[str]], bool], budget: int
    ) -> None:
        self._gain = gain
        self._passes = passes
        self._budget = budget
        self._made: set[frozenset[str]] = set()

    @property
    def made(self) -> int:
        return len(self._made)

    def gain(self, suspects: set[str]) -> float:
        return self._gain(frozenset(suspects)) if self._may_try(frozenset(suspects)) else 0.0

    def passes(self, suspects: set[str]) -> bool:
        return self._may_try(frozenset(suspects)) and self._passes(frozenset(suspects))

    def _may_try(self, suspects: frozenset[str]) -> bool:
        if suspects and suspects not in self._made:
            if self.made >= self._budget:
                return False
            self._made.add(suspects)
        return True


def _group(ranked: Sequence[str], found: Sequence[str], trials: _Trials) -> tuple[str, ...]:
    """The smallest group at hand without which everything passes; none where no such group is small enough."""
    size = 2
    while size <= max(2, int(GROUP_SHARE * len(ranked))) and size <= len(ranked):
        if trials.passes({*found, *ranked[:size]}):
            return _shrunk(ranked[:size], found, trials)
        size *= 2
    return ()


def _shrunk(group: Sequence[str], found: Sequence[str], trials: _Trials) -> tuple[str, ...]:
    """What is left of a group when every part that can be spared is."""
    left, part = list(group), len(group) // 2
    while part:
        for first in range(0, len(left), part):
            rest = left[:first] + left[first + part :]
            if rest and trials.passes({*found, *rest}):
                left = rest
                break
        else:
            part //= 2
    return tuple(left)
