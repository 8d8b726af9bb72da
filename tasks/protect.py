"""Protect: facts that must never change, asked with every candidate, and that no correction may contradict.

They are written like corrections, with what is right as the target. A file is taken whole or not at all. A protector
signs for it, and for ending it, with their own key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from governance.acts import Act
from governance.lifecycle import Event
from tasks.asking import to_lift, to_protect
from tasks.collect import corrections_in, protected_facts
from tasks.conflicts import find_conflicts
from tasks.corrections import Correction
from tasks.errors import ProtectError
from tasks.ledger import Ledger
from tasks.parse import parse_file
from tasks.people import asker
from tasks.settings import Settings

LIVE = ("submitted", "queued", "quarantined", "in candidate", "released")


def protect(
    path: Path, *, act: Mapping[str, Any] | None, reason: str, ledger: Ledger, settings: Settings
) -> list[Correction]:
    """Protect every fact of a file; returns those that were not protected yet.

    Args:
        path: of the file.
        act: a protector's signature under `to_protect`.
        reason: why.
        ledger: where it is recorded.
        settings: name the root under which the protector must be enrolled.

    Raises:
        UntrustedError: no protector signed, or the act was used or is too old.
        CorrectionFileError: the file as a whole can't be read.
        ProtectError: a line is no fact, or contradicts another one, or a correction that waits or is released; nothing
            is protected.
    """
    lines = parse_file(path)
    asked = to_protect(path, reason=reason)
    signed = asker(act, asked, role="protector", ledger=ledger, settings=settings)
    facts = list({line.correction.id: line.correction for line in lines if line.correction}.values())
    problems = [f"line {line.number} {'; '.join(line.problems)}" for line in lines if line.correction is None]
    known = {fact.id: fact for fact in protected_facts(ledger)}
    problems += [
        f"the id {fact.id} belongs to another protected fact"
        for fact in facts
        if fact.id in known and known[fact.id].content_digest() != fact.content_digest()
    ]
    problems += _contradictions(facts, list(known.values()), corrections_in(ledger, *LIVE))
    if problems:
        raise ProtectError(f"{path}: {'. '.join(problems)}. Nothing was protected")
    new = [fact for fact in facts if fact.id not in known]
    events = [_event(fact.id, "protected", signed, {"correction": fact.model_dump(mode="json")}) for fact in new]
    ledger.append([signed.used(), *events])
    return new


def lift(key: str, *, act: Mapping[str, Any] | None, reason: str, ledger: Ledger, settings: Settings) -> None:
    """Let a fact be corrected again.

    Args:
        key: its id.
        act: a protector's signature under `to_lift`.
        reason: why.
        ledger: where it is recorded.
        settings: name the root under which the protector must be enrolled.

    Raises:
        UntrustedError: no protector signed, or the act was used or is too old.
        UnknownKeyError, IllegalTransitionError: it is not protected.
    """
    asked = to_lift(ledger, key, reason=reason)
    signed = asker(act, asked, role="protector", ledger=ledger, settings=settings)
    ledger.append([signed.used(), _event(key, "lifted", signed)])


def _contradictions(facts: Sequence[Correction], known: Sequence[Correction], live: Sequence[Correction]) -> list[str]:
    """What stands in the way of protecting some facts, one sentence each."""
    others = [fact for fact in known if fact.id not in {each.id for each in facts}]
    # Nothing is superseded by being protected, and a correction of the same id is no exception either.
    claims = [fact.model_copy(update={"id": f"protected {fact.id}", "supersedes": None}) for fact in facts]
    return [
        f"{fact.id} says {fact.target!r} and contradicts {other}"
        for fact, found in zip(facts, find_conflicts(claims, live, others), strict=True)
        for other in (found.contradicts, found.disagrees, found.with_standing)
        if other
    ]


def _event(key: str, kind: str, act: Act, data: Mapping[str, Any] | None = None) -> Event:
    kept = {**(data or {}), "act": act.digest}
    return Event(entity="protected", key=key, kind=kind, actor=act.by, reason=act.asked.reason, data=kept)
