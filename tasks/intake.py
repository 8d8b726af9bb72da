"""Intake: submitted corrections are validated, and queued or refused, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prefect import get_run_logger, task
from pydantic import BaseModel, ConfigDict

from editors.digests import canonical_json
from editors.models import load_tokenizer
from governance.lifecycle import ACTOR, Event
from tasks.base import base_folder
from tasks.collect import corrections_by_state, corrections_in, events_for, protected_facts
from tasks.corrections import Correction
from tasks.ledger import Ledger
from tasks.retries import WHILE_AWAY
from tasks.settings import Settings
from tasks.store import Store
from tasks.validate import validate

LIVE = ("queued", "in candidate", "released")


class Intake(BaseModel):
    """What an intake decided.

    Attributes:
        queued: ids that passed.
        refused: ids that did not, and why.
        warned: what a reviewer should know of some, queued or refused.
        result: sha256 of Great Expectations' own result in the object store; empty where nothing was submitted.
        docs: the Data Docs' first page on the machine that ran the intake.
    """

    model_config = ConfigDict(frozen=True)

    queued: tuple[str, ...] = ()
    refused: dict[str, tuple[str, ...]] = {}
    warned: dict[str, tuple[str, ...]] = {}
    result: str = ""
    docs: Path | None = None


def take_in(settings: Settings, ledger: Ledger, store: Store) -> Intake:
    """Validate everything that stands as submitted, and record the outcome."""
    submitted = corrections_in(ledger, "submitted")
    if not submitted:
        return Intake()
    live = corrections_by_state(ledger, *LIVE)
    tokenizer = load_tokenizer(base_folder(settings, report=get_run_logger().info))
    active = [correction for corrections in live.values() for correction in corrections]
    validation = validate(
        submitted,
        active=active,
        protected=protected_facts(ledger),
        tokenizer=tokenizer,
        docs=settings.home / "data-docs",
    )
    refused = dict(validation.refusals) | _too_early(submitted, live)
    queued = [c for c in submitted if c.id not in refused]
    refusals = [
        Event(entity="correction", key=key, kind="refused", actor=ACTOR, reason="; ".join(reasons))
        for key, reasons in refused.items()
    ]
    result = store.put(canonical_json(validation.result)).sha256
    ledger.append([*events_for([c.id for c in queued], "queued", actor=ACTOR), *refusals])
    return Intake(
        queued=tuple(c.id for c in queued),
        refused=refused,
        warned=validation.warnings,
        result=result,
        docs=validation.docs_index,
    )


def _too_early(submitted: list[Correction], live: Mapping[str, list[Correction]]) -> dict[str, tuple[str, ...]]:
    """Only what is released can be superseded; what waits can still be cancelled."""
    waiting = {c.id: state for state in ("queued", "in candidate") for c in live[state]}
    return {
        c.id: (
            f"supersedes {c.supersedes!r}, which is only {waiting[c.supersedes]}; cancel it, or wait for its release",
        )
        for c in submitted
        if c.supersedes in waiting
    }


@task(name="validate", **WHILE_AWAY)
def intake_task() -> Intake:
    """Validate everything that stands as submitted."""
    settings = Settings()
    return take_in(settings, Ledger(settings.database_url), Store(settings))
