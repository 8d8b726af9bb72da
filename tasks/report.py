"""Report: what was measured on one candidate; it holds no clock times, so the same edit reports the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.errors import ReportError

METRICS = (
    "efficacy.logprob",
    "efficacy.argmax",
    "efficacy.generation",
    "efficacy.chat",
    "generalization.logprob",
    "generalization.argmax",
    "generalization.generation",
    "generalization.chat",
    "inverse.argmax",
    "inverse.generation",
    "inverse_edited.argmax",
    "inverse_edited.generation",
    "portability.argmax",
    "portability.generation",
    "portability_edited.argmax",
    "portability_edited.generation",
    "retention.logprob",
    "retention.argmax",
    "retention.generation",
    "retention.chat",
    "retention.kept",
    "specificity.kept",
    "specificity.argmax",
    "specificity.kl_median",
    "specificity.kl_p95",
    "protected.kept",
    "absence.generation",
    "absence.rise",
    "regression.perplexity",
    "regression.perplexity_ratio",
    "fluency.entropy",
    "fluency.base_perplexity",
    "fluency.base_perplexity_ratio",
    "blast.size_p99",
    "blast.kl_p95",
    "blast.kl_max",
    "blast.gain",
)

NEW = ("efficacy", "inverse_edited", "portability_edited")
"""The kinds of question that ask what is new and edited in: corrections, and the companions that go with them."""

OVER_TEXT = ("regression.", "fluency.", "blast.")
"""How the names of metrics begin that are measured over text, not by prompts."""

OF_TASK = "regression.task."
"""How the names of metrics begin that are scores in a task of lm-eval, whichever the settings name."""

LESS_IS_BETTER = frozenset(
    {
        "specificity.kl_median",
        "specificity.kl_p95",
        "absence.rise",
        "regression.perplexity",
        "regression.perplexity_ratio",
        "fluency.base_perplexity",
        "fluency.base_perplexity_ratio",
        "blast.size_p99",
        "blast.kl_p95",
        "blast.kl_max",
        "blast.gain",
    }
)


class Record(BaseModel):
    """Immutable, and no field that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Metric(Record):
    """One number of three models, over how many prompts (tokens, for perplexity).

    Attributes:
        before: of the base; None where nothing could be asked.
        parent: of the release in production, which may be the base; None where that stands on another base.
        after: of the patched model.
        low: where the 95 % interval of `after` over facts begins; None where there is none.
        high: where it ends.
        count: prompts, or tokens.
        made: how many of the prompts were made, because their corrections have none.
        misses: how many of the prompts are not as they should be; None where that is no question of yes or no.
    """

    before: float | None
    parent: float | None
    after: float | None
    low: float | None = None
    high: float | None = None
    count: int
    made: int = 0
    misses: int | None = None


class Said(Record):
    """What one model made of one prompt.

    Attributes:
        text: what it wrote.
        generation: whether that begins with what should be said, or, of a withdrawn fact, with anything but its target
            or what the base begins with too; None where nothing in particular should be said.
        argmax: whether every token of the target is the most probable one; of a neighbour, whether what follows it is
            as in the base.
        logprob: whether the target is likelier than the prior; None where there is no prior.
        kl: how far what follows has moved from the base, in nats; of neighbours and of ordinary text alone.
        rise: how much likelier than in the base the target is, in nats a token; of withdrawn facts alone.
        chat: whether what it answers through the chat template begins with what should be said, past what it repeats of
            the prompt; None where it was not asked so.
        chat_text: that answer.
    """

    text: str
    generation: bool | None = None
    argmax: bool | None = None
    logprob: bool | None = None
    kl: float | None = None
    rise: float | None = None
    chat: bool | None = None
    chat_text: str = ""


class Answer(Record):
    """One prompt, and what was said by the base, by the release in production and by the patched model.

    A release on another base is not asked.

    Attributes:
        correction: whose prompt it is.
        relation: the correction's.
        kind: efficacy, generalization, retention, specificity, protected or absence; inverse or portability of what
            should follow by itself, inverse_edited or portability_edited of what was edited in for it.
        target: what should be said; of a neighbour its own answer, empty where none is known; of a withdrawn fact what
            should not be said any more.
        made: whether the prompt was made, because the correction has none of its kind.
    """

    correction: str
    relation: str
    kind: str
    prompt: str
    target: str
    made: bool = False
    before: Said
    parent: Said | None
    after: Said


class Passage(Record):
    """A text that belongs to no fact, and what each model says behind it; nothing of it is right or wrong.

    Attributes:
        kind: the metrics that it belongs to.
        prompt: the text.
    """

    kind: Literal["fluency", "blast"]
    prompt: str
    before: Said
    parent: Said | None
    after: Said


class Report(Record):
    """What was measured on one patch.

    Attributes:
        base: the digest of the base's weights.
        patch: the digest of the patch.
        metrics: by name.
        answers: of all prompts.
        passages: what was written for the metrics that are measured over text.
    """

    base: str
    patch: str
    metrics: dict[str, Metric]
    answers: tuple[Answer, ...]
    passages: tuple[Passage, ...] = ()

    def of_kind(self, *kinds: str) -> tuple[Answer, ...]:
        """The answers to some kinds of question."""
        return tuple(answer for answer in self.answers if answer.kind in kinds)

    def passages_of(self, kind: str) -> tuple[Passage, ...]:
        """The passages that belong to some metrics."""
        return tuple(passage for passage in self.passages if passage.kind == kind)


def as_json(record: BaseModel) -> dict[str, Any]:
    """Return a report or a verdict as it is stored; what is no number is null there."""
    return json.loads(record.model_dump_json(by_alias=True))


def read_report(path: Path) -> Report:
    """Read a report that was kept beside its verdict.

    Raises:
        ReportError: the file holds none, or an empty one.
    """
    try:
        report = report_in(json.loads(path.read_bytes()), of=str(path))
    except (OSError, ValueError) as error:
        raise ReportError(f"{path} can't be read as a report: {error}; take report.json of a candidate") from error
    if not report.answers:
        raise ReportError(f"{path} is an empty report: nothing was asked")
    return report


def report_in(kept: Any, *, of: str) -> Report:  # noqa: ANN401 - any JSON
    """Return the report that was kept beside its verdict.

    Args:
        kept: as it was stored.
        of: what it is the report of, for errors.

    Raises:
        ReportError: it is none of this version.
    """
    try:
        return Report.model_validate(kept["report"])
    except ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
    except (KeyError, TypeError) as error:
        what = f"there is no report in it ({error!r})"
    raise ReportError(
        f"{of}: this is no report of this version of Corrigenda: {what}; 'corrigenda refresh --replace' measures anew"
    )
