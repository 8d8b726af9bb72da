"""What a candidate changes, held against the ledger and what the object store keeps; governance/changes.py says how."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from editors.digests import digest_of
from governance.changes import (
    ANEW,
    Facts,
    Submission,
    check_changes,
    check_editing,
    check_entered_once,
    check_opened,
    check_withdrawal,
    submissions_of,
    told_of,
)
from governance.errors import ForgedError
from governance.history import Past
from tasks.corrections import Correction
from tasks.ledger import Ledger
from tasks.parse import parse_kept
from tasks.people import PastOf
from tasks.settings import Settings
from tasks.store import Store


def check_candidate(
    manifest: Mapping[str, Any],
    *,
    ledger: Ledger,
    store: Store,
    settings: Settings,
    now: datetime,
    before: int | None = None,
) -> None:
    """Refuse a candidate that changes what it does not say, or what nobody signed for.

    Args:
        manifest: of the candidate.
        ledger: says what was asked for.
        store: keeps the facts, and the files that they were submitted in.
        settings: name the root.
        now: when it is to be released, or was.
        before: of the ledger's events, only those before this number.

    Raises:
        UntrustedError: the fact is named.
        AlteredError: a file or a signature is not what was stored.
    """
    past = PastOf(ledger, settings)
    check_opened(manifest, ledger.standing("candidate", digest_of(manifest)).content)
    facts = {"before": _facts_before(manifest, store), "after": _facts_in(manifest, store)}
    check_changes(manifest, **facts)
    check_withdrawal(manifest, **facts, past=past, facts_of=lambda digest: _released(digest, ledger, store), now=now)
    brought = {key: facts["after"][key] for key in [*manifest["new"], *manifest["returning"]]}
    check_submissions(brought, past=past, store=store, before=before)
    check_told(brought, past=past, before=before)
    for key, fact in brought.items():
        check_editing(key, fact, past=past, before=before)


def check_submissions(facts: Facts, *, past: Past, store: Store, before: int | None = None) -> None:
    """Refuse corrections that their submitters, as the ledger names them, did not sign for as they are.

    Raises:
        UntrustedError: the first of them is named.
        AlteredError: a file or a signature is not what was stored.
    """
    signed = lambda sha256: json.loads(store.get(sha256))  # noqa: E731
    submissions = submissions_of(list(facts), past=past, envelope_of=signed, before=before)
    for submission in submissions:
        _check_lines(submission, facts, store)
    for submission in submissions:
        check_entered_once(submission, past)


def check_told(facts: Facts, *, past: Past, before: int | None = None) -> None:
    """Refuse corrections that are not written, to the letter, as the ledger has them.

    What reads the same and is written otherwise has another digest, which the next candidate would be held against.

    Raises:
        ForgedError: the first of them is named.
    """
    for key, fact in facts.items():
        told = Correction.model_validate(told_of(key, past=past, before=before)).model_dump(mode="json")
        if fact != told:
            odd = ", ".join(sorted(name for name in {*fact, *told} if fact.get(name) != told.get(name))) or "its fields"
            raise ForgedError(f"{key!r} is not written as the ledger has it ({odd}); {ANEW}")


def act_behind(manifest: Mapping[str, Any], ledger: Ledger) -> list[Mapping[str, Any]]:
    """The act by which a candidate was asked for, as it was sent; none where corrections or their dates ask."""
    uses = ledger.history("act", manifest["act"]) if manifest.get("act") else []
    return [use["data"]["envelope"] for use in uses if use["kind"] == "used"]


def _check_lines(submission: Submission, facts: Facts, store: Store) -> None:
    """Refuse a fact that isn't what its line of the signed file says."""
    wanted = [(event["data"]["line"], facts[event["key"]]) for event in submission.events]
    signed = parse_kept(submission.file, store.get(submission.sha256), lines={number for number, _ in wanted})
    for number, fact in wanted:
        said = signed[number].correction if number in signed else None
        if said is None or _bare(said) != _bare(Correction.model_validate(fact)):
            raise ForgedError(
                f"{fact['id']!r} does not say what line {number} of {submission.file} does, which {submission.act.by} "
                "signed; cancel it, and submit it again"
            )


def _bare(correction: Correction) -> str:
    """The digest of a correction without what an intake adds to it: the digests of its evidence."""
    bare = tuple(item.model_copy(update={"sha256": None}) for item in correction.evidence)
    return correction.model_copy(update={"evidence": bare}).content_digest()


def _facts_in(manifest: Mapping[str, Any], store: Store) -> Facts:
    """The facts of a candidate or release."""
    facts: Sequence[Mapping[str, Any]] = [json.loads(line) for line in store.get(manifest["corrections"]).splitlines()]
    return {fact["id"]: fact for fact in facts}


def _facts_before(manifest: Mapping[str, Any], store: Store) -> Facts:
    """The facts of the release that a candidate was evaluated against; the base has none."""
    return {} if manifest["parent"] == manifest["base"] else _facts_in(store.manifest(manifest["parent"]), store)


def _released(digest: str, ledger: Ledger, store: Store) -> Facts | None:
    """The facts of a release, by its digest; None where it is none."""
    return _facts_in(store.manifest(digest), store) if ledger.release_of(digest) else None
