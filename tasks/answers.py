"""Answers: whether what was written into a review's form is a reviewer's decision; judged once.

The code is held against the time at which the run began to resume, since a runner may pick it up much later. What comes
of it is one transaction of the ledger: the answer, the code that is burnt, and the receipt. A flow that starts again
from the top finds the answer there and judges nothing twice.

Everything in the form is data, also where Prefect's server rendered it from a template that somebody sent in its place:
it is held against the same limits, kept as it is, and never rendered again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from editors.errors import UntrustedError
from governance.identities import Identity, normalised
from governance.lifecycle import Event
from governance.receipts import Decision
from tasks.codes import GUESS, owner_of
from tasks.decisions import counting, course_of
from tasks.errors import IdentityError, RefusedAnswerError, WrongCodeError
from tasks.ledger import Ledger
from tasks.people import identities
from tasks.receipts import give_receipt
from tasks.retries import WHILE_AWAY
from tasks.reviews import resumed_at
from tasks.settings import Settings
from tasks.strike import with_struck
from tasks.texts import FORBIDDEN

ACTOR = "review"
LOCK = "answers"
SEPARATORS = re.compile(r"[\s,;]+")


class Form(BaseModel):
    """What somebody wrote into the form."""

    model_config = ConfigDict(frozen=True)

    decision: Decision
    reviewer: str
    code: str = ""
    strike: str = ""
    comment: str = ""

    @property
    def struck(self) -> tuple[str, ...]:
        """The ids to strike, each once."""
        return tuple(dict.fromkeys(id for id in SEPARATORS.split(self.strike) if id))


class Pause(BaseModel):
    """Where an answer was given: at which stop of which run for which candidate, and when by the server's clock."""

    model_config = ConfigDict(frozen=True)

    candidate: str
    run: str
    attempt: int
    resumed: datetime | None

    @property
    def key(self) -> str:
        """Under which the ledger keeps what came of it."""
        return f"{self.run}:{self.attempt}"


class Judgement(BaseModel):
    """What came of an answer."""

    model_config = ConfigDict(frozen=True)

    accepted: bool
    reason: str = ""


def judge(form: Form | None, pause: Pause, *, ledger: Ledger, settings: Settings) -> Judgement:
    """Judge an answer and record what comes of it; a second call finds the first one's."""
    with ledger.named_lock(LOCK):
        if not ledger.standings("answer", keys=[pause.key]):
            ledger.append(_outcome(form, pause, ledger=ledger, settings=settings))
        recorded = ledger.standing("answer", pause.key)
    return Judgement(accepted=recorded.state == "accepted", reason=recorded.reason)


def decision_in(form: Form, *, new: Sequence[str]) -> Decision:
    """What is decided in a form, as far as it can be told without looking at the code.

    Raises:
        RefusedAnswerError: it can't be; the message says why.
    """
    if not normalised(form.reviewer):
        raise RefusedAnswerError("the reviewer's name was blank")
    if FORBIDDEN.search(" ".join(f"{form.reviewer} {form.strike} {form.comment}".split())):
        raise RefusedAnswerError("the answer holds a control or invisible character")
    return with_struck(form.decision, form.struck, new=new)


def _outcome(form: Form | None, pause: Pause, *, ledger: Ledger, settings: Settings) -> list[Event]:
    """The events that record what came of an answer: all of them or none."""
    data: dict[str, str] = {"candidate": pause.candidate}
    burnt: list[Event] = []
    try:
        if form is None or pause.resumed is None:
            raise RefusedAnswerError("the run was continued without an answer")
        decision = decision_in(form, new=ledger.standing("candidate", pause.candidate).content["new"])
        data |= {"reviewer": form.reviewer.strip(), "method": "totp" if form.code.strip() else "key"}
        if data["method"] == "key":
            _check_signed(form, pause.candidate, ledger=ledger, settings=settings)
            return [_event(pause, "accepted", data)]
        everyone = identities(ledger, settings)
        reviewer, burns = owner_of(
            form.code.replace(" ", ""),
            name=form.reviewer,
            at=pause.resumed,
            identities=everyone,
            ledger=ledger,
            settings=settings,
        )
        burnt.append(burns)
        receipt = _receipt(form, decision, pause.candidate, reviewer, ledger=ledger, settings=settings)
        return [_event(pause, "accepted", data), *burnt, receipt]
    except WrongCodeError as error:
        return [_event(pause, "refused", data | {GUESS: normalised(data["reviewer"])}, reason=str(error))]
    except (RefusedAnswerError, IdentityError) as error:
        return [_event(pause, "refused", data, reason=str(error)), *burnt]


def _check_signed(form: Form, candidate: str, *, ledger: Ledger, settings: Settings) -> None:
    """Refuse an answer without a code, unless its reviewer signed the decision with a key of their own.

    Raises:
        RefusedAnswerError: they didn't.
    """
    given = counting(candidate, ledger=ledger, settings=settings)
    if not any(r.method == "key" and normalised(r.reviewer) == normalised(form.reviewer) for r in given):
        raise RefusedAnswerError("no code was given")


def _receipt(
    form: Form, decision: Decision, candidate: str, reviewer: Identity, *, ledger: Ledger, settings: Settings
) -> Event:
    """The signed decision of a reviewer whose code was right.

    Raises:
        RefusedAnswerError: it would not count; the message says why.
    """
    approved = course_of(candidate, ledger=ledger, settings=settings).approved
    if decision == "approve" and reviewer.name in approved:
        raise RefusedAnswerError(f"{reviewer.name} approves already; another reviewer is asked")
    try:
        return give_receipt(
            candidate,
            reviewer=reviewer.name,
            method="totp",
            decision=decision,
            comment=" ".join(form.comment.split()),
            struck=form.struck,
            ledger=ledger,
            settings=settings,
        )
    except UntrustedError as error:
        raise RefusedAnswerError(str(error)) from error


def _event(pause: Pause, kind: Literal["accepted", "refused"], data: Mapping[str, str], *, reason: str = "") -> Event:
    return Event(entity="answer", key=pause.key, kind=kind, actor=ACTOR, reason=reason, data=data)


@task(name="judge", cache_policy=NO_CACHE, **WHILE_AWAY)
def judge_task(form: Form | None, candidate: str, run: str, attempt: int) -> Judgement:
    """Judge what was written into the form at one stop of a run."""
    settings = Settings()
    pause = Pause(candidate=candidate, run=run, attempt=attempt, resumed=resumed_at(UUID(run)))
    return judge(form, pause, ledger=Ledger(settings.database_url), settings=settings)
