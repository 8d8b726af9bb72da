"""What can happen to the things in the ledger: events, and from which states each may follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, cast

Entity = Literal[
    "correction", "candidate", "refresh", "protected", "identity", "act", "receipt", "answer", "code", "notice"
]

ACTOR = "corrigenda"
"""In whose name the platform records what nobody has to ask for."""
DECISIONS = frozenset({None, "approve", "strike", "reject"})
"""A reviewer's newest decision is the one that counts."""

# From which states an event of this kind may follow; None stands for "nothing yet".
TRANSITIONS: Mapping[Entity, Mapping[str, frozenset[str | None]]] = {
    "correction": {
        "submitted": frozenset({None, "refused", "cancelled", "rejected"}),
        "refused": frozenset({None, "refused", "submitted"}),
        "queued": frozenset({"submitted", "in candidate", "quarantined", "held", "superseded"}),
        "cancelled": frozenset({"submitted", "queued", "quarantined"}),
        "in candidate": frozenset({"queued"}),
        "quarantined": frozenset({"queued"}),
        "released": frozenset({"in candidate", "superseded", "held"}),
        "rejected": frozenset({"in candidate"}),
        "superseded": frozenset({"released"}),
        "held": frozenset({"released"}),
        "revoked": frozenset({"released", "superseded", "held"}),
        "expired": frozenset({"released", "held"}),
    },
    "candidate": {
        "opened": frozenset({None, "replaced", "rejected", "struck", "stale", "expired"}),
        "approved": frozenset({"opened"}),
        "rejected": frozenset({"opened"}),
        "replaced": frozenset({"opened"}),
        "struck": frozenset({"opened"}),
        "stale": frozenset({"opened"}),
        "expired": frozenset({"opened"}),
        "promoted": frozenset({"approved"}),
    },
    "protected": {
        "protected": frozenset({None, "lifted"}),
        "lifted": frozenset({"protected"}),
    },
    "identity": {
        # What counts for nothing, since nobody who may stands behind it, is no obstacle to what does (history.py).
        "enrolled": frozenset({None, "revoked", "enrolled"}),
        "revoked": frozenset({"enrolled", "revoked"}),
    },
    "act": {
        "used": frozenset({None}),
        "in candidate": frozenset({"used"}),
    },
    "receipt": {
        "approve": DECISIONS,
        "strike": DECISIONS,
        "reject": DECISIONS,
    },
    "refresh": {
        "started": frozenset({None}),
        "finished": frozenset({"started"}),
        "failed": frozenset({"started"}),
        "dead": frozenset({"started"}),
    },
    "answer": {
        "accepted": frozenset({None}),
        "refused": frozenset({None}),
    },
    "code": {
        "used": frozenset({None}),
    },
    "notice": {
        "due": frozenset({None}),
        "sent": frozenset({"due", "failed"}),
        "failed": frozenset({"due", "failed"}),
    },
}

# The events that carry a thing's content; the later ones only say what became of it. A correction that is queued again
# with other settings carries its content too (retry.py).
CONTENT_KINDS = ("submitted", "opened", "started", "protected", "enrolled", "due")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something entered a state: what, by whom, why, and the facts that go with it."""

    entity: Entity
    key: str
    kind: str
    actor: str
    reason: str = ""
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])


def in_utc(moment: datetime) -> str:
    """Return a time as people read it, to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def flaw_of_transition(entity: str, key: str, *, state: str | None, kind: str) -> str:
    """Why an event does not follow on the state in which something stands; empty where it does."""
    kinds = TRANSITIONS.get(cast(Entity, entity), {})
    if kind not in kinds:
        return f"nothing like {entity} {kind!r} is known"
    if state in kinds[kind]:
        return ""
    return (
        f"{entity} {key!r} is {state or 'unknown'}, so it can't become {kind!r}: "
        f"that follows only on {', '.join(sorted(each or 'nothing' for each in kinds[kind]))}"
    )
