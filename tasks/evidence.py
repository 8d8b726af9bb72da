"""Evidence: everything that a reviewer is shown, read back from where it is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping

from prefect import task

from tasks.collect import Leaving, contents
from tasks.corrections import read_corrections
from tasks.describe import review_text
from tasks.gate import Verdict
from tasks.ledger import Ledger
from tasks.report import report_in
from tasks.retries import WHILE_AWAY
from tasks.settings import Settings
from tasks.store import Store


def evidence(candidate: str, *, settings: Settings, store: Store, ledger: Ledger) -> str:
    """The evidence for one candidate as Markdown, from the stored objects and nothing else."""
    standing = ledger.standing("candidate", candidate)
    manifest = store.manifest(candidate)
    stored = json.loads(store.get(manifest["report"]))
    report = report_in(stored, of=f"candidate {candidate[:12]}")
    names = [each["id"] for each in manifest["leaving"]]
    left = {c.id: c for c in contents(ledger.standings("correction", keys=names))} if names else {}
    facts = read_corrections(store.get(manifest["corrections"]))
    return review_text(
        candidate=candidate,
        version=standing.content["version"],
        parent=manifest["parent"],
        new=[c for c in facts if c.id in manifest["new"]],
        returning=[c for c in facts if c.id in manifest["returning"]],
        leaving=[Leaving.model_validate(each | {"correction": left[each["id"]]}) for each in manifest["leaving"]],
        asked_by=manifest.get("asked_by", ""),
        submitters={c.id: submitter_of(c.id, ledger) for c in facts if c.id in manifest["new"]},
        report=report,
        verdict=Verdict.model_validate(stored["verdict"]),
        links=links(standing.content, settings),
    )


def submitter_of(correction: str, ledger: Ledger) -> str:
    """Who submitted a correction last."""
    submitted = [e["actor"] for e in ledger.history("correction", correction) if e["kind"] == "submitted"]
    return submitted[-1] if submitted else ""


def links(opened: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Where a person finds a candidate's version, and its report and patch as files."""
    version = f"{settings.mlflow_url}/#/models/{settings.registered_model}/versions/{opened['version']}"
    run = f"{settings.mlflow_url}/#/experiments/{opened['experiment']}/runs/{opened['run']}/artifacts"
    return {"report as a page": f"{run}/report.html", "version in MLflow": version, "corrections and patch": run}


@task(name="evidence", **WHILE_AWAY)
def evidence_task(candidate: str) -> str:
    """Read a candidate's evidence."""
    settings = Settings()
    return evidence(candidate, settings=settings, store=Store(settings), ledger=Ledger(settings.database_url))
