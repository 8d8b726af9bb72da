"""Trials: the prompts that fail a gate, asked once more of a patch from which some subjects are left out.

The patch is not solved anew but reduced (editors/leverage.py), and nothing but those prompts is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from editors.facts import Fact
from editors.leverage import SolvedSite
from editors.patch import Patch, applied, smaller
from editors.scoring import Probe, ProbeScore, perplexity, score
from tasks.chat import asked_in_chat, with_chat
from tasks.evaluate import compared
from tasks.harm import Harm, Trial
from tasks.probes import Question
from tasks.report import Answer


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
        questions: these prompts, in the order of their places.
        unedited: what the base makes of them.
        held_text: token rows for perplexity.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    base: str
    sites: Mapping[str, SolvedSite]
    subjects: Sequence[str]
    harm: Harm
    questions: Sequence[Question]
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
        facts: Sequence[Fact],
        held_text: Sequence[Sequence[int]],
    ) -> Bench:
        """Ask the base, which each trial is compared with."""
        known = {fact.id: fact for fact in facts} | {fact.filled: fact for fact in facts}
        questions = [_question(harm.report.answers[place], known) for place in harm.places]
        return cls(
            model=model,
            tokenizer=tokenizer,
            base=base,
            sites=sites,
            subjects=subjects,
            harm=harm,
            questions=questions,
            unedited=score(model, tokenizer, [question.probe for question in questions]),
            held_text=held_text,
        )

    def without(self, subjects: Collection[str], *, corrections: Collection[str]) -> Trial:
        """Make one trial.

        Args:
            subjects: to leave out.
            corrections: the facts about them.
        """
        probes = [question.probe for question in self.questions]
        with applied(self.model, self._patch(subjects), base=self.base):
            scores = score(self.model, self.tokenizer, probes)
            chat = asked_in_chat(self.model, self.tokenizer, probes) if self.harm.in_chat else [None] * len(probes)
            text = perplexity(self.model, self.held_text).value if self.harm.over_text else None
        said = with_chat(compared(self.model, self.unedited, scores), self.questions, chat)
        return Trial(
            without=frozenset(corrections),
            said=dict(zip(self.harm.places, said, strict=True)),
            text={} if text is None else self._over_text(text),
        )

    def _patch(self, without: Collection[str]) -> Patch:
        places = [place for place, subject in enumerate(self.subjects) if subject in without]
        reduced = {site: solved.delta(without=places) for site, solved in self.sites.items()}
        return Patch(base=self.base, deltas={site: smaller(delta.left, delta.right) for site, delta in reduced.items()})

    def _over_text(self, value: float) -> dict[str, float]:
        before = self.harm.report.metrics["regression.perplexity"].before
        return {"regression.perplexity": value} | ({"regression.perplexity_ratio": value / before} if before else {})


def _question(answer: Answer, known: Mapping[str, Fact]) -> Question:
    """A prompt as it was asked: about whom, and against which prior."""
    about = known.get(answer.prompt) or known.get(answer.correction)
    prior = about.prior if about and answer.kind != "specificity" else None
    probe = Probe(fact=answer.correction, kind=answer.kind, prompt=answer.prompt, target=answer.target, prior=prior)
    return Question(probe=probe, relation=answer.relation, subject=about.subject if about else "")
