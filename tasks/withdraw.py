"""Withdraw: which facts a candidate leaves out that revokes, expires, or rolls production back.

Such a candidate is solved from the base like any other, over the facts that remain, so that a fact which was withdrawn
leaves no trace. What is not in production needs none: a fact that is held or superseded is revoked at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from tasks.base import Base
from tasks.collect import Batch, Leaving, batch_of, contents, corrections_in, events_for, expiring, protected_facts
from tasks.conflicts import find_conflicts
from tasks.corrections import Correction
from tasks.edit import Edit
from tasks.errors import WithdrawalError
from tasks.ledger import Ledger
from tasks.prepare import Ingredients
from tasks.retries import WHILE_AWAY
from tasks.settings import Settings
from tasks.store import Store
from tasks.tables import Standing

IN_REACH = ("superseded", "held")
"""States from which a fact can come back, or be revoked without a candidate."""


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


def revocation(
    ledger: Ledger, ids: Sequence[str], *, reason: str, asked_by: str, restore: bool, now: datetime
) -> Withdrawal:
    """Choose the facts that remain when some are revoked; what isn't in production is revoked at once.

    Args:
        ledger: says where each fact stands.
        ids: of the facts.
        reason: why, as the ledger and the reviewer read it.
        asked_by: who wants it.
        restore: let the facts that these superseded hold again.
        now: facts that expired by then don't hold again.

    Raises:
        UnknownKeyError: the ledger knows no such fact.
        WithdrawalError: one of them was never released, or has expired; or a fact can't hold again.
    """
    if not reason.strip():
        raise WithdrawalError("a revocation needs a reason; give one with --reason")
    standings = [ledger.standing("correction", key) for key in dict.fromkeys(ids)]
    if wrong := [f"{s.key} is {s.state}" for s in standings if s.state not in ("released", "revoked", *IN_REACH)]:
        raise WithdrawalError(
            f"{', '.join(wrong)}: only what was released can be revoked; 'corrigenda cancel' takes a queued one back. "
            "Nothing was revoked"
        )
    aside = [s.key for s in standings if s.state in IN_REACH]
    leaving = [
        Leaving(correction=c, becomes="revoked", reason=reason, asked_by=asked_by)
        for c in contents([s for s in standings if s.state == "released"])
    ]
    returning = _predecessors(ledger, leaving, now=now) if restore else []
    ledger.append(events_for(aside, "revoked", actor=asked_by, reason=reason))
    done = tuple(s.key for s in standings if s.state != "released")
    return Withdrawal(batch=batch_of(ledger, returning=returning, leaving=leaving), done=done)


def expiry(ledger: Ledger, *, now: datetime) -> Withdrawal:
    """Choose the facts that remain when those leave that no longer hold."""
    held = [each.correction for each in expiring(corrections_in(ledger, "held"), now=now)]
    ledger.append(
        events_for([c.id for c in held], "expired", actor="corrigenda", reason="its time ended while it was held")
    )
    leaving = expiring(corrections_in(ledger, "released"), now=now)
    return Withdrawal(batch=batch_of(ledger, leaving=leaving), done=tuple(c.id for c in held))


def rollback(ledger: Ledger, store: Store, position: int, *, reason: str, asked_by: str, leave_out: bool) -> Withdrawal:
    """Choose the facts of an earlier release again; those released since become held.

    Args:
        ledger: says what was released, and where each fact stands now.
        store: holds the releases' manifests.
        position: of the release; 0 is the base.
        reason: why.
        asked_by: who wants it.
        leave_out: solve without the facts that were revoked or expired since.

    Raises:
        UnknownKeyError: there is no such release.
        WithdrawalError: it is in production, or holds facts that were revoked or expired since.
    """
    if not reason.strip():
        raise WithdrawalError("a rollback needs a reason; give one with --reason")
    release, facts = _facts_of(ledger, store, position)
    then = {s.key: s for s in ledger.standings("correction", keys=facts)} if facts else {}
    gone = {key: s for key, s in then.items() if s.state not in ("released", *IN_REACH)}
    if gone and not leave_out:
        raise WithdrawalError(
            f"release {position} says what no longer holds: {_named(gone)}; 'corrigenda rollback {position} "
            "--leave-out' solves it again without"
        )
    words = f"rolled back to release {position}: {reason}"
    leaving = [
        Leaving(correction=c, becomes="held", reason=words, asked_by=asked_by)
        for c in corrections_in(ledger, "released")
        if c.id not in then
    ]
    returning = contents([s for s in then.values() if s.state in IN_REACH])
    batch = batch_of(ledger, returning=returning, leaving=leaving)
    return Withdrawal(batch=batch, release=None if gone else release)


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
    files = {
        name: store.copy_in(cache / "ingredients", manifest[name], name)
        for name in ("moments", "contexts", "held", "ordinary")
    }
    return Edit(
        editor=manifest["editor"],
        settings=manifest["editor_settings"],
        patch=store.copy_in(cache / "patches", manifest["patch"], "safetensors"),
        values=tuple(manifest["values"]),
        ingredients=Ingredients(**files),
    )


def _predecessors(ledger: Ledger, leaving: Sequence[Leaving], *, now: datetime) -> list[Correction]:
    """The facts that were superseded by those which leave.

    Raises:
        WithdrawalError: one of them is not superseded any more, expired, or contradicts what holds now.
    """
    olds = [each.correction.supersedes for each in leaving if each.correction.supersedes]
    if not olds:
        raise WithdrawalError("none of these facts superseded another one: leave --restore out. Nothing was revoked")
    standings = ledger.standings("correction", keys=olds)
    problems = [f"{s.key} is {s.state}" for s in standings if s.state != "superseded"]
    facts = contents(standings)
    problems += [f"{c.id} expired on {c.expires:%Y-%m-%d}" for c in facts if c.expires and c.expires <= now]
    gone = {each.correction.id for each in leaving}
    active = [c for c in corrections_in(ledger, "released") if c.id not in gone]
    for fact, found in zip(facts, find_conflicts(facts, active, protected_facts(ledger)), strict=True):
        problems += [f"{fact.id} contradicts {found.with_standing}"] if found.with_standing else []
    if problems:
        raise WithdrawalError(f"can't hold again: {'; '.join(problems)}. Nothing was revoked")
    return facts


def _facts_of(ledger: Ledger, store: Store, position: int) -> tuple[str | None, list[str]]:
    """Digest and facts of a release that is not in production; the base has none."""
    head = ledger.head()
    newest = head.position if head else 0
    if position == newest:
        raise WithdrawalError(f"release {position} is in production; see the others with 'corrigenda releases'")
    if position == 0:
        return None, []
    release = ledger.release_at(position)
    return release.candidate, [fact["id"] for fact in store.manifest(release.candidate)["facts"]]


def _named(standings: Mapping[str, Standing]) -> str:
    return ", ".join(f"{key} is {standing.state} ({standing.reason})" for key, standing in standings.items())


@task(name="revocation", **WHILE_AWAY)
def revocation_task(facts: list[str], *, reason: str, asked_by: str, restore: bool) -> Withdrawal:
    """Choose the facts that remain when some are revoked."""
    ledger = Ledger(Settings().database_url)
    return revocation(ledger, facts, reason=reason, asked_by=asked_by, restore=restore, now=datetime.now(UTC))


@task(name="expiry", **WHILE_AWAY)
def expiry_task() -> Withdrawal:
    """Choose the facts that remain when those leave that no longer hold."""
    return expiry(Ledger(Settings().database_url), now=datetime.now(UTC))


@task(name="rollback", **WHILE_AWAY)
def rollback_task(position: int, *, reason: str, asked_by: str, leave_out: bool) -> Withdrawal:
    """Choose the facts of an earlier release again."""
    settings = Settings()
    ledger, store = Ledger(settings.database_url), Store(settings)
    return rollback(ledger, store, position, reason=reason, asked_by=asked_by, leave_out=leave_out)


@task(name="kept edit", **WHILE_AWAY, cache_policy=NO_CACHE)
def kept_edit_task(release: str, *, base: Base) -> Edit:
    """Take the patch of an earlier release as it is."""
    settings = Settings()
    return kept_edit(release, base=base, settings=settings, store=Store(settings))
