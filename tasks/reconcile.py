"""Reconcile: the ledger is held against MLflow, the object store and Prefect, and what a crash left is put right.

The ledger is the one source of truth, so what hangs on it is made anew from it: records, aliases, promotions that never
ended, reviews that broke down. Nothing is ever deleted, and no object or version overwritten: what would need that is
left for a person. Where the ledger itself is not whole, nothing is repaired at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from prefect import task

from editors.errors import UntrustedError
from governance.evidence import record_key, signature_key
from tasks.candidate import the_open_candidate
from tasks.errors import BrokenChainError, StoreError
from tasks.findings import Finding, left, repaired, tell_of
from tasks.housekeeping import is_decided, is_over
from tasks.ledger import Ledger
from tasks.news import tell_news
from tasks.notices import pass_on_left
from tasks.objects import flaws_of
from tasks.promote import CHAMPION, PREVIOUS, approve, point_aliases, promote
from tasks.publish import flaw_of_signature, release_record
from tasks.receipts import approvals_of
from tasks.register import aliased, all_versions
from tasks.retries import WHILE_AWAY
from tasks.reviews import close_reviews
from tasks.revive import revive
from tasks.runs import SHORT_MINUTES, WITHOUT_A_WORD, mark_dead_runs
from tasks.settings import Settings
from tasks.store import Store
from tasks.tables import Release

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

Versions = dict[str, list["ModelVersion"]]
"""The versions in MLflow by the candidate that they stand for, each oldest first; under "" those of none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is compared: the ledger, the store as the promoter sees it, and MLflow's versions."""

    settings: Settings
    ledger: Ledger
    store: Store
    versions: Versions
    flaw: Callable[[str], str]

    @property
    def model(self) -> str:
        """The registered model's name."""
        return self.settings.registered_model


def reconcile(*, settings: Settings, ledger: Ledger, now: datetime, minutes: float = SHORT_MINUTES) -> list[Finding]:
    """Compare, repair what may be repaired, and tell; returns everything that was not as it should be.

    Args:
        settings: the promoter's.
        ledger: the source of truth.
        now: the time.
        minutes: after how long at work a short flow is taken for dead.

    Raises:
        UnreachableError: a service is away; what was repaired until then stays so, and is told.
    """
    found: list[Finding] = []
    try:
        for finding in _compare(settings, ledger, now=now, minutes=minutes):
            found.append(finding)
    finally:
        tell_of(found, ledger)
    tell_news(ledger)
    pass_on_left(ledger, before=now - timedelta(minutes=minutes))
    return found


def _compare(settings: Settings, ledger: Ledger, *, now: datetime, minutes: float) -> Iterator[Finding]:
    store = Store(settings)
    try:
        ledger.verify(store.records("releases/"))
    except (BrokenChainError, StoreError) as error:
        way_out = "nothing was repaired: compare with a backup of the database, and find out who could write there"
        yield left(str(error), "the ledger", way_out)
        return
    world = World(
        settings=settings,
        ledger=ledger,
        store=store,
        versions=_versions(settings),
        flaw=lru_cache(maxsize=None)(store.flaw),
    )
    for release in ledger.releases():
        yield from _release(release, world)
    yield from _aliases(world)
    yield from _strangers(world)
    yield from _runs(world, now=now, minutes=minutes)
    yield from _review(world, now=now, minutes=minutes)


def _release(release: Release, world: World) -> Iterator[Finding]:
    """Whether a release has all its objects, one version, its record and the end of its promotion."""
    where = f"release {release.position} ({release.candidate[:12]})"
    flaws = flaws_of(release.candidate, world.store, flaw=world.flaw)
    for flaw in flaws:
        yield left(flaw, where, "bring the object back from a backup of the store, under the same key")
    if not world.versions.get(release.candidate):
        way_out = "restore MLflow's database from before it was deleted"
        yield left(f"it has no version in MLflow's {world.model}", where, way_out)
    elif not flaws:
        yield from _promotion(release, where, world)


def _promotion(release: Release, where: str, world: World) -> Iterator[Finding]:
    """Whether a release's manifest is what the ledger tells, signed, and its promotion at its end."""
    store, key = world.store, record_key(release.candidate)
    try:
        told = release_record(release, store=store, ledger=world.ledger, settings=world.settings)
    except StoreError as error:  # the one before it is not published, as was told of that one
        yield left(str(error), where, "put right what the release before it lacks, and reconcile again")
        return
    kept, signed = store.record(key), store.read(signature_key(release.candidate)) is not None
    ended = world.ledger.standing("candidate", release.candidate).state == "promoted"
    if kept is not None and kept != told:
        way_out = "consumers hold it against its signature; find out who holds the promoter's credentials"
        yield left(f"{store.place(key)} is not what the ledger tells", where, way_out)
    elif kept and signed and (flaw := flaw_of_signature(kept, store=store, settings=world.settings)):
        yield left(flaw, where, "consumers refuse it; find out who holds the promoter's credentials")
    elif not (kept and signed and ended) or any(map(world.flaw, (*told["receipts"], *told["certificates"]))):
        try:
            promote(release, settings=world.settings, ledger=world.ledger)
        except UntrustedError as error:
            way_out = "it is not published; find out who could write into the ledger"
            yield left(f"no receipts stand behind it: {error}", where, way_out)
        else:
            lost = "its manifest, its signature or a receipt was missing in the store"
            what = lost if ended else "its promotion never ended"
            yield repaired(what, where, "its promotion was repeated to the end")


def _aliases(world: World) -> Iterator[Finding]:
    """Whether the aliases stand for the newest release and the one before it."""
    found, head = aliased(world.settings), world.ledger.head()
    if head is None:
        if CHAMPION in found:
            way_out = (
                f"no release was approved yet: delete the alias, 'corrigenda pull {world.model}@{CHAMPION}' refuses it"
            )
            yield left(f"it stands for version {found[CHAMPION]}", f"alias {CHAMPION}", way_out)
        return
    wanted = {CHAMPION: head.candidate} | ({PREVIOUS: head.parent} if head.position > 1 else {})
    moved = {
        alias: number
        for alias, candidate in wanted.items()
        if (number := _number(candidate, world)) and found.get(alias) != number
    }
    if moved and world.store.record(record_key(head.candidate)) is not None:
        point_aliases(head, settings=world.settings, ledger=world.ledger)
        for alias, number in moved.items():
            stood = f"it stood for version {found[alias]}" if alias in found else "it stood for nothing"
            what = f"{stood}, which the ledger does not tell"
            yield repaired(what, f"alias {alias}", f"it stands for version {number} again")


def _strangers(world: World) -> Iterator[Finding]:
    """Which versions stand for nothing that the ledger knows, or for the same as another."""
    known = {standing.key for standing in world.ledger.standings("candidate")}
    for candidate, versions in world.versions.items():
        numbers = [str(version.version) for version in versions]
        where = f"version {', '.join(numbers)} of {world.model}"
        if not candidate:
            yield left("it names no candidate", where, "Corrigenda did not register it: move it to another model")
        elif candidate not in known and flaws_of(candidate, world.store, flaw=world.flaw):
            yield left(
                f"the ledger knows no candidate {candidate[:12]}, and the store does not hold it",
                where,
                "no consumer takes it, for it is no release; find out who registered it",
            )
        elif candidate not in known:
            yield Finding(
                what=f"candidate {candidate[:12]} was never opened",
                where=where,
                outcome="harmless",
                way_out="a run that died left it; one over the same facts takes it up again",
            )
        if candidate and len(versions) > 1:
            way_out = f"the lowest number counts; delete {', '.join(numbers[1:])} in MLflow"
            yield left(f"{len(versions)} versions stand for candidate {candidate[:12]}", where, way_out)


def _runs(world: World, *, now: datetime, minutes: float) -> Iterator[Finding]:
    for name in mark_dead_runs(world.ledger, now=now, minutes=minutes):
        done = "marked as crashed; what it held is still queued, and the next run takes it up"
        yield repaired(WITHOUT_A_WORD, name, done)


def _review(world: World, *, now: datetime, minutes: float) -> Iterator[Finding]:
    """Whether the open candidate is on its way; one whose time is over undecided is left to the housekeeping."""
    waiting = the_open_candidate(world.ledger)
    if waiting is None:
        return
    decided = is_decided(waiting.key, ledger=world.ledger, settings=world.settings)
    if not decided and is_over(waiting, now=now, settings=world.settings):
        return
    where = f"candidate {waiting.key[:12]}"
    if _is_approved(waiting.key, world):
        release = approve(waiting.key, ledger=world.ledger, settings=world.settings)
        promote(release, ledger=world.ledger, settings=world.settings)
        close_reviews(waiting.key, "its reviewers approved it, and it was promoted")
        yield repaired("its reviewers approved it, and it was not promoted", where, "it was promoted")
    elif what := revive(waiting.key, now=now, minutes=minutes, decided=decided):
        yield repaired(what, where, "its review goes on")


def _is_approved(candidate: str, world: World) -> bool:
    """Whether enough receipts stand behind a candidate that is whole and follows on the newest release."""
    head, parent = world.ledger.head(), world.ledger.standing("candidate", candidate).content["parent"]
    if (head and head.candidate != parent) or flaws_of(candidate, world.store, flaw=world.flaw):
        return False
    try:
        return bool(approvals_of(candidate, world.ledger, world.settings))
    except UntrustedError:
        return False


def _versions(settings: Settings) -> Versions:
    found: Versions = defaultdict(list)
    for version in all_versions(settings):
        found[version.tags.get("corrigenda.candidate", "")].append(version)
    return dict(found)


def _number(candidate: str, world: World) -> str:
    versions = world.versions.get(candidate)
    return str(versions[0].version) if versions else ""


@task(name="reconcile", **WHILE_AWAY)
def reconcile_task() -> list[Finding]:
    """Compare ledger, MLflow, store and Prefect, and repair what may be repaired."""
    settings = Settings()
    return reconcile(settings=settings, ledger=Ledger(settings.database_url), now=datetime.now(UTC))
