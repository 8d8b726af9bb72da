"""A service or the network goes away in the middle of a review or a promotion: what was approved is promoted, once."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path

import pytest
from prefect.flow_engine import run_flow

import tasks.answers
import tasks.promote
from consuming.errors import RegistryAwayError
from flows.review import review
from infra.stack import start_part, stop_part
from tasks.candidate import the_open_candidate
from tasks.errors import UnreachableError
from tasks.promote import promote
from tasks.register import aliased
from tasks.store import Store

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def networks():
    """The tests' own proxy, by its path: the tests are no package."""
    spec = importlib.util.spec_from_file_location("proxy", Path(__file__).with_name("proxy.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.proxy


@pytest.mark.parametrize("part", ["s3", "mlflow", "postgres"])
def test_a_service_that_goes_away_in_a_promotion_loses_nothing(world, trusted, open_made, stack, monkeypatch, part):
    candidate = open_made()
    release = trusted.approve(candidate)
    step = {"s3": "publish", "mlflow": "point_aliases", "postgres": "_finish"}[part]
    original = getattr(tasks.promote, step)

    def outage(*args, **kwargs):
        stop_part(stack.home, part, report=print)
        return original(*args, **kwargs)

    monkeypatch.setattr(tasks.promote, step, outage)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    try:
        with pytest.raises((UnreachableError, RegistryAwayError)):
            promote(release, settings=world.settings, ledger=world.ledger)
    finally:
        monkeypatch.setattr(tasks.promote, step, original)
        start_part(stack.home, part, report=print)
    world.repair()
    assert world.ledger.standing("candidate", candidate).state == "promoted"


def answered(world) -> str:
    """A candidate whose form was answered, and whose run has yet to read that."""
    world.queue("France")
    world.run("refresh")
    candidate = the_open_candidate(world.ledger).key
    world.ask(candidate)
    return candidate


@pytest.mark.parametrize("part", ["s3", "postgres"])
def test_a_service_that_goes_away_while_an_answer_is_judged_costs_neither_the_answer_nor_its_code(
    world, trusted, stack, monkeypatch, part
):
    candidate = answered(world)
    original, back = tasks.answers.give_receipt, threading.Timer(3, start_part, [stack.home, part], {"report": print})

    def outage(*args, **kwargs):
        monkeypatch.setattr(tasks.answers, "give_receipt", original)
        receipt = original(*args, **kwargs) if part == "postgres" else None  # and then it can't be recorded
        stop_part(stack.home, part, report=print)
        back.start()
        return receipt or original(*args, **kwargs)

    monkeypatch.setattr(tasks.answers, "give_receipt", outage)
    with pytest.MonkeyPatch.context() as promoter:  # taken back before the editor's own are
        for name, value in trusted.promoters.items():
            promoter.setenv(name, value)
        try:
            ended = run_flow(review, flow_run=world.review_of(candidate), return_type="state")
        except Exception:  # PostgreSQL is Prefect's too, so the run may end without a word
            ended = None
    back.join()
    assert part == "postgres" or ended.is_completed()
    world.repair()
    world.decide(candidate)
    assert [s.state for s in world.ledger.standings("answer")] == ["accepted"]
    assert [s.state for s in world.ledger.standings("code")] == ["used"]
    world.check()


def test_prefect_that_goes_away_before_an_answer_is_read_loses_no_answer(world, stack):
    candidate = answered(world)
    run = str(world.review_of(candidate).id)
    stop_part(stack.home, "prefect", report=print)
    try:
        assert world.run("review", run=run).failed
    finally:
        start_part(stack.home, "prefect", report=print)
    world.repair()
    world.decide(candidate)
    world.check()


def test_a_slow_network_promotes_and_a_breaking_one_does_in_the_end(world, trusted, open_made, networks):
    first = open_made()
    release = trusted.approve(first)
    with networks(world.settings.s3_endpoint) as s3, networks(world.settings.mlflow_url) as mlflow:
        settings = world.settings.model_copy(update={"s3_endpoint": s3.url, "mlflow_url": mlflow.url})
        s3.delay = mlflow.delay = 0.05
        promote(release, settings=settings, ledger=world.ledger)
        world.check()

        release = trusted.approve(open_made(parent=first))
        s3.delay = mlflow.delay = 0
        s3.breaks = 20
        with pytest.raises((UnreachableError, RegistryAwayError)):
            promote(release, settings=settings, ledger=world.ledger)
        assert Store(world.settings).record(f"releases/{first}.json")["position"] == 1
        s3.breaks = 0
        promote(release, settings=settings, ledger=world.ledger)
    world.check()
    assert aliased(world.settings).keys() == {"champion", "previous"}
