"""Trials: the prompts that fail a gate, asked once more of a patch from which some subjects are left out.

The patch is not solved anew but reduced (editors/leverage.py), and nothing but those prompts is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.expectation import divergence
from editors.leverage import SolvedSite
from editors.patch import Patch, applied, smaller
from editors.scoring import Probe, Weighed, perplexity, says_targets, weigh
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
        priors: by correction, where one was given.
        unedited: what the base expects behind those of them that are neighbours, by their places.
        held_text: token rows for perplexity.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    base: str
    sites: Mapping[str, SolvedSite]
    subjects: Sequence[str]
    harm: Harm
    priors: Mapping[str, str | None]
    unedited: Mapping[int, Weighed]
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
        """Ask the base about the neighbours, which each trial is compared with."""
        answers = harm.report.answers
        neighbours = [place for place in harm.places if answers[place].kind == "specificity"]
        unedited = weigh(model, tokenizer, [_probe(answers[place], priors) for place in neighbours])
        return cls(
            model=model,
            tokenizer=tokenizer,
            base=base,
            sites=sites,
            subjects=subjects,
            harm=harm,
            priors=priors,
            unedited=dict(zip(neighbours, unedited, strict=True)),
            held_text=held_text,
        )

    def without(self, subjects: Collection[str], *, corrections: Collection[str]) -> Trial:
        """Make one trial.

        Args:
            subjects: to leave out.
            corrections: the facts about them.
        """
        with applied(self.model, self._patch(subjects), base=self.base):
            said = self._said()
            text = perplexity(self.model, self.held_text).value if self.harm.over_text else None
        return Trial(without=frozenset(corrections), said=said, text={} if text is None else self._over_text(text))

    def _patch(self, without: Collection[str]) -> Patch:
        places = [place for place, subject in enumerate(self.subjects) if subject in without]
        reduced = {site: solved.delta(without=places) for site, solved in self.sites.items()}
        return Patch(base=self.base, deltas={site: smaller(delta.left, delta.right) for site, delta in reduced.items()})

    def _said(self) -> dict[int, Said]:
        """What the model that is held answers to the prompts that fail."""
        places = self.harm.places
        answers = [self.harm.report.answers[place] for place in places]
        weighed = weigh(self.model, self.tokenizer, [_probe(answer, self.priors) for answer in answers])
        says = says_targets(self.model, self.tokenizer, weighed)
        return {
            place: self._neighbour(place, now, said) if place in self.unedited else _own(answer, now, said)
            for place, answer, now, said in zip(places, answers, weighed, says, strict=True)
        }

    def _neighbour(self, place: int, now: Weighed, said: bool) -> Said:
        answer, was = self.harm.report.answers[place], self.unedited[place]
        moved = divergence(self.model, was.state[None], now.state[None])
        return answer.after.model_copy(
            update={
                "generation": said if answer.target else None,
                "argmax": was.following == now.following,
                "kl": float(moved[0]),
            }
        )

    def _over_text(self, value: float) -> dict[str, float]:
        before = self.harm.report.metrics["regression.perplexity"].before
        return {"regression.perplexity": value} | ({"regression.perplexity_ratio": value / before} if before else {})


def _own(answer: Answer, now: Weighed, said: bool) -> Said:
    marks = {"generation": said, "argmax": now.argmax, "logprob": now.prefers_target}
    return answer.after.model_copy(update=marks)


def _probe(answer: Answer, priors: Mapping[str, str | None]) -> Probe:
    prior = None if answer.kind == "specificity" else priors.get(answer.correction)
    return Probe(fact=answer.correction, kind=answer.kind, prompt=answer.prompt, target=answer.target, prior=prior)
