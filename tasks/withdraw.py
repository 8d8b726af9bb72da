"""Withdraw: which facts a candidate leaves out that revokes, expires, or rolls production back.

Such a candidate is solved from the base like any other, over the facts that remain, so that a fact which was withdrawn
leaves no trace. What is not in production needs none: a fact that is held or superseded is revoked at once.

Who asks signs all that decides what happens, and the act that they signed is used up here; the candidate names it, and
is held against it again when it is to be promoted (changes.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from governance.acts import Act
from governance.changes import words_of
from governance.lifecycle import ACTOR
from tasks.asking import to_revoke, to_roll_back
from tasks.base import Base
from tasks.collect import Batch, Leaving, batch_of, contents, corrections_in, events_for, expiring, protected_facts
from tasks.conflicts import find_conflicts
from tasks.corrections import Correction, read_corrections
from tasks.edit import Edit
from tasks.errors import WithdrawalError
from tasks.ledger import Ledger
from tasks.people import asker
from tasks.prepare import Ingredients
from tasks.retries import WHILE_AWAY
from tasks.settings import Settings
from tasks.store import Store
from tasks.tables import Standing

IN_REACH = ("superseded", "held")
"""States from which a fact can come back, or be revoked without a candidate."""
INGREDIENTS = ("moments", "contexts", "held", "ordinary")
"""What a kept patch is evaluated with, besides the base."""


class Withdrawal(BaseModel):
    """What a withdrawal changes.

    Attributes:
        batch: the facts of its candidate.
        release: digest of the release whose patch is taken as it is; None where the facts are solved for.
        done: ids that were withdrawn at once, since no candidate is needed for them.
    """

    model_config = ConfigDict(frozen=True)

    batch: Batch
    release: str | None = None
    done: tuple[str, ...] = ()


def revocation(ledger: Ledger, act: Act, *, now: datetime) -> Withdrawal:
    """Choose the facts that remain when some are revoked; what isn't in production is revoked at once.

    Args:
        ledger: says where each fact stands.
        act: who wants which facts revoked, why and how; it is used up.
        now: facts that expired by then don't hold again.

    Raises:
        UnknownKeyError: the ledger knows no such fact.
        WithdrawalError: one of them was never released, or has expired; or a fact can't hold again.
    """
    ids, reason = list(act.asked.about), act.asked.reason
    if not reason.strip():
        raise WithdrawalError("a revocation needs a reason; give one with --reason")
    standings = [ledger.standing("correction", key) for key in ids]
    if wrong := [f"{s.key} is {s.state}" for s in standings if s.state not in ("released", "revoked", *IN_REACH)]:
        raise WithdrawalError(
            f"{', '.join(wrong)}: only what was released can be revoked; 'corrigenda cancel' takes a queued one back. "
            "Nothing was revoked"
        )
    aside = [s.key for s in standings if s.state in IN_REACH]
    leaving = [
        Leaving(correction=c, becomes="revoked", reason=reason, asked_by=act.by)
        for c in contents([s for s in standings if s.state == "released"])
    ]
    restore = act.asked.options["restore"]
    returning = _predecessors(ledger, leaving, besides=frozenset(ids), now=now) if restore else []
    named = {"act": act.digest}
    ledger.append([act.used(), *events_for(aside, "revoked", actor=act.by, reason=reason, data=named)])
    done = tuple(s.key for s in standings if s.state != "released")
    batch = batch_of(ledger, returning=returning, leaving=leaving, asked_by=act.by, act=act.digest)
    return Withdrawal(batch=batch, done=done)


def expiry(ledger: Ledger, *, now: datetime) -> Withdrawal:
    """Choose the facts that remain when those leave that no longer hold."""
    held = [each.correction for each in expiring(corrections_in(ledger, "held"), now=now)]
    ledger.append(events_for([c.id for c in held], "expired", actor=ACTOR, reason="its time ended while it was held"))
    leaving = expiring(corrections_in(ledger, "released"), now=now)
    return Withdrawal(batch=batch_of(ledger, leaving=leaving), done=tuple(c.id for c in held))


def rollback(ledger: Ledger, store: Store, position: int, *, act: Act, now: datetime) -> Withdrawal:
    """Choose the facts of an earlier release again; those released since become held.

    Args:
        ledger: says what was released, and where each fact stands now.
        store: holds the releases' manifests.
        position: of the release; 0 is the base.
        act: who wants it, why and how; it is used up.
        now: facts whose time has ended by then have expired.

    Raises:
        UnknownKeyError: there is no such release.
        WithdrawalError: it is in production, holds facts that were revoked or expired since, or contradicts a
            protected one.
    """
    leave_out = act.asked.options["leave_out"]
    if not act.asked.reason.strip():
        raise WithdrawalError("a rollback needs a reason; give one with --reason")
    release, facts = _facts_of(ledger, store, position)
    then = ledger.standings("correction", keys=list(facts)) if facts else []
    gone = {s.key: why for s in then if (why := _why_gone(s, facts[s.key], now=now))}
    if gone and not leave_out:
        raise WithdrawalError(
            f"release {position} says what no longer holds: {', '.join(gone.values())}; "
            f"'corrigenda rollback {position} --leave-out' solves it again without"
        )
    words = words_of(act.asked)
    released = corrections_in(ledger, "released")
    same = {c.id for c in released if c.id in facts and c.content_digest() == facts[c.id].content_digest()}
    ended = expiring((c for c in released if c.id in same), now=now)
    held = [Leaving(correction=c, becomes="held", reason=words, asked_by=act.by) for c in released if c.id not in same]
    returning = contents([s for s in then if s.state in IN_REACH and s.key not in gone])
    _check_protected(returning, ledger)
    as_it_was = all(c == facts[c.id] for c in contents(then))
    ledger.append([act.used()])
    batch = batch_of(ledger, returning=returning, leaving=[*held, *ended], asked_by=act.by, act=act.digest)
    return Withdrawal(batch=batch, release=release if as_it_was and not leave_out else None)


def kept_edit(release: str, *, base: Base, settings: Settings, store: Store) -> Edit:
    """The patch of an earlier release, as it is in the object store, and what it was made with.

    Raises:
        WithdrawalError: it is a patch for another base.
    """
    manifest = store.manifest(release)
    if manifest["base"] != base.digest:
        raise WithdrawalError(
            f"release {release[:12]} stands on the base {manifest['base'][:12]}, and the model {settings.model!r} is "
            f"{base.digest[:12]}; set CORRIGENDA_MODEL to the base that it was made on"
        )
    cache = settings.home / "cache"
    files = {name: store.copy_in(cache / "ingredients", manifest[name], name) for name in INGREDIENTS}
    return Edit(
        editor=manifest["editor"],
        settings=manifest["editor_settings"],
        patch=store.copy_in(cache / "patches", manifest["patch"], "safetensors"),
        values=tuple(manifest["values"]),
        ingredients=Ingredients(**files),
    )


def _predecessors(
    ledger: Ledger, leaving: Sequence[Leaving], *, besides: frozenset[str], now: datetime
) -> list[Correction]:
    """The facts that were superseded by those which leave.

    Raises:
        WithdrawalError: one of them is to be revoked too, can't come back, or contradicts what holds now.
    """
    olds = [each.correction.supersedes for each in leaving if each.correction.supersedes]
    if not olds:
        raise WithdrawalError("none of these facts superseded another one: leave --restore out. Nothing was revoked")
    standings = ledger.standings("correction", keys=olds)
    problems = [f"{s.key} is {s.state}" for s in standings if s.state not in IN_REACH]
    problems += [f"{s.key} is to be revoked too" for s in standings if s.key in besides]
    facts = contents(standings)
    problems += [f"{c.id} expired on {c.expires:%Y-%m-%d}" for c in facts if c.expires and c.expires <= now]
    gone = {each.correction.id for each in leaving}
    active = [c for c in corrections_in(ledger, "released") if c.id not in gone]
    for fact, found in zip(facts, find_conflicts(facts, active, protected_facts(ledger)), strict=True):
        problems += [f"{fact.id} contradicts {found.with_standing}"] if found.with_standing else []
    if problems:
        raise WithdrawalError(f"can't hold again: {'; '.join(problems)}. Nothing was revoked")
    return facts


def _check_protected(returning: Sequence[Correction], ledger: Ledger) -> None:
    found = find_conflicts(returning, [], protected_facts(ledger))
    if problems := [
        f"{c.id} contradicts {one.with_standing}" for c, one in zip(returning, found, strict=True) if one.with_standing
    ]:
        raise WithdrawalError(f"can't hold again: {'; '.join(problems)}; 'corrigenda lift' ends a protection")


def _why_gone(standing: Standing, then: Correction, *, now: datetime) -> str:
    """Why a fact of an earlier release can't be part of a release any more; nothing where it can."""
    (today,) = contents([standing])
    if standing.state not in ("released", *IN_REACH):
        return f"{standing.key} is {standing.state} ({standing.reason})"
    if today.expires and today.expires <= now:
        return f"{standing.key} held until {today.expires:%Y-%m-%d}"
    return "" if today.content_digest() == then.content_digest() else f"{standing.key} names another fact now"


def _facts_of(ledger: Ledger, store: Store, position: int) -> tuple[str | None, dict[str, Correction]]:
    """Digest and facts of a release that is not in production; the base has none."""
    head = ledger.head()
    newest = head.position if head else 0
    if position == newest:
        raise WithdrawalError(f"release {position} is in production; see the others with 'corrigenda releases'")
    if position == 0:
        return None, {}
    release = ledger.release_at(position)
    facts = read_corrections(store.get(store.manifest(release.candidate)["corrections"]))
    return release.candidate, {fact.id: fact for fact in facts}


@task(name="revocation", **WHILE_AWAY)
def revocation_task(
    facts: list[str], *, reason: str, act: dict[str, Any] | None, restore: bool, replace: bool
) -> Withdrawal:
    """Choose the facts that remain when some are revoked, as whoever signed the act asks."""
    settings = Settings()
    ledger = Ledger(settings.database_url)
    asked = to_revoke(ledger, facts, reason=reason, restore=restore, replace=replace)
    return revocation(
        ledger, asker(act, asked, role="requester", ledger=ledger, settings=settings), now=datetime.now(UTC)
    )


@task(name="expiry", **WHILE_AWAY)
def expiry_task() -> Withdrawal:
    """Choose the facts that remain when those leave that no longer hold."""
    return expiry(Ledger(Settings().database_url), now=datetime.now(UTC))


@task(name="rollback", **WHILE_AWAY)
def rollback_task(
    position: int, *, reason: str, act: dict[str, Any] | None, leave_out: bool, replace: bool
) -> Withdrawal:
    """Choose the facts of an earlier release again, as whoever signed the act asks."""
    settings = Settings()
    ledger, store = Ledger(settings.database_url), Store(settings)
    asked = to_roll_back(ledger, position, reason=reason, leave_out=leave_out, replace=replace)
    signed = asker(act, asked, role="requester", ledger=ledger, settings=settings)
    return rollback(ledger, store, position, act=signed, now=datetime.now(UTC))


@task(name="kept edit", **WHILE_AWAY, cache_policy=NO_CACHE)
def kept_edit_task(release: str, *, base: Base) -> Edit:
    """Take the patch of an earlier release as it is."""
    settings = Settings()
    return kept_edit(release, base=base, settings=settings, store=Store(settings))
