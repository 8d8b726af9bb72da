"""News: what the ledger says happened, as notices; whoever looks next tells what nobody told.

A notice hangs on one event of the ledger and is named after it, so it is told once, whoever tells it. A process that is
killed between its event and the telling takes nothing with it: the next flow tells it, at the latest reconcile or the
housekeeping.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from governance.lifecycle import Entity
from tasks.describe import counted
from tasks.ledger import Ledger
from tasks.notices import Kind, Notice, only_warning, pass_on
from tasks.reviews import review_runs
from tasks.settings import Settings

if TYPE_CHECKING:
    from tasks.tables import Standing

KINDS: Mapping[Entity, Sequence[str]] = {
    "candidate": ("opened", "approved", "rejected", "struck", "promoted", "stale", "expired"),
    "correction": ("revoked", "expired"),
}
"""The events that are told."""
OLDEST = timedelta(days=7)
"""What happened before that is no news."""

Row = Mapping[str, Any]


def tell_news(ledger: Ledger) -> None:
    """Tell whoever listens what happened and was not told; it never fails."""
    with only_warning("the news"):
        for notice in untold(ledger):
            pass_on(notice, ledger)


def untold(ledger: Ledger) -> list[Notice]:
    """What happened and was not told, oldest first."""
    rows = ledger.events_since(datetime.now(UTC) - OLDEST, kinds=KINDS)
    found = [*_of_candidates(rows, ledger), *_at_once(rows)]
    told = {s.key for s in ledger.standings("notice", keys=[each.id for each in found])} if found else set()
    return sorted((each for each in found if each.id not in told), key=lambda each: each.at)


def _of_candidates(rows: Sequence[Row], ledger: Ledger) -> Iterator[Notice]:
    mine = [row for row in rows if row["entity"] == "candidate"]
    keys = list({row["key"] for row in mine})
    standings = {s.key: s for s in ledger.standings("candidate", keys=keys)} if keys else {}
    positions = {release.candidate: release.position for release in ledger.releases()}
    newest = max(positions.values(), default=0)
    for row in mine:
        standing, position = standings[row["key"]], positions.get(row["key"], 0)
        if row["kind"] == "opened" and (standing.state, standing.at) == ("opened", row["at"]):
            yield _ready(row, standing)
        elif row["kind"] == "promoted":
            if position == newest:  # else a later one took its place before anybody could be told
                yield _promoted(row, standing, position)
            yield from _revoked(row, standing, position)
        elif row["kind"] in _DECIDED:
            yield _DECIDED[row["kind"]](row, position)


def _ready(row: Row, standing: Standing) -> Notice:
    runs = [run for run in review_runs(row["key"]) if run.state and not run.state.is_final()]
    address = f"{Settings().prefect_ui_url}/runs/flow-run/{runs[-1].id}" if runs else "see 'corrigenda review'"
    version = standing.content.get("version", "?")
    return _notice(row, "candidate-ready", f"{_name(row)} (version {version}) waits for review: {address}")


def _approved(row: Row, position: int) -> Notice:
    text = f"{_name(row)} is approved by {row['actor']}, as release {position}"
    return _notice(row, "approved", text, release=position, comment=row["reason"])


def _rejected(row: Row, _position: int) -> Notice:
    return _notice(row, "rejected", f"{_name(row)} is rejected by {row['actor']}", comment=row["reason"])


def _struck(row: Row, _position: int) -> Notice:
    struck = row["data"]["struck"]
    text = f"{counted(len(struck), 'fact')} of {_name(row)} struck by {row['actor']}: {', '.join(struck)}"
    return _notice(row, "rejected", text, comment=row["reason"], facts=struck)


def _stale(row: Row, _position: int) -> Notice:
    return _notice(row, "stale", row["reason"])


def _expired(row: Row, _position: int) -> Notice:
    return _notice(row, "found", f"{_name(row)} is closed: {row['reason']}; its new facts are queued again")


def _promoted(row: Row, standing: Standing, position: int) -> Notice:
    version = standing.content.get("version", "?")
    text = f"{_as_release(row, standing, position)} is in production"
    return _notice(row, "promoted", text, release=position, version=version)


def _revoked(row: Row, standing: Standing, position: int) -> Iterator[Notice]:
    facts = [each["id"] for each in standing.content["leaving"] if each["becomes"] == "revoked"]
    if facts:
        text = f"revoked with {_as_release(row, standing, position)}: {', '.join(facts)}"
        yield _notice(row, "revoked", text, release=position, facts=facts)


def _at_once(rows: Sequence[Row]) -> Iterator[Notice]:
    """What was revoked or expired without a release, in one transaction each."""
    groups: dict[tuple[datetime, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["entity"] == "correction" and "becomes" not in row["data"]:
            groups[row["at"], row["kind"]].append(row)
    for group in groups.values():
        facts = [row["key"] for row in group]
        text = f"withdrawn at once, since not in production: {', '.join(facts)}"
        yield Notice.of(group[0], "revoked", text, candidate="", data={"facts": facts})


def _notice(row: Row, kind: Kind, text: str, **data: object) -> Notice:
    return Notice.of(row, kind, text, candidate=row["key"], data=data)


def _name(row: Row) -> str:
    return f"candidate {row['key'][:12]}"


def _as_release(row: Row, standing: Standing, position: int) -> str:
    return f"release {position}, {_name(row)} (version {standing.content.get('version', '?')})"


_DECIDED = {"approved": _approved, "rejected": _rejected, "struck": _struck, "stale": _stale, "expired": _expired}
