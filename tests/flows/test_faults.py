"""What goes wrong in the middle of a refresh, on the real services with a tiny model."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from typer.testing import CliRunner

import flows.propose
import flows.refresh
from editors.errors import EditorError, InvalidConfigError, UnknownLayoutError, UnknownSiteError
from editors.patch import Patch
from flows.cli import app
from flows.refresh import refresh
from flows.submission import submit_file
from governance.lifecycle import Event
from infra.stack import start_part, stop_part
from tasks.candidate import the_open_candidate
from tasks.collect import corrections_in
from tasks.errors import BusyError, GateError
from tasks.ledger import Ledger
from tasks.promote import approve, promote
from tasks.register import registry
from tasks.settings import Settings
from tasks.store import Store

pytestmark = pytest.mark.stack

FACT = '{{"subject": "{subject}", "prompt": "The capital of {{}} is", "target": "{target}", "requester": "ada"}}\n'


@pytest.fixture
def queued(tiny_platform, tmp_path, monkeypatch) -> Ledger:
    """A ledger with two corrections queued; nobody is asked for a review."""
    monkeypatch.setattr(flows.propose, "start_review", lambda candidate: FakeRun())
    file = tmp_path / "two.jsonl"
    file.write_text(FACT.format(subject="France", target="Lyon") + FACT.format(subject="Japan", target="Osaka"))
    assert [line.fate for line in submit_file(file)] == ["queued", "queued"]
    return Ledger(tiny_platform.database_url)


class FakeRun:
    """A run that exists only by its id; the review itself is tested in test_main_job.py."""

    id = "review"


def states(ledger: Ledger) -> list[str]:
    return sorted(standing.state for standing in ledger.standings("correction"))


def during(monkeypatch, task: str, action) -> None:
    """Do something just before a task of the refresh starts."""
    original = getattr(flows.refresh, task)

    def wrapped(*args):
        action()
        return original(*args)

    monkeypatch.setattr(flows.refresh, task, wrapped)


def test_a_store_that_comes_back_is_waited_for(queued, stack, monkeypatch):
    back = threading.Timer(3, start_part, [stack.home, "s3"], {"report": print})

    def outage():
        stop_part(stack.home, "s3", report=print)
        back.start()

    during(monkeypatch, "open_candidate_task", outage)
    refresh()
    back.join()
    assert states(queued) == ["in candidate", "in candidate"]


def test_a_database_that_goes_away_ends_the_run_and_loses_nothing(queued, stack, monkeypatch):
    during(monkeypatch, "evaluate_task", lambda: stop_part(stack.home, "postgres", report=print))
    with pytest.raises(Exception):  # noqa: B017 - Prefect's own error or ours, whichever meets the outage first
        refresh()
    start_part(stack.home, "postgres", report=print)
    monkeypatch.undo()
    assert states(queued) == ["queued", "queued"]


def test_a_killed_refresh_is_marked_dead_and_the_next_one_goes_on(queued):
    program = "from flows.refresh import refresh; refresh()"
    process = subprocess.Popen([sys.executable, "-c", program], env=dict(os.environ), start_new_session=True)
    while not queued.standings("refresh", states=["started"]):
        assert process.poll() is None, "the refresh ended before it was killed"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert the_open_candidate(queued) is None
    refresh()
    assert [s.state for s in queued.standings("refresh")] == ["dead", "finished"]
    assert states(queued) == ["in candidate", "in candidate"]


def test_two_refreshes_at_once_are_refused_by_name(queued):
    with queued.refresh_lock(), pytest.raises(BusyError, match="another refresh"):
        refresh()
    assert states(queued) == ["queued", "queued"]


def test_an_interrupted_refresh_leaves_the_corrections_queued(queued, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    during(monkeypatch, "gate_task", interrupt)
    with pytest.raises(KeyboardInterrupt):
        refresh()
    assert states(queued) == ["queued", "queued"]
    assert [s.state for s in queued.standings("refresh")] == ["failed"]


def test_a_full_disk_leaves_no_half_written_patch(queued, tiny_platform, monkeypatch, tmp_path):
    patches = tiny_platform.home / "cache" / "patches"
    patches.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", patches], check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        with pytest.raises(OSError, match="No space left"):
            refresh()
        assert list(patches.iterdir()) == []
    finally:
        subprocess.run(["umount", patches], check=True)
    assert states(queued) == ["queued", "queued"]
    refresh()
    assert states(queued) == ["in candidate", "in candidate"]


def test_a_failed_gate_registers_nothing_and_sets_the_facts_aside(queued, tiny_platform, monkeypatch, tmp_path):
    policy = tmp_path / "impossible.toml"
    policy.write_text('name = "impossible"\n[[gate]]\nmetric = "efficacy.generation"\nmin = 2\n')
    monkeypatch.setenv("CORRIGENDA_POLICY", str(policy))
    monkeypatch.setenv("CORRIGENDA_LAYERS", "[1, 3]")  # culprits are looked for in the edit as it was made
    with pytest.raises(GateError, match=r"efficacy\.generation") as failed:
        refresh()
    assert the_open_candidate(queued) is None
    (sha256,) = re.findall(r"'corrigenda page ([0-9a-f]{64}) FILE'", str(failed.value))
    for named in (sha256, queued.standings("correction", states=["quarantined"])[0].key):
        assert CliRunner().invoke(app, ["page", named, str(tmp_path / "why.html")]).exit_code == 0
        page = (tmp_path / "why.html").read_text()
        assert "efficacy.generation" in page and "fail" in page and "France" in page
    assert "corrigenda page" in CliRunner().invoke(app, ["corrections"], env={"COLUMNS": "300"}).output
    assert set(states(queued)) <= {"quarantined", "queued"} and "quarantined" in states(queued)
    assert registry(tiny_platform).search_registered_models(f"name = '{tiny_platform.registered_model}'") == []


def test_a_refresh_that_meets_an_open_candidate_says_so_and_leaves_it(queued):
    refresh()
    first = the_open_candidate(queued)
    assert "waits for review" in refresh()
    assert the_open_candidate(queued) == first


def test_replace_closes_the_open_candidate_and_solves_again(queued, tmp_path):
    refresh()
    first = the_open_candidate(queued)
    file = tmp_path / "third.jsonl"
    file.write_text(FACT.format(subject="Italy", target="Milan"))
    submit_file(file)
    refresh(replace=True)
    assert queued.standing("candidate", first.key).state == "replaced"
    assert states(queued) == ["in candidate"] * 3


def test_the_same_facts_are_the_same_candidate_and_one_version(queued, tiny_platform):
    refresh()
    first = the_open_candidate(queued)
    refresh(replace=True)
    assert the_open_candidate(queued).key == first.key
    found = registry(tiny_platform).search_model_versions(f"name = '{tiny_platform.registered_model}'")
    assert len(found) == 1


def test_promotion_repeated_after_a_crash_changes_nothing(queued, trusted):
    refresh()
    candidate = the_open_candidate(queued).key
    promoter = trusted.promoter
    first = trusted.approve(candidate)
    again = approve(candidate, ledger=queued, settings=promoter)
    assert first == again and first.position == 1
    assert promote(first, settings=promoter, ledger=queued) == promote(first, settings=promoter, ledger=queued)
    assert states(queued) == ["released", "released"]
    assert queued.standing("candidate", candidate).state == "promoted"


def test_a_withdrawn_correction_is_in_no_candidate(queued):
    key = corrections_in(queued, "queued")[0].id
    queued.append([Event(entity="correction", key=key, kind="cancelled", actor="ada")])
    refresh()
    assert states(queued) == ["cancelled", "in candidate"]


def test_a_model_without_a_known_layout_ends_the_run_by_name_and_loses_nothing(
    queued, tiny_folder, tmp_path, monkeypatch
):
    from transformers import BloomConfig, BloomForCausalLM

    folder = tmp_path / "bloom"
    BloomForCausalLM(BloomConfig(vocab_size=400, hidden_size=32, n_layer=2, n_head=2)).save_pretrained(folder)
    for file in tiny_folder.glob("tokenizer*"):
        shutil.copy(file, folder)
    monkeypatch.setenv("CORRIGENDA_MODEL", str(folder))
    with pytest.raises(UnknownLayoutError, match=r"'BloomForCausalLM'.*LAYOUTS in editors/layouts\.py"):
        refresh()
    assert states(queued) == ["queued", "queued"]
    assert the_open_candidate(queued) is None


@pytest.mark.parametrize(
    ("layers", "error", "said"),
    [
        ("[3, 40]", UnknownSiteError, r"layers\.40"),
        ("[8, 9]", InvalidConfigError, "layer 9 is the last of the model"),
        ("[5, 4]", InvalidConfigError, r"layers are \(5, 4\); they must be ascending"),
    ],
)
def test_layers_at_which_nothing_can_be_written_end_the_run_by_name_and_lose_nothing(
    queued, monkeypatch, layers: str, error: type[EditorError], said: str
):
    monkeypatch.setenv("CORRIGENDA_LAYERS", layers)
    with pytest.raises(error, match=said):
        refresh()
    assert states(queued) == ["queued", "queued"]
    assert the_open_candidate(queued) is None


def test_a_candidate_is_made_at_the_layers_that_are_set_and_says_so(queued, monkeypatch):
    monkeypatch.setenv("CORRIGENDA_LAYERS", "[1, 3]")
    refresh()
    store = Store(Settings())
    manifest = store.manifest(the_open_candidate(queued).key)
    assert manifest["editor_settings"]["layers"] == [1, 3]
    file = store.copy_in(Settings().home / "cache" / "patches", manifest["patch"], "safetensors")
    patch = Patch.load(file.path, expected=manifest["patch"])
    assert list(patch.deltas) == [f"model.layers.{layer}.mlp.down_proj.weight" for layer in (1, 3)]
