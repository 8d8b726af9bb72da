"""Closed candidates: what they alone consist of is marked, and the bucket's own rule lets it expire some time later.

The ledger says which are closed. What any other candidate names too is never marked, and no base, value, moment or
manifest is: a later release may need them, and the manifest tells what was judged. Nothing is deleted here.
"""

from __future__ import annotations

from consuming.errors import AlteredError
from governance.evidence import manifest_key
from tasks.ledger import Ledger
from tasks.locks import mark, mark_of
from tasks.store import Store

CLOSED = frozenset({"replaced", "rejected", "struck", "stale", "expired"})
OWN = ("patch", "report", "corrections")
"""What of a candidate no refresh takes up again."""
EXPIRES = "rejected"
"""The mark that the bucket's rule goes by; infra/aws/bucket.yaml names it too."""
SEEN = "closed"
"""The mark of the manifest of a candidate whose own objects are marked."""


def mark_closed(ledger: Ledger, store: Store) -> list[str]:
    """Mark what only closed candidates consist of, and take the mark off what the open one does.

    Returns:
        The keys that were marked.
    """
    standings = ledger.standings("candidate")
    for each in standings:
        if each.state == "opened":
            for key in (*_own(each.key, store), manifest_key(each.key)):  # it may have been closed before
                mark(key, "", store=store)
    closed = [each.key for each in standings if each.state in CLOSED]
    waiting = [candidate for candidate in closed if mark_of(manifest_key(candidate), store=store) != SEEN]
    if not waiting:
        return []
    kept = {key for each in standings if each.state not in CLOSED for key in _own(each.key, store)}
    marked: list[str] = []
    for candidate in waiting:
        keys = [key for key in _own(candidate, store) if key not in kept]
        for key in keys:
            mark(key, EXPIRES, store=store)
        mark(manifest_key(candidate), SEEN, store=store)  # last, so a run that dies before is repeated
        marked += keys
    return marked


def _own(candidate: str, store: Store) -> list[str]:
    """The keys of what a candidate consists of that isn't for all; of one that the store lost, none."""
    try:
        manifest = store.manifest(candidate)
    except AlteredError:
        return []
    return [f"blobs/{manifest[name]}" for name in OWN]
