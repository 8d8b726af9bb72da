"""A history that tests read: releases with reports of their own, without a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from editors.digests import canonical_json, digest_of
from governance.envelopes import new_key, sign, statement
from governance.lifecycle import Event
from tasks.candidate import report_record
from tasks.corrections import Correction
from tasks.gate import gate
from tasks.ledger import Ledger
from tasks.policy import Policy
from tasks.report import Answer, Metric, Report, Said
from tasks.settings import acting_as
from tasks.store import Store

ATTACK = "<img src=x onerror=alert(1)>{{ 7 * 7 }}"


@pytest.fixture(scope="module")
def history(module_url: str, take_away: Any) -> Iterator[House]:
    """A ledger and a store in which two releases were approved, and one fact was rejected."""
    take_away("releases/")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CORRIGENDA_DATABASE_URL", module_url)
        ledger = Ledger(module_url)
        ledger.migrate()
        with acting_as("editor") as settings:
            house = House(ledger, Store(settings))
        first = house.release("moon", parent="b" * 64, efficacy=0.75, comment=ATTACK)
        house.release("mars", parent=first, efficacy=1.0, facts=("moon", "mars"), says="at the second time")
        house.submit("venus", subject=ATTACK)
        house.append("correction", "venus", "rejected", actor="grace", reason="no evidence")
        yield house


class House:
    """Fills a ledger and a store as the flows do, in a moment."""

    def __init__(self, ledger: Ledger, store: Store) -> None:
        self.ledger, self.store = ledger, store
        self.released: list[str] = []

    def append(self, entity: str, key: str, kind: str, *, actor: str = "ada", reason: str = "", data=None) -> None:
        self.ledger.append([Event(entity=entity, key=key, kind=kind, actor=actor, reason=reason, data=data or {})])

    def submit(self, key: str, *, subject: str = "") -> None:
        correction = fact(key, subject=subject).model_dump(mode="json")
        self.append("correction", key, "submitted", data={"correction": correction})
        self.append("correction", key, "queued")
        self.append("correction", key, "in candidate")

    def release(
        self,
        key: str,
        *,
        parent: str,
        efficacy: float,
        comment: str = "",
        facts: Sequence[str] = (),
        says: str = ATTACK,
    ) -> str:
        said = Said(text=says, generation=True, argmax=True)
        asked = Answer(
            correction=key, relation="r", kind="efficacy", prompt="p", target="t", before=said, parent=None, after=said
        )
        measured = Metric(before=0, parent=0, after=efficacy, low=0, high=1, count=4, misses=4 - int(4 * efficacy))
        report = Report(base="b" * 64, patch=key, metrics={"efficacy.generation": measured}, answers=(asked,))
        verdict = gate(report, Policy(name="own", gate=[{"metric": "efficacy.generation", "min": 0.5}], text="x"))
        manifest = {
            "format": 1,
            "base": "b" * 64,
            "base_files": [],
            "parent": parent,
            "patch": digest_of(key),
            "report": self.store.put(canonical_json(report_record(report, verdict))).sha256,
            "facts": [{"id": each} for each in facts or (key,)],
            "leaving": [],
            "corrections": self.store.put(_lines(facts or (key,))).sha256,
        }
        candidate = digest_of(manifest)
        self.store.put_record(f"candidates/{candidate}.json", manifest)
        self.submit(key)
        opened = {"parent": parent, "new": [key], "returning": [], "leaving": []}
        self.append("candidate", candidate, "opened", data=opened)
        predicate = {"reviewer": "grace", "method": "totp", "comment": comment}
        envelope = sign(statement("urn:x", subject={"candidate": candidate}, predicate=predicate), new_key())
        self.append(
            "receipt", f"{candidate}:grace", "approve", actor="grace", reason=comment, data={"envelope": envelope}
        )
        approved = Event(entity="candidate", key=candidate, kind="approved", actor="grace", reason=comment)
        into = Event(entity="correction", key=key, kind="released", actor="grace", reason=candidate)
        self.ledger.release(candidate, parent=parent, new=[approved, into])
        self.released.append(candidate)
        return candidate


def fact(key: str, *, subject: str = "") -> Correction:
    return Correction(id=key, subject=subject or key, prompt="The colour of {} is", target="grey")


def _lines(keys: Sequence[str]) -> bytes:
    return b"".join(canonical_json(fact(key).model_dump(mode="json")) + b"\n" for key in keys)
