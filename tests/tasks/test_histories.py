"""Random histories of facts and candidates on a real ledger: whatever happens, twice or half, it is whole and right."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tasks.promote
from tasks.candidate import Candidate, open_candidate, replace_candidate, the_open_candidate
from tasks.collect import events_for
from tasks.errors import IllegalTransitionError, StaleParentError
from tasks.ledger import Ledger
from tasks.promote import approve, reject
from tasks.register import Registered
from tasks.settings import Settings

pytestmark = pytest.mark.stack

STEPS = st.tuples(
    st.sampled_from(["submit", "open", "approve", "approve", "reject", "replace", "replay", "half", "stale"]),
    st.integers(0, 4),
)
SETTINGS = Settings()
BECOMES = ("revoked", "held", "expired", "superseded")


@dataclass
class History:
    """What a ledger should say, kept beside it; a candidate's facts are told by what becomes of them."""

    ledger: Ledger
    name: str = field(default_factory=lambda: uuid4().hex[:8])
    states: dict[str, str] = field(default_factory=dict)
    approved: str = ""

    def standing_in(self, *states: str) -> list[str]:
        return sorted(key for key, state in self.states.items() if state in states)

    def submit(self, number: int) -> None:
        key = f"{self.name}-{number}"
        if key not in self.states:
            self.ledger.append(
                [*events_for([key], "submitted", actor="ada"), *events_for([key], "queued", actor="ada")]
            )
            self.states[key] = "queued"

    def open(self, number: int) -> None:
        """A candidate of all that is queued, in which one fact leaves and one comes back, where there are any."""
        new, leave, back = (
            self.standing_in("queued"),
            self.standing_in("released")[: number % 2],
            self.standing_in("held", "superseded")[: number % 3],
        )
        if the_open_candidate(self.ledger) or not (new or leave or back):
            return
        leaving = [{"id": key, "becomes": BECOMES[number % 4], "reason": "why", "asked_by": "ada"} for key in leave]
        manifest = {"parent": self.head, "new": new, "returning": back, "leaving": leaving}
        digest = f"{self.name}-{uuid4().hex}"
        registered = Registered(version="1", run="r", experiment="e")
        open_candidate(Candidate(digest=digest, manifest=manifest, registered=registered), self.ledger)
        self.states |= dict.fromkeys(new, "in candidate")

    def approve(self, _: int) -> None:
        if waiting := the_open_candidate(self.ledger):
            approve(waiting.key, ledger=self.ledger, settings=SETTINGS)
            content, self.approved = waiting.content, waiting.key
            self.states |= dict.fromkeys([*content["new"], *content["returning"]], "released")
            self.states |= {each["id"]: each["becomes"] for each in content["leaving"]}

    def replay(self, _: int) -> None:
        """An approval whose answer was lost is sent again."""
        if self.approved:
            position = self.ledger.release_of(self.approved).position
            assert approve(self.approved, ledger=self.ledger, settings=SETTINGS).position == position

    def reject(self, _: int) -> None:
        if waiting := the_open_candidate(self.ledger):
            reject(waiting.key, reviewer="grace", comment="no", ledger=self.ledger)
            reject(waiting.key, reviewer="grace", comment="no", ledger=self.ledger)
            self.states |= dict.fromkeys(waiting.content["new"], "rejected")

    def replace(self, _: int) -> None:
        if waiting := the_open_candidate(self.ledger):
            replace_candidate(waiting, self.ledger, actor="refresh")
            self.states |= dict.fromkeys(waiting.content["new"], "queued")

    def half(self, number: int) -> None:
        """A step that breaks off in its middle leaves nothing of itself."""
        key = f"{self.name}-half-{number}"
        events = [*events_for([key], "submitted", actor="ada"), *events_for([key], "released", actor="ada")]
        with pytest.raises(IllegalTransitionError):
            self.ledger.append(events)

    def stale(self, _: int) -> None:
        """A candidate that was made before the newest release can't become the next one."""
        if self.head != "base" and the_open_candidate(self.ledger) is None:
            manifest = {"parent": "another", "new": [], "returning": [], "leaving": []}
            digest = f"{self.name}-{uuid4().hex}"
            registered = Registered(version="1", run="r", experiment="e")
            open_candidate(Candidate(digest=digest, manifest=manifest, registered=registered), self.ledger)
            with pytest.raises(StaleParentError):
                approve(digest, ledger=self.ledger, settings=SETTINGS)
            reject(digest, reviewer="grace", comment="stale", ledger=self.ledger)

    @property
    def head(self) -> str:
        head = self.ledger.head()
        return head.candidate if head else "base"


@pytest.fixture
def approved_by_all(monkeypatch) -> None:
    """Whether receipts let a candidate through is asked in test_receipts.py."""
    monkeypatch.setattr(tasks.promote, "approvals_of", lambda *args, **kwargs: {})


@pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning")
@given(steps=st.lists(STEPS, max_size=25))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_is_whole_and_every_fact_stands_where_it_should(ledger, approved_by_all, steps):
    """The examples follow each other in one ledger, each with facts of its own."""
    history = History(ledger)
    for name, number in steps:
        getattr(history, name)(number)
    history.reject(0)  # whatever is left open, so that the next history may begin
    history.ledger.verify()
    found = {s.key: s.state for s in ledger.standings("correction") if s.key.startswith(history.name)}
    assert found == history.states
