"""Candidate: everything that an edit produced, stored under digests and opened for review.

The manifest names base, parent, facts, policy, patch and report by their digests and holds no clock times, so the same
facts on the same base are the same candidate, whenever they are solved. Blobs come first, then the manifest, then the
version in MLflow, and the ledger's event last: whatever a crash leaves behind, a second run completes.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from pydantic import BaseModel, ConfigDict

from editors.digests import canonical_json, digest_of, digest_of_files, sha256_file
from governance.changes import DECIDED
from governance.evidence import manifest_key
from governance.lifecycle import ACTOR, Event
from tasks.collect import Batch, events_for, remaining
from tasks.describe import counted
from tasks.gate import Verdict, check_verdict
from tasks.ledger import Ledger
from tasks.policy import Policy
from tasks.register import Entry, Registered, lineage_tags, register
from tasks.report import Report, as_json
from tasks.retries import WHILE_AWAY
from tasks.settings import Settings
from tasks.store import Store
from tasks.tables import Standing

if TYPE_CHECKING:  # whoever only looks for the open candidate waits for no model's libraries
    from tasks.base import Base
    from tasks.culprits import Culprits
    from tasks.edit import Edit

FORMAT = 1
NAMED = 1000  # characters
PINS = Path(__file__).parent.parent / "infra" / "pins.txt"
"""The packages that candidates are made with."""


class Candidate(BaseModel):
    """A stored candidate: its digest, its manifest, and where it stands in MLflow."""

    model_config = ConfigDict(frozen=True)

    digest: str
    manifest: dict[str, Any]
    registered: Registered


def store_report(report: Report, verdict: Verdict, store: Store) -> str:
    """Keep a report with its verdict; returns its sha256."""
    return store.put(canonical_json(report_record(report, verdict))).sha256


def report_record(report: Report, verdict: Verdict) -> dict[str, Any]:
    """A report with its verdict, as stored."""
    return {"report": as_json(report), "verdict": as_json(verdict)}


def store_candidate(
    *, base: Base, batch: Batch, edit: Edit, report: Report, policy: Policy, verdict: Verdict, settings: Settings
) -> Candidate:
    """Keep everything that makes up a candidate, and register it; repeating it changes nothing.

    Raises:
        GateError: report or verdict are of another candidate, or by another policy.
    """
    assert verdict.passed, "only what passed its gate becomes a candidate"
    check_verdict(verdict, report, policy=policy, patch=edit.patch.sha256)
    from tasks.base import keep_base  # transformers takes seconds to import, and is needed only here
    from tasks.page import page  # matplotlib too

    store = Store(settings)
    corrections = b"".join(canonical_json(c.model_dump(mode="json")) + b"\n" for c in batch.facts)
    manifest = {
        "format": FORMAT,
        "base": base.digest,
        "base_files": keep_base(base, store),
        "parent": batch.parent or base.digest,
        "facts": [{"id": c.id, "digest": c.content_digest()} for c in batch.facts],
        "new": sorted(c.id for c in batch.new),
        "returning": sorted(c.id for c in batch.returning),
        "leaving": sorted((each.record() for each in batch.leaving), key=lambda record: record["id"]),
        "asked_by": batch.asked_by,
        "act": batch.act,
        "corrections": store.put(corrections).sha256,
        "editor": edit.editor,
        "editor_settings": edit.settings,
        "editing": {c.id: c.editing.changes() for c in batch.facts if c.editing},
        "moments": edit.ingredients.moments.sha256,
        "contexts": edit.ingredients.contexts.sha256,
        "held": edit.ingredients.held.sha256,
        "ordinary": edit.ingredients.ordinary.sha256,
        "values": list(edit.values),
        "patch": store.put_file(edit.patch.path).sha256,
        "policy": store.put(policy.text.encode()).sha256,
        "report": store_report(report, verdict, store),
        "code": code_digest(),
        "pins": sha256_file(PINS),
    }
    digest = digest_of(manifest)
    store.put_record(manifest_key(digest), manifest)
    files = {
        "corrections.jsonl": corrections,
        "manifest.json": canonical_json(manifest),
        "patch.safetensors": edit.patch.read(),
        "report.html": page(report, verdict, title=f"Candidate {digest[:12]}").encode(),
        "report.json": canonical_json(report_record(report, verdict)),
    }
    entry = _entry(digest, manifest, report=report, batch=batch, files=files)
    registered = register(entry, settings=settings, ledger=Ledger(settings.database_url))
    return Candidate(digest=digest, manifest=manifest, registered=registered)


def open_candidate(candidate: Candidate, ledger: Ledger) -> None:
    """Enter a candidate into the ledger as open, and its new corrections as being in it; once."""
    already = the_open_candidate(ledger)
    if already and already.key == candidate.digest:
        return
    data = asdict(candidate.registered) | {name: candidate.manifest[name] for name in DECIDED}
    opened = Event(entity="candidate", key=candidate.digest, kind="opened", actor=ACTOR, data=data)
    new = events_for(candidate.manifest["new"], "in candidate", actor=ACTOR, reason=candidate.digest)
    acts = [act] if (act := candidate.manifest.get("act")) else []
    asked = [Event(entity="act", key=key, kind="in candidate", actor=ACTOR, reason=candidate.digest) for key in acts]
    ledger.append([opened, *new, *asked])


def the_open_candidate(ledger: Ledger) -> Standing | None:
    """The candidate that waits for a person, if there is one."""
    waiting = ledger.standings("candidate", states=["opened"])
    assert len(waiting) <= 1, "one candidate is open at a time"
    return waiting[0] if waiting else None


def replace_candidate(standing: Standing, ledger: Ledger, *, actor: str) -> None:
    """Close an open candidate without a decision; its corrections are queued again."""
    reason = f"candidate {standing.key[:12]} was replaced"
    back = events_for(standing.content["new"], "queued", actor=actor, reason=reason)
    ledger.append([Event(entity="candidate", key=standing.key, kind="replaced", actor=actor), *back])


def quarantine(
    batch: Batch, culprits: Culprits, report: Report, verdict: Verdict, *, page: str, ledger: Ledger, store: Store
) -> list[str]:
    """Set aside the new facts that are to blame for a failed gate, each with what it does; all new ones where none is.

    So no refresh fails night after night on the same facts. Where they are innocent, nobody may call this.

    Returns:
        The ids of those that were set aside; the others stay queued.
    """
    assert not verdict.passed, "only a failed gate sets facts aside"
    assert not culprits.innocent, "nobody is set aside for what others do"
    kept = {"report": store_report(report, verdict, store), "page": page, "trials": culprits.trials}
    aside = [_quarantined(c.correction, c.reason, data=kept | c.measured) for c in culprits.found]
    if not aside:
        failures = "; ".join(f"{outcome.bound.metric} {outcome.why}" for outcome in verdict.failures)
        reason = f"was in a batch of {counted(len(batch.new), 'new fact')} that fails: {failures}; {culprits.why}"
        aside = [_quarantined(c.id, reason, data=kept) for c in batch.new]
    states = {s.key: s.state for s in ledger.standings("correction", keys=[event.key for event in aside])}
    ledger.append([event for event in aside if states[event.key] != "quarantined"])
    return [event.key for event in aside]


def _quarantined(key: str, reason: str, *, data: dict[str, Any]) -> Event:
    return Event(entity="correction", key=key, kind="quarantined", actor=ACTOR, reason=reason, data=data)


def code_digest() -> str:
    """One digest of the code that makes candidates: the project's own packages, file by file."""
    root = Path(__file__).parent.parent
    files = [
        path
        for part in ("consuming", "governance", "editors", "tasks", "flows")
        for path in (root / part).rglob("*.py")
    ]
    return digest_of_files([root / "corrigenda.py", *files], root=root)


def _entry(digest: str, manifest: dict[str, Any], *, report: Report, batch: Batch, files: dict[str, bytes]) -> Entry:
    metrics = {
        f"{name}.{model}": value
        for name, metric in report.metrics.items()
        for model in ("before", "parent", "after")
        if (value := getattr(metric, model)) is not None
    }
    return Entry(
        candidate=digest,
        tags=lineage_tags(manifest) | {"corrigenda.candidate": digest, "corrigenda.version": version("corrigenda")},
        metrics=metrics,
        params={"editor": manifest["editor"], "facts": str(len(batch.facts)), "new": str(len(batch.new))}
        | {f"editor.{name}": str(value) for name, value in manifest["editor_settings"].items()},
        files=files,
        corrections=[c.model_dump(mode="json") for c in batch.facts],
        description=_change(batch),
    )


def _change(batch: Batch) -> str:
    """What a candidate changes, in a line for the registry."""
    told = {"new": batch.new, "returning": batch.returning, "leaving": [each.correction for each in batch.leaving]}
    named = {name: ", ".join(c.id for c in facts)[:NAMED] for name, facts in told.items()}
    changes = [f"{len(told[name])} {name}: {ids}" for name, ids in named.items() if ids]
    return f"{len(batch.facts)} facts; {'; '.join(changes)}"


@task(name="open candidate", **WHILE_AWAY)
def open_candidate_task(
    base: Base, batch: Batch, edit: Edit, report: Report, policy: Policy, verdict: Verdict
) -> Candidate:
    """Store, register and open a candidate."""
    settings = Settings()
    candidate = store_candidate(
        base=base, batch=batch, edit=edit, report=report, policy=policy, verdict=verdict, settings=settings
    )
    open_candidate(candidate, Ledger(settings.database_url))
    return candidate


@task(name="quarantine", **WHILE_AWAY)
def quarantine_task(batch: Batch, culprits: Culprits, report: Report, verdict: Verdict, page: str) -> Batch:
    """Set aside the facts to blame for a failed gate; returns what is left of the batch."""
    settings = Settings()
    ledger, store = Ledger(settings.database_url), Store(settings)
    aside = quarantine(batch, culprits, report, verdict, page=page, ledger=ledger, store=store)
    return remaining(batch, aside, now=datetime.now(UTC))
