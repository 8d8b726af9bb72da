"""Production: what was in production at a time and why, by the ledger; and whether the object store and MLflow agree.

The ledger alone gives the answer. It is then held against the release's manifest in the object store, read as it was
first written, whatever was put over it, and against the release's version in MLflow. Nothing is put right here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from consuming.errors import AlteredError
from governance.envelopes import claimed, digest_of_envelope
from governance.evidence import record_key
from tasks.corrections import Correction, read_corrections
from tasks.describe import counted
from tasks.ledger import Ledger
from tasks.promote import CHAMPION, PREVIOUS
from tasks.publish import flaw_of_signature
from tasks.receipts import receipts_for
from tasks.register import aliased, lineage_tags, version_for
from tasks.settings import Settings
from tasks.store import Store
from tasks.tables import Release

PROMOTER = "find out who holds the promoter's credentials"
RECONCILE = "'corrigenda reconcile' puts it right"
LEDGER = "'corrigenda ledger verify' says whether the ledger is as it was written"
MLFLOW = "find out who writes into MLflow, and restore its database from before that"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A receipt that let a release through: whose, how it was given, and in which words."""

    reviewer: str
    method: str
    comment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FactThen:
    """A fact that was released at a time.

    Attributes:
        correction: what it said then.
        since: when it was released.
        approved_by: by whose word.
        asked_by: who submitted it, and for whom where that is somebody else.
    """

    correction: Correction
    since: datetime
    approved_by: str
    asked_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InProduction:
    """What was in production at a time, by the ledger.

    Attributes:
        release: the newest one then.
        approved: the event that approved it.
        approvals: the receipts that counted.
        opened: what it was opened with: what it changes.
        facts: all that were released then, the oldest first.
        is_newest: whether it still is in production.
    """

    release: Release
    approved: Mapping[str, Any]
    approvals: Sequence[Approval]
    opened: Mapping[str, Any]
    facts: Sequence[FactThen]
    is_newest: bool

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"release {self.release.position} ({self.release.candidate[:12]})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What another place says otherwise than the ledger, and the way out."""

    what: str
    where: str
    told: str
    found: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} is {self.found}, and by the ledger {self.told}; {self.way_out}"


def in_production(ledger: Ledger, *, at: datetime) -> InProduction | None:
    """What was in production at a time; None where that was the base alone."""
    release = ledger.head(as_of=at)
    if release is None:
        return None
    history = ledger.history("candidate", release.candidate)
    approved = next(event for event in history if event["kind"] == "approved")
    opened = [event for event in history if event["kind"] == "opened" and event["seq"] < approved["seq"]]
    head = ledger.head()
    return InProduction(
        release=release,
        approved=approved,
        approvals=_approvals(release, approved, ledger),
        opened=opened[-1]["data"],
        facts=_facts(ledger, at=at),
        is_newest=head is not None and head.position == release.position,
    )


def compare(found: InProduction, *, store: Store, settings: Settings) -> Iterator[str | Difference]:
    """Hold what the ledger says against the object store and MLflow; yields a line for what agrees, and what doesn't.

    Raises:
        RegistryAwayError, UnreachableError: one of them doesn't answer; what was compared until then is told.
    """
    try:
        manifest = store.manifest(found.release.candidate)
        record = store.record(record_key(found.release.candidate))
        there = {fact.id: fact for fact in read_corrections(store.get(manifest["corrections"]))}
    except (AlteredError, ValueError) as error:  # no object, another one, or no JSON
        yield Difference(
            what="what it consists of",
            where=found.name,
            told="whole",
            found=f"not: {error}",
            way_out="bring the object back from a backup of the store, under the same key",
        )
        return
    yield from _record(found, manifest, record, store=store, settings=settings)
    yield from _same_facts(found, there, store=store, corrections=manifest["corrections"])
    yield from _version(found, manifest, settings)


def _approvals(release: Release, approved: Mapping[str, Any], ledger: Ledger) -> list[Approval]:
    let_through = approved["data"].get("receipts", [])
    given = receipts_for(release.candidate, ledger, before=release.event)
    says = [claimed(each)["predicate"] for each in given if digest_of_envelope(each) in let_through]
    return [Approval(reviewer=each["reviewer"], method=each["method"], comment=each["comment"]) for each in says]


def _facts(ledger: Ledger, *, at: datetime) -> list[FactThen]:
    submitters: dict[str, str] = {}
    for event in ledger.histories("correction", ""):
        if event["kind"] == "submitted" and event["at"] <= at:
            submitters[event["key"]] = event["actor"]
    released = ledger.standings("correction", states=["released"], as_of=at)
    facts = [(s, Correction.model_validate(s.content["correction"])) for s in released]
    return [
        FactThen(
            correction=fact, since=s.at, approved_by=s.actor, asked_by=_asked(submitters.get(s.key, ""), fact.requester)
        )
        for s, fact in facts
    ]


def _asked(submitter: str, requester: str | None) -> str:
    return f"{submitter}, for {requester}" if requester and requester != submitter else submitter


def _record(
    found: InProduction,
    manifest: Mapping[str, Any],
    record: Mapping[str, Any] | None,
    *,
    store: Store,
    settings: Settings,
) -> Iterator[str | Difference]:
    """Whether the release's manifest is what the ledger tells, and signed."""
    where, release, approved = store.place(record_key(found.release.candidate)), found.release, found.approved
    if record is None:
        yield Difference(what=found.name, where=where, told="released", found="missing", way_out=RECONCILE)
        return
    told = {
        "position": release.position,
        "candidate": release.candidate,
        "parent": release.parent,
        "corrections": manifest["corrections"],
        "receipts": approved["data"].get("receipts", []),
        "reviewer": release.reviewer,
        "comment": release.comment,
        "approved": release.at.astimezone(UTC).isoformat(),
        "ledger": {"sequence": approved["seq"], "digest": approved["digest"]},
    }
    other = {name: record.get(name) for name, value in told.items() if record.get(name) != value}
    for name, value in other.items():
        yield Difference(what=name, where=where, told=f"{told[name]}", found=f"{value}", way_out=PROMOTER)
    if not other:
        yield f"object store: the manifest of {found.name} says the same {', '.join(told)}"
    if not settings.root_fingerprint:
        yield "object store: its signature was NOT VERIFIED, for no root is set (CORRIGENDA_ROOT_FINGERPRINT)"
    elif flaw := flaw_of_signature(record, store=store, settings=settings):
        yield Difference(what="its signature", where=where, told="released", found=f"none: {flaw}", way_out=PROMOTER)
    else:
        yield f"object store: it is signed under the root {settings.root_fingerprint[:12]}"


def _same_facts(
    found: InProduction, there: Mapping[str, Correction], *, store: Store, corrections: str
) -> Iterator[str | Difference]:
    """Whether a release holds just the facts that the ledger says were released, each saying the same."""
    by_ledger = {each.correction.id: each.correction for each in found.facts}
    where, odd = store.place(f"blobs/{corrections}"), False
    for key in sorted(by_ledger.keys() | there.keys()):
        told, other = _in_words(by_ledger.get(key)), _in_words(there.get(key))
        if told != other:
            odd = True
            yield Difference(what=f"the fact {key}", where=where, told=told, found=other, way_out=LEDGER)
    if not odd:
        yield f"object store: it holds what was released then and nothing else, {counted(len(there), 'fact')}"


def _in_words(fact: Correction | None) -> str:
    return f"{fact.filled_prompt!r} → {fact.target!r} ({fact.content_digest()[:12]})" if fact else "not in it"


def _version(found: InProduction, manifest: Mapping[str, Any], settings: Settings) -> Iterator[str | Difference]:
    """Whether MLflow has a version for the release that names the same digests, and the aliases stand for it."""
    version = version_for(settings, found.release.candidate)
    if version is None:
        where = f"MLflow's {settings.registered_model}"
        told = "registered before it was opened"
        yield Difference(what=f"a version for {found.name}", where=where, told=told, found="missing", way_out=MLFLOW)
        return
    where, tags = f"version {version.version} of MLflow's {settings.registered_model}", lineage_tags(manifest)
    other = {name: version.tags.get(name) for name, value in tags.items() if version.tags.get(name) != value}
    for name, value in other.items():
        yield Difference(what=f"its tag {name}", where=where, told=tags[name], found=f"{value}", way_out=MLFLOW)
    if not other:
        yield f"MLflow: version {version.version} names the same digests in {len(tags)} tags"
    if found.is_newest:
        yield from _aliases(found, str(version.version), settings)


def _aliases(found: InProduction, number: str, settings: Settings) -> Iterator[str | Difference]:
    """Whether the aliases stand for the newest release and the one before it."""
    wanted, there = {CHAMPION: number}, aliased(settings)
    if found.release.position > 1:
        before = version_for(settings, found.release.parent)
        wanted[PREVIOUS] = str(before.version) if before else f"of {found.release.parent[:12]}, which is missing"
    for alias, told in wanted.items():
        stands = there.get(alias)
        if stands == told:
            yield f"MLflow: the alias {alias} stands for version {told}"
        else:
            named, other = f"version {told}", f"version {stands}" if stands else "nothing"
            where = f"alias {alias} of MLflow's {settings.registered_model}"
            yield Difference(what="what it stands for", where=where, told=named, found=other, way_out=RECONCILE)
