"""Trials: the prompts that fail a gate, asked once more of a patch from which some subjects are left out.

The patch is not solved anew but reduced (editors/leverage.py), and nothing but those prompts is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.leverage import SolvedSite
from editors.patch import Patch, applied, smaller
from editors.scoring import Probe, ProbeScore, perplexity, score
from tasks.evaluate import compared
from tasks.harm import Harm, Trial
from tasks.report import Answer, Said


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A base, the solve of a batch on it, and the prompts that fail.

    Attributes:
        model: the base.
        tokenizer: its own.
        base: the digest of its weights.
        sites: the solve of all subjects, sorted.
        subjects: their names, sorted.
        harm: which prompts fail.
        probes: these prompts, in the order of their places.
        unedited: what the base makes of them.
        held_text: token rows for perplexity.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    base: str
    sites: Mapping[str, SolvedSite]
    subjects: Sequence[str]
    harm: Harm
    probes: Sequence[Probe]
    unedited: Sequence[ProbeScore]
    held_text: Sequence[Sequence[int]]

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        *,
        base: str,
        sites: Mapping[str, SolvedSite],
        subjects: Sequence[str],
        harm: Harm,
        priors: Mapping[str, str | None],
        held_text: Sequence[Sequence[int]],
    ) -> Bench:
        """Ask the base, which each trial is compared with."""
        probes = [_probe(harm.report.answers[place], priors) for place in harm.places]
        return cls(
            model=model,
            tokenizer=tokenizer,
            base=base,
            sites=sites,
            subjects=subjects,
            harm=harm,
            probes=probes,
            unedited=score(model, tokenizer, probes),
            held_text=held_text,
        )

    def without(self, subjects: Collection[str], *, corrections: Collection[str]) -> Trial:
        """Make one trial.

        Args:
            subjects: to leave out.
            corrections: the facts about them.
        """
        with applied(self.model, self._patch(subjects), base=self.base):
            scores = score(self.model, self.tokenizer, self.probes)
            text = perplexity(self.model, self.held_text).value if self.harm.over_text else None
        found = zip(self.harm.places, compared(self.model, self.unedited, scores), strict=True)
        answers = {place: self._marked(place, now) for place, now in found}
        return Trial(without=frozenset(corrections), said=answers, text={} if text is None else self._over_text(text))

    def _marked(self, place: int, now: Said) -> Said:
        """What is said now; a mark that no trial asks for stays as it was, so that it is not taken for mended."""
        marks = {name: value for name, value in now if value is not None}
        return self.harm.report.answers[place].after.model_copy(update=marks)

    def _patch(self, without: Collection[str]) -> Patch:
        places = [place for place, subject in enumerate(self.subjects) if subject in without]
        reduced = {site: solved.delta(without=places) for site, solved in self.sites.items()}
        return Patch(base=self.base, deltas={site: smaller(delta.left, delta.right) for site, delta in reduced.items()})

    def _over_text(self, value: float) -> dict[str, float]:
        before = self.harm.report.metrics["regression.perplexity"].before
        return {"regression.perplexity": value} | ({"regression.perplexity_ratio": value / before} if before else {})


def _probe(answer: Answer, priors: Mapping[str, str | None]) -> Probe:
    prior = None if answer.kind == "specificity" else priors.get(answer.correction)
    return Probe(fact=answer.correction, kind=answer.kind, prompt=answer.prompt, target=answer.target, prior=prior)
