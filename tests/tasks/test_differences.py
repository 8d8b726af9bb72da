"""Two releases side by side."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from consuming.errors import UnknownVersionError
from consuming.settings import ConsumerSettings
from flows.cli import app
from tasks.differences import content_of, difference
from tasks.settings import acting_as
from tasks.store import Store

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def settings(history, take_away):
    """A consumer's settings; the two releases of the history have their records in the store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CORRIGENDA_ROOT_FINGERPRINT", "")
        with acting_as("promoter") as promoter:
            for position, candidate in enumerate(history.released, 1):
                record = {"position": position, "candidate": candidate, "approved": "2026-01-01T00:00:00+00:00"}
                Store(promoter).put_record(f"releases/{candidate}.json", record)
        yield ConsumerSettings()
    take_away("releases/")


def test_facts_metrics_and_answers_that_differ_are_found(history, settings):
    found = difference(content_of("1", settings=settings), content_of(history.released[1], settings=settings))
    assert [fact.id for fact in found.added] == ["mars"]
    assert found.removed == []
    first, second = found.metrics["efficacy.generation"]
    assert (first.after, second.after) == (0.75, 1.0)
    (answer,) = found.answers
    assert (answer.kind, answer.prompt, answer.other) == ("efficacy", "p", "at the second time")


def test_backwards_what_was_added_is_removed(settings):
    found = difference(*(content_of(name, settings=settings) for name in ("2", "1")))
    assert [fact.id for fact in found.removed] == ["mars"]
    assert found.added == []


def test_a_release_is_not_different_from_itself(settings):
    one = content_of("1", settings=settings)
    found = difference(one, one)
    assert (found.added, found.removed, found.answers) == ([], [], [])


def test_a_release_that_is_not_there_is_named(settings):
    with pytest.raises(UnknownVersionError, match="there is no release 3: the newest is 2"):
        content_of("3", settings=settings)


def test_the_command_shows_all_of_it_and_takes_markup_for_text(settings):
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["diff", "1", "2"])
    assert done.exit_code == 0, done.output
    assert "+ mars: The colour of mars is → grey" in done.output
    assert "0.75 of 4" in done.output and "1 of 4" in done.output
    assert "<img src=x onerror=alert(1)>" in done.output and "at the second time" in done.output
