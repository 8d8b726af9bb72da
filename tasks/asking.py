"""Asking: what somebody signs who wants something done, with all that decides what then happens.

The terminal makes it to be signed, and whoever carries it out makes it again from what was sent, to compare the two.
Facts are named with the digest of what they say, releases with their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from editors.digests import digest_of
from governance.acts import Asked
from governance.changes import RETRY, content_digest
from governance.lifecycle import Entity
from tasks.acts import of_file
from tasks.corrections import Editing
from tasks.ledger import Ledger


def to_revoke(ledger: Ledger, ids: Sequence[str], *, reason: str, restore: bool, replace: bool) -> Asked:
    """What is signed to have facts revoked.

    Args:
        ledger: says what each fact says.
        ids: of the facts.
        reason: why, as the ledger and the reviewer read it.
        restore: let the facts that these superseded hold again.
        replace: close a candidate that waits for review first.

    Raises:
        UnknownKeyError: the ledger knows no such fact.
    """
    options = {"restore": restore, "replace": replace}
    return Asked(verb="revoke", about=_of_facts(ledger, "correction", *ids), reason=reason, options=options)


def to_roll_back(ledger: Ledger, position: int, *, reason: str, leave_out: bool, replace: bool) -> Asked:
    """What is signed to have production rolled back.

    Args:
        ledger: says which release that is.
        position: of the release; 0 is the base.
        reason: why.
        leave_out: solve it again, without the facts that were revoked or expired since.
        replace: close a candidate that waits for review first.

    Raises:
        UnknownKeyError: there is no such release.
    """
    digest = ledger.release_at(position).candidate if position else ledger.release_at(1).parent
    options = {"leave_out": leave_out, "replace": replace}
    return Asked(verb="rollback", about={f"release {position}": digest}, reason=reason, options=options)


def to_cancel(ledger: Ledger, key: str, *, reason: str) -> Asked:
    """What is signed to have a correction cancelled.

    Raises:
        UnknownKeyError: the ledger knows no such correction.
    """
    return Asked(verb="cancel", about=_of_facts(ledger, "correction", key), reason=reason)


def to_retry(ledger: Ledger, key: str, *, reason: str, editing: Editing | None) -> Asked:
    """What is signed to have a correction queued again, with other settings if some are given.

    Raises:
        UnknownKeyError: the ledger knows no such correction.
    """
    options = {"editing": editing.changes()} if editing else {}
    return Asked(verb=RETRY, about=_of_facts(ledger, "correction", key), reason=reason, options=options)


def to_protect(path: Path, *, reason: str) -> Asked:
    """What is signed to have the facts of a file protected.

    Raises:
        CorrectionFileError: it can't be read.
    """
    return Asked(verb="protect", about=of_file(path), reason=reason)


def to_lift(ledger: Ledger, key: str, *, reason: str) -> Asked:
    """What is signed to have a protection ended.

    Raises:
        UnknownKeyError: there is none.
    """
    return Asked(verb="lift", about=_of_facts(ledger, "protected", key), reason=reason)


def _of_facts(ledger: Ledger, entity: Entity, *keys: str) -> dict[str, str]:
    return {key: _said(ledger.standing(entity, key).content) for key in keys}


def _said(content: Mapping[str, Any]) -> str:
    """The digest of what a fact says; a line that was refused says nothing."""
    if "correction" not in content:
        return digest_of(dict(content))
    return content_digest(content["correction"])
