"""The history of all releases as a folder of pages that anybody can open: no server, no script, nothing from elsewhere.

It is read from the ledger and the object store, and holds no clock time of its own: the same history gives the same
pages. Everything that came with a request is data, and escaped.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from editors.digests import canonical_json
from governance.envelopes import claimed
from governance.errors import ForgedError
from governance.events import Head
from governance.lifecycle import in_utc
from tasks.gate import Verdict
from tasks.ledger import Ledger
from tasks.page import as_data, page
from tasks.report import Metric, Report, report_in
from tasks.store import Store

if TYPE_CHECKING:
    from tasks.tables import Release, Standing

CARD = "corrigenda-report.json"
"""The file by which such a folder is known: what it was made from."""

SHARES = (
    "efficacy.generation",
    "generalization.generation",
    "retention.generation",
    "specificity.kept",
    "specificity.argmax",
    "protected.kept",
)
RATIOS = ("regression.perplexity_ratio", "fluency.base_perplexity_ratio")

Page = tuple[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A release, and what the pages say about it."""

    release: Release
    opened: Mapping[str, Any]
    manifest: Mapping[str, Any]
    report: Report
    verdict: Verdict

    @property
    def number(self) -> int:
        """Its position."""
        return self.release.position


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A correction: where it stands, and everything that happened to it."""

    standing: Standing
    history: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a reviewer decided about a candidate, as their receipt says."""

    event: Mapping[str, Any]
    candidate: str
    says: Mapping[str, Any]


def site(ledger: Ledger, store: Store, *, progress: Callable[[str, int, int], None]) -> Iterator[Page]:
    """Yield each file of the folder: its path there, and its bytes.

    Args:
        ledger: whose history is shown; its chain is checked first.
        store: holds manifests and reports.
        progress: told of releases.

    Raises:
        BrokenChainError: the ledger is not as it was written.
        AlteredError: an object of a release is not what was stored.
    """
    head = ledger.verify(store.records("releases/"))
    releases, shown = ledger.releases(), []
    for release in releases:
        each = _shown(release, ledger, store)
        title = f"Release {release.position}, candidate {release.candidate[:12]}"
        yield f"releases/{release.position}.html", page(each.report, each.verdict, title=title).encode()
        shown.append(each)
        progress("releases", len(shown), len(releases))
    facts = facts_of(ledger)
    waiting = ledger.standings("candidate", states=["opened"])
    told: dict[str, Any] = {
        "head": head,
        "shown": shown[::-1],
        "facts": facts,
        "by_state": _by_state(facts),
        "decisions": decisions_of(ledger)[::-1],
        "waiting": waiting,
        "numbers": {each.release.candidate: each.number for each in shown},
        "picture": as_data(over_releases(shown)) if shown else "",
    }
    for name in ("index", "facts", "decisions"):
        yield f"{name}.html", _environment().get_template(f"site-{name}.html.jinja").render(told).encode()
    yield CARD, canonical_json(_card(head, releases))


def facts_of(ledger: Ledger) -> list[Fact]:
    """All corrections, with their histories, oldest first."""
    histories: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for event in ledger.histories("correction", ""):
        histories[event["key"]].append(event)
    return [Fact(standing=each, history=histories[each.key]) for each in ledger.standings("correction")]


def decisions_of(ledger: Ledger) -> list[Decision]:
    """All receipts that hold a statement, oldest first; whether they counted, the releases say."""
    found: list[Decision] = []
    for event in ledger.histories("receipt", ""):
        try:
            says = claimed(event["data"]["envelope"])["predicate"]
        except (ForgedError, KeyError, TypeError):
            continue
        found.append(Decision(event=event, candidate=event["key"].partition(":")[0], says=says))
    return found


def over_releases(shown: Sequence[Shown]) -> Figure:
    """Draw the metrics of each release over their positions: shares above, ratios in the middle, facts below."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    above, middle, below = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1.5, 1.2))
    positions = [each.number for each in shown]
    for axes, names in ((above, SHARES), (middle, RATIOS)):
        for name in names:
            values = [_after(each.report.metrics.get(name)) for each in shown]
            if any(value is not None for value in values):
                axes.plot(positions, [float("nan") if v is None else v for v in values], marker="o", label=name)
        if axes.lines:
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    above.set_ylim(-0.02, 1.02)
    above.set_ylabel("share")
    middle.set_ylabel("against the base")
    below.bar(positions, [len(each.manifest["facts"]) for each in shown], color="#4f81bd", width=0.6)
    below.set_ylabel("facts")
    below.yaxis.set_major_locator(MaxNLocator(integer=True))
    below.set_xlabel("release")
    below.set_xticks(positions if len(positions) <= 20 else positions[:: -(-len(positions) // 20)])
    return figure


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tasks"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["in_utc"] = in_utc
    return environment


def _shown(release: Release, ledger: Ledger, store: Store) -> Shown:
    manifest = store.manifest(release.candidate)
    stored = json.loads(store.get(manifest["report"]))
    return Shown(
        release=release,
        opened=ledger.standing("candidate", release.candidate).content,
        manifest=manifest,
        report=report_in(stored, of=f"release {release.position}"),
        verdict=Verdict.model_validate(stored["verdict"]),
    )


def _by_state(facts: Sequence[Fact]) -> Mapping[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for fact in facts:
        counts[fact.standing.state] += 1
    return dict(sorted(counts.items()))


def _after(metric: Metric | None) -> float | None:
    return metric.after if metric and metric.count else None


def _card(head: Head, releases: Sequence[Release]) -> dict[str, Any]:
    return {
        "ledger": {"sequence": head.sequence, "digest": head.digest},
        "releases": [release.candidate for release in releases],
    }
