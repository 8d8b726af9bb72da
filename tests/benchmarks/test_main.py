"""`make bench`: every benchmark runs, whatever the others do, and one table shows what is kept."""

import sys
from types import SimpleNamespace

import pytest
import torch

from benchmarks import __main__ as bench
from benchmarks.outcome import Outcome, conclude


def outcome(what, *, met):
    return Outcome(what=what, goal=">= 5 x", reached="4.2 x", met=met, setting="a small one")


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    conclude("solve", [outcome("a solve", met=True)], figures={}, device=torch.device("cpu"), folder=tmp_path)
    conclude("rounds", [outcome("ten rounds", met=False)], figures={}, device=torch.device("cpu"), folder=tmp_path)
    return tmp_path


def call(monkeypatch, *words, failing=()):
    """Run the command with benchmarks that only end, and return its exit code and which of them ran."""
    ran = []

    def started(command):
        ran.append(command[-1].removeprefix("benchmarks."))
        return SimpleNamespace(returncode=int(ran[-1] in failing))

    monkeypatch.setattr(bench.subprocess, "run", started)
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
    monkeypatch.setenv("COLUMNS", "200")
    return bench.main(), ran


def test_a_benchmark_that_fails_stops_no_other_and_is_shown(results, monkeypatch, capsys):
    code, ran = call(monkeypatch, failing={"solve"})
    assert code == 1
    assert tuple(ran) == bench.HOUR
    out = capsys.readouterr().out
    assert "failed" in out and "python -m benchmarks.solve shows why" in out
    assert "a solve" not in out


def test_what_takes_longer_runs_by_its_own_name_alone_and_its_kept_result_is_shown(results, monkeypatch, capsys):
    code, ran = call(monkeypatch)
    assert code == 0
    assert not set(ran) & set(bench.LONGER)
    out = capsys.readouterr().out
    assert "ten rounds" in out and "a small one" in out
    assert "python -m benchmarks.capacity" in out
    assert call(monkeypatch, "rounds") == (0, ["rounds"])
    assert call(monkeypatch, "--kept") == (0, [])


def test_an_unknown_name_is_refused_with_the_names_there_are(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, "speed")
    assert ended.value.code == 2
    assert "there is no speed; there are solve" in " ".join(capsys.readouterr().err.split())


def test_a_goal_that_was_missed_is_red_and_one_that_was_reached_is_green(results):
    reached = list(bench.summary(results, failed=[]).columns[2].cells)
    assert reached[:2] == ["[green]4.2 x[/]", "[red]4.2 x[/]"]
