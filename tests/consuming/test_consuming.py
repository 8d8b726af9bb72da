"""What a consumer does with releases in MLflow and the object store: forms, three ways to load, the lock file."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import tomllib
import venv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution, distributions
from pathlib import Path

import httpx
import pytest
import torch
from packaging.requirements import Requirement
from typer.testing import CliRunner

import consuming.pinning
import consuming.verifying
import consuming.versions
import corrigenda
import flows.propose
from consuming.errors import AlteredError, FormError, LockError, NotReleasedError, UnknownVersionError
from consuming.pulling import cached
from consuming.settings import ConsumerSettings
from editors.scoring import generate
from flows.cli import app
from flows.refresh import refresh
from flows.submission import submit_file
from flows.withdraw import revoke
from governance.envelopes import fingerprint, new_key, public_key
from infra.pins import closure
from tasks.asking import to_revoke
from tasks.candidate import the_open_candidate
from tasks.settings import acting_as
from tasks.store import Store

pytestmark = [
    pytest.mark.stack,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),  # peft asks for it
]

ROOT = Path(__file__).parents[2]
DOCUMENTATION = ROOT / "docs" / "consuming.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SITE = Path(f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages")
CONSUMER = """
import importlib.util, json, sys
import corrigenda
name, lines = sys.argv[1], []
folder = corrigenda.pull(name, "served", report=lines.append)
card = corrigenda.verify(folder, report=lines.append)
model, tokenizer = corrigenda.load(name)
with open("told.json", "w") as file:
    json.dump({
        "candidate": card["candidate"],
        "lines": lines,
        "vocabulary": model.config.vocab_size,
        "from": corrigenda.__file__,
        "imported": [name for name in sys.modules if name.partition(".")[0] in ("tasks", "flows", "infra")],
        "there": [name for name in ("prefect", "sqlalchemy", "peft", "pytest") if importlib.util.find_spec(name)],
    }, file)
"""
FENCED = re.compile(r"(<!-- not run: .+ -->\n)?^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROMPT = "The capital of {} is"
REASON = "the source was wrong"
FACTS = {
    "france": {"subject": "France", "target": "Lyon"},
    "japan": {"subject": "Japan", "target": "Osaka"},
    "italy": {"subject": "Italy", "target": "Turin"},
}


@dataclass(frozen=True, kw_only=True)
class Releases:
    """Three releases: France and Japan; Italy too; and without Japan, which was revoked.

    Attributes:
        model: what MLflow calls it.
        made: their digests, oldest first.
        first_lock: the lock file as it was written while the first of them was the champion.
        root: the fingerprint of the root.
        store: the object store, seen by the promoter.
    """

    model: str
    made: list[str]
    first_lock: str
    root: str
    store: Store

    @property
    def champion(self) -> str:
        return f"{self.model}@champion"


@pytest.fixture(scope="module")
def releases(tiny_house, tmp_path_factory) -> Iterator[Releases]:
    class FakeRun:
        id = "review"

    folder, ledger, made = tmp_path_factory.mktemp("corrections"), tiny_house.ledger, []

    def promote() -> None:
        made.append(the_open_candidate(ledger).key)
        tiny_house.promote(made[-1])

    def release(*names: str) -> None:
        file = folder / "some.jsonl"
        shared = {"prompt": PROMPT, "requester": "ada", "reason": f"for {folder.name}"}
        file.write_text("\n".join(json.dumps({"id": name} | FACTS[name] | shared) for name in names))
        assert [line.fate for line in submit_file(file)] == ["queued"] * len(names)
        refresh()
        promote()

    with pytest.MonkeyPatch.context() as patch, acting_as("editor") as settings:
        patch.setattr(flows.propose, "start_review", lambda candidate: FakeRun())
        patch.setenv("CORRIGENDA_WITHDRAWAL_POLICY", str(settings.policy))
        release("france", "japan")
        locked = ConsumerSettings(lock=folder / "corrigenda.lock")
        corrigenda.lock([f"{settings.registered_model}@champion"], settings=locked)
        release("italy")
        act = tiny_house.act(to_revoke(ledger, ["japan"], reason=REASON, restore=False, replace=False))
        revoke(["japan"], reason=REASON, act=act, restore=False, replace=False)
        promote()
        for thread in [each for each in threading.enumerate() if each.name.startswith("notice")]:
            thread.join()  # it reads the environment, which the tests change
        yield Releases(
            model=settings.registered_model,
            made=made,
            first_lock=locked.lock.read_text(),
            root=settings.root_fingerprint,
            store=Store(tiny_house.promoter),
        )


@pytest.fixture
def here(releases, tmp_path, monkeypatch) -> Path:
    """A folder to work in as a consumer: its credentials alone, and a cache in which nothing is."""
    settings = ConsumerSettings()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("CORRIGENDA_S3_")]:
            patch.delenv(name)
        with acting_as("consumer") as consumer:
            keys = {name: getattr(consumer, name).get_secret_value() for name in ("s3_access_key", "s3_secret_key")}
    places = {name: getattr(settings, name) for name in ("s3_endpoint", "s3_bucket", "mlflow_url")}
    for name, value in (keys | places | {"home": str(tmp_path / "home")}).items():
        monkeypatch.setenv(f"CORRIGENDA_{name.upper()}", value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def lock(here, releases) -> Path:
    """The lock file that pins the champion of the first release."""
    (here / "corrigenda.lock").write_text(releases.first_lock)
    return here / "corrigenda.lock"


def link_all(names: list[str], site: Path) -> None:
    """Link what distributions consist of: a folder as a whole where it is one's own, else file by file."""
    owners = Counter(top for each in distributions() for top in {file.parts[0] for file in each.files or ()})
    for name in names:
        found = distribution(name)
        for file in found.files or ():
            top = file.parts[0]
            place = site / (top if owners[top] == 1 else str(file))
            if top != ".." and not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(Path(str(found.locate_file(place.relative_to(site)))))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Path:
    """An environment with the core dependencies and nothing else.

    It is a real one, made by `venv`: its Python knows no other site-packages. Nothing is installed into it from an
    index, since the tests may have no network: what pyproject.toml's core dependencies lead to, by the installed
    metadata, is linked into it from the environment of the tests, and the project's own packages from the working copy.
    So it shows that no other distribution is needed, and not that an index delivers these.
    """
    folder = tmp_path_factory.mktemp("fresh")
    venv.EnvBuilder(symlinks=True).create(folder)
    core = closure([Requirement(line) for line in PROJECT["project"]["dependencies"]])
    link_all(sorted(core), folder / SITE)
    packages = {package.partition(".")[0] for package in PROJECT["tool"]["setuptools"]["packages"]}
    for name in [*packages, "corrigenda.py"]:
        (folder / SITE / name).symlink_to(ROOT / name)
    script = folder / "bin" / "corrigenda"
    script.write_text(f"#!{folder}/bin/python\nfrom flows.cli import main\nmain()\n")
    script.chmod(0o755)
    return folder


@pytest.fixture
def own(tmp_path) -> Path:
    """A folder with packages of the consumer's own, whose names are ours too."""
    for name in ("tasks", "flows", "infra"):
        (tmp_path / "own" / name).mkdir(parents=True)
        (tmp_path / "own" / name / "__init__.py").write_text("raise AssertionError('the wrong package was imported')")
    return tmp_path / "own"


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def run(*words: str | Path):
    return CliRunner().invoke(app, [str(word) for word in words])


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([[0, 9, 80, 81, 200, 33, 7]])).logits


def test_three_ways_of_loading_give_equal_logits(releases, here, capsys):
    import mlflow
    import pandas as pd
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(corrigenda.pull(releases.champion, here / "served"))
    adapter = corrigenda.pull(releases.champion, here / "adapter", form="adapter")
    named = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    base = AutoModelForCausalLM.from_pretrained(named)
    unedited = logits(base)
    adapted = PeftModel.from_pretrained(base, adapter)
    mlflow.set_tracking_uri(ConsumerSettings().mlflow_url)
    served = mlflow.pyfunc.load_model(f"models:/{releases.champion}")
    inner = served.unwrap_python_model()
    ways = {"mlflow.pyfunc": logits(inner._model), "peft": logits(adapted), "transformers": logits(plain)}
    differences = {f"{a} and {b}": float((ways[a] - ways[b]).abs().max()) for a in ways for b in ways if a < b}
    with capsys.disabled():
        print(f"\ngreatest difference of a logit: {differences}")
    assert differences["mlflow.pyfunc and transformers"] == 0.0
    assert max(differences.values()) < 1e-5
    assert float((unedited - ways["transformers"]).abs().max()) > 1e-2, "and all are edited"
    prompts = [PROMPT.format(fact["subject"]) for fact in FACTS.values()]
    assert served.predict(pd.DataFrame({"prompt": prompts})) == generate(plain, inner._tokenizer, prompts)


@pytest.mark.parametrize(
    ("form", "dtype"), [("model", None), ("adapter", None), ("checkpoint", "bfloat16"), ("patch", None)]
)
def test_each_form_is_verified_and_says_what_it_lost(releases, here, form, dtype):
    told: list[str] = []
    folder = corrigenda.pull(releases.champion, here / "pulled", form=form, dtype=dtype, report=told.append)
    card = json.loads((folder / "corrigenda.json").read_text())
    assert (card["form"], card["candidate"]) == (form, releases.made[-1])
    measured = form in ("adapter", "checkpoint")
    assert bool(card["lost"]) == measured == any("greatest logit difference" in line for line in told)
    assert (here / "home" / "cache" / "bases").exists() == (form != "patch"), "a patch needs no base"
    checked: list[str] = []
    assert corrigenda.verify(folder, report=checked.append) == card
    last = {"model": "weights: ", "adapter": "adapter: ", "checkpoint": "weights: ", "patch": "patch: "}[form]
    assert checked[6].startswith(last) and len(checked) == 7 + measured


@pytest.mark.parametrize(
    ("form", "dtype", "match"),
    [
        ("model", "bfloat16", "a model is in float32, so leave the precision out"),
        ("patch", "float32", "a patch is as it was made, so leave the precision out"),
        ("checkpoint", "float16", "can be had in float32 or bfloat16, and not in 'float16'"),
        ("gguf", None, "model, checkpoint, adapter, patch, and not as 'gguf'"),
    ],
)
def test_a_precision_or_a_form_that_means_nothing_is_refused(here, form, dtype, match):
    with pytest.raises(FormError, match=match):
        corrigenda.pull("a@b", here / "pulled", form=form, dtype=dtype)
    assert not (here / "pulled").exists()


def test_a_name_is_pinned_to_what_it_stands_for_and_only_the_command_moves_it(releases, lock):
    first, last = releases.made[0], releases.made[-1]
    text = lock.read_text()
    assert f'candidate = "{first}"' in text and f'root = "{releases.root}"' in text and "position = 1\n" in text
    result = run("lock", releases.champion, f"{releases.model}@previous")
    assert result.exit_code == 0
    assert f"to release 3 ({last[:12]}), and no longer to release 1 ({first[:12]})" in " ".join(result.output.split())
    pins = corrigenda.lock([], settings=ConsumerSettings())
    assert [pins[name].position for name in sorted(pins)] == [3, 2]


@pytest.mark.parametrize("name", ["{model}@nobody", "{model}/9", "a" * 64, "nonsense"])
def test_what_can_not_be_pinned_leaves_the_lock_file_as_it_was(releases, lock, name):
    before = lock.read_text()
    with pytest.raises(corrigenda.ReleaseError):
        corrigenda.lock([releases.champion, name.format(model=releases.model)])
    assert lock.read_text() == before


@pytest.mark.parametrize("root", ["", "settings"])
def test_what_is_not_signed_under_the_root_is_not_pinned_and_is_without_the_check(
    releases, lock, take_away, monkeypatch, root
):
    """The root is the settings' own, or where they name none the one that the entry names."""
    monkeypatch.setenv("CORRIGENDA_ROOT_FINGERPRINT", root and releases.root)
    before, key = lock.read_text(), f"releases/{releases.made[-1]}.sig"
    kept = releases.store.read(key)
    take_away(key)
    try:
        for names in ([releases.champion], [f"{releases.model}@previous", releases.champion]):
            with pytest.raises(AlteredError, match=r"release 3 \([0-9a-f]{12}\) is not signed"):
                corrigenda.lock(names)
        assert lock.read_text() == before
        monkeypatch.setattr(consuming.pinning, "check_proven", lambda *args, **kwargs: None)
        corrigenda.lock([releases.champion])
    finally:
        releases.store.put_record(key, json.loads(kept))
    assert releases.made[-1] in lock.read_text()


def test_where_no_root_is_set_the_pin_says_that_nothing_was_verified(releases, here, monkeypatch):
    monkeypatch.delenv("CORRIGENDA_ROOT_FINGERPRINT")
    told: list[str] = []
    pins = corrigenda.lock([releases.champion], report=told.append)
    assert pins[releases.champion].root == "" and len(told) == 1
    assert told[0].endswith("; it was NOT VERIFIED, for no root is set (CORRIGENDA_ROOT_FINGERPRINT)")
    corrigenda.pull(releases.champion, here / "pulled", report=told.append)
    assert "what proves it was NOT VERIFIED, for no root is set (CORRIGENDA_ROOT_FINGERPRINT)" in told


def test_what_is_pinned_is_pulled_loaded_and_told(releases, lock, here, caplog):
    told: list[str] = []
    folder = corrigenda.pull(releases.champion, here / "pulled", report=told.append)
    assert json.loads((folder / "corrigenda.json").read_text())["candidate"] == releases.made[0]
    assert told[0] == f"{releases.champion} is pinned to release 1 ({releases.made[0][:12]}) by corrigenda.lock"
    assert cached(releases.champion).name == releases.made[0]
    with caplog.at_level(logging.INFO, logger="corrigenda"):
        corrigenda.load(releases.champion)
    assert "is pinned to release 1" in caplog.text
    assert "is pinned to release 1" in run("pull", releases.champion, here / "again").output


def test_what_is_pinned_is_found_while_mlflow_is_away(releases, lock, monkeypatch):
    monkeypatch.setenv("CORRIGENDA_MLFLOW_URL", "http://127.0.0.1:9")
    assert cached(releases.champion).name == releases.made[0]


def test_a_digest_a_candidate_and_another_name_are_not_looked_up(releases, lock):
    last = releases.made[-1]
    assert cached(last).name == last
    assert cached(releases.champion, candidate=True).name == last
    assert cached(f"{releases.model}@previous").name == releases.made[1]
    lock.write_text("nonsense")
    assert cached(last).name == last
    with pytest.raises(LockError, match=r"corrigenda\.lock can't be read"):
        cached(f"{releases.model}@previous")


def test_a_lock_file_that_is_set_has_to_be_there(releases, lock, monkeypatch):
    monkeypatch.setenv("CORRIGENDA_LOCK", "another.lock")
    with pytest.raises(LockError, match=r"another\.lock is set as the lock file, and is not there; 'corrigenda lock"):
        cached(releases.champion)
    corrigenda.lock([f"{releases.model}@previous"])
    assert cached(f"{releases.model}@previous").name == releases.made[1]


@pytest.mark.parametrize("number", ["01", "0", "+1", "١"])
def test_a_number_has_one_spelling_which_the_lock_file_knows(releases, lock, number):
    with pytest.raises(UnknownVersionError, match="names no version"):
        cached(f"{releases.model}/{number}")


def test_mlflow_loads_what_is_pinned_of_a_model_and_nothing_else_of_it(releases, lock):
    import mlflow

    def patch_of_loaded(name: str) -> str:
        model = mlflow.pyfunc.load_model(f"models:/{name}").unwrap_python_model()._model
        return str(model.config.name_or_path)

    mlflow.set_tracking_uri(ConsumerSettings().mlflow_url)
    with pytest.raises(LockError, match=f"to release 1 .*, and MLflow was asked for {releases.made[-1][:12]}"):
        mlflow.pyfunc.load_model(f"models:/{releases.champion}")
    corrigenda.lock([f"{releases.model}@previous"])
    assert releases.made[1] in patch_of_loaded(f"{releases.model}@previous"), "one of several that are pinned"
    lock.unlink()
    assert releases.made[-1] in patch_of_loaded(releases.champion)


def another(what: str, releases: Releases, text: str) -> str:
    """A lock file whose entry says something else."""
    return {
        "position": text.replace("position = 1", "position = 2"),
        "patch": re.sub(r'patch = "\w+"', f'patch = "{"d" * 64}"', text),
        "root": text.replace(releases.root, "d" * 64),
    }[what]


@pytest.mark.parametrize("what", ["position", "patch"])
def test_what_is_not_what_the_entry_pins_is_refused_and_is_not_without_the_check(
    releases, lock, here, what, monkeypatch
):
    lock.write_text(another(what, releases, lock.read_text()))
    uses = (corrigenda.load, cached, lambda name: corrigenda.pull(name, here / "pulled"))
    for use in uses:
        with pytest.raises(LockError, match=rf'corrigenda\.lock, entry "{releases.champion}" pins the {what} '):
            use(releases.champion)
    assert not (here / "pulled").exists() and not (here / "home" / "cache").exists()
    monkeypatch.setattr(consuming.versions, "check_pinned", lambda *args, **kwargs: None)
    for use in uses:
        use(releases.champion)


def test_another_root_than_the_settings_name_is_refused(releases, lock, here, monkeypatch):
    lock.write_text(another("root", releases, lock.read_text()))
    with pytest.raises(LockError, match=rf"pins the root d+, and the settings name {releases.root}"):
        corrigenda.pull(releases.champion, here / "pulled")
    monkeypatch.delenv("CORRIGENDA_ROOT_FINGERPRINT")
    with pytest.raises(AlteredError, match="certificate is signed under another root"):
        corrigenda.pull(releases.champion, here / "pulled")
    assert not (here / "pulled").exists(), "where the settings name none, the entry's root holds"


def test_a_pinned_candidate_that_nobody_approved_is_refused(releases, lock):
    lock.write_text(lock.read_text().replace(releases.made[0], "d" * 64))
    with pytest.raises(NotReleasedError, match="nobody approved it"):
        corrigenda.load(releases.champion)


def test_a_lock_file_that_is_a_link_is_refused_by_every_use(releases, lock, here):
    lock.rename(here / "elsewhere")
    lock.symlink_to(here / "elsewhere")
    for words in (("pull", releases.champion, here / "pulled"), ("lock", releases.champion), ("ask", "Paris")):
        told = run(*words)
        assert told.exit_code == 1 and "corrigenda.lock is a link or no plain file" in str(told.exception)
    assert run("outdated").exit_code == 2


def test_a_folder_that_the_lock_file_does_not_pin_is_stale_and_passes_without_the_check(
    releases, lock, here, monkeypatch
):
    current = corrigenda.pull(releases.made[-1], here / "current")
    stale = rf"current is release 3 \({releases.made[-1][:12]}\), and corrigenda\.lock pins {releases.champion} at rel"
    with pytest.raises(LockError, match=rf"{stale}ease 1 \({releases.made[0][:12]}\): one of the two is stale\. 'corr"):
        corrigenda.verify(current, lock="corrigenda.lock")
    told = run("verify", current, "--lock", lock)
    assert told.exit_code == 1 and "is stale" in str(told.exception)
    with pytest.raises(LockError, match="pins nothing: one of the two is stale"):
        corrigenda.verify(current, lock="nowhere.lock")
    pinned = corrigenda.pull(releases.champion, here / "pinned")
    lines: list[str] = []
    corrigenda.verify(pinned, lock=lock, report=lines.append)
    assert lines[-1] == f"lock: {lock} pins it as {releases.champion}"
    lock.write_text(another("patch", releases, lock.read_text()))
    with pytest.raises(LockError, match=r'entry ".*" pins the patch d+, and there is'):
        corrigenda.verify(pinned, lock=lock)
    monkeypatch.setattr(consuming.verifying, "_verify_pinned", lambda *args, **kwargs: "not asked")
    for folder in (current, pinned):
        corrigenda.verify(folder, lock=lock)


def test_a_folder_verified_under_another_root_than_the_lock_file_names_is_refused(releases, lock, here):
    pinned = corrigenda.pull(releases.champion, here / "pinned")
    other = fingerprint(public_key(new_key()))
    lock.write_text(lock.read_text().replace(releases.root, other))
    with pytest.raises(LockError, match=f"pins the root {other}, and there is {releases.root}"):
        corrigenda.verify(pinned, lock=lock)


def test_outdated_says_what_is_behind_by_how_much_and_that_a_fact_was_revoked(releases, lock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    (found,) = corrigenda.outdated()
    assert (found.pin.position, found.now.release["position"]) == (1, 3)
    assert (found.added, found.withdrawn) == (["italy"], ["japan"])
    assert found.gone == [f"japan was revoked in release 3: {REASON}"] and found.outdated
    told = run("outdated")
    assert told.exit_code == 1
    row = next(line for line in told.output.splitlines() if releases.champion in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][1::2] == ["1", "3", "+1 -1"]
    assert f"pinned to a release with a fact that no longer holds: japan was revoked in release 3: {REASON}" in (
        told.output
    )
    corrigenda.lock([releases.champion])
    told = run("outdated")
    assert told.exit_code == 0 and "the same" in told.output and "no longer holds" not in told.output


def test_a_number_that_is_pinned_is_outdated_only_once_a_fact_of_it_was_revoked(releases, here):
    corrigenda.lock([f"{releases.model}/1", f"{releases.model}/3"])
    first, last = corrigenda.outdated()
    assert first.now.candidate == first.pin.candidate and not first.added and not first.withdrawn
    assert first.outdated and first.gone == [f"japan was revoked in release 3: {REASON}"]
    assert not last.outdated
    assert run("outdated").exit_code == 1


def test_outdated_can_not_tell_without_a_lock_file_or_a_registry(releases, here, monkeypatch):
    told = run("outdated")
    assert told.exit_code == 2 and "corrigenda.lock pins nothing; 'corrigenda lock NAME'" in told.output
    (here / "corrigenda.lock").write_text(releases.first_lock)
    monkeypatch.setenv("CORRIGENDA_S3_ENDPOINT", "http://127.0.0.1:9")
    assert run("outdated").exit_code == 2


def test_a_service_whose_name_is_pinned_says_so_and_does_not_follow_it(releases, lock):
    command = [sys.executable, "-P", "-c", "from flows.cli import main; main()", "serve", releases.champion]
    command += ["--port", "0", "--every", "0.5"]
    told = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            while not (url := re.search(r"http://\S+(?=/v1)", told)):
                told += process.stdout.readline()
                assert process.poll() is None, told
            health = lambda: httpx.get(f"{url[0]}/health", timeout=60).json()  # noqa: E731
            first = health()
            while (later := health())["checked"] == first["checked"]:
                time.sleep(0.2)
        finally:
            process.terminate()
        assert process.wait(60) == -signal.SIGTERM
    told = " ".join(told.split())
    assert "is pinned to release 1" in told and "only once the lock file names it" in told
    assert (later["release"], later["candidate"]) == (1, releases.made[0]), "the champion is release 3"
    assert later["pinned"] == "corrigenda.lock" and later["problem"] is None


def test_every_snippet_of_the_documentation_is_run_or_says_why_not(releases, here):
    """As one session, with this test's own model; a command is run in this process."""
    (here / "corrigenda.toml").write_text(f'root_fingerprint = "{releases.root}"\n')
    text, names, ran = DOCUMENTATION.read_text(), {}, []
    blocks = FENCED.findall(text)
    assert len(blocks) == text.count("\n```") / 2, "each block is one of ours"
    for why_not, language, snippet in blocks:
        told = snippet.replace("assistant@", f"{releases.model}@")
        if language == "python":
            exec(told, names)
        elif language == "sh":
            for line in told.splitlines():
                program, *words = shlex.split(line, comments=True)
                result = run(*words)
                assert (program, result.exit_code) == ("corrigenda", 0), result.output + repr(result.exception)
        else:
            assert why_not, f"a block of {language or 'no language'} is neither run nor says why not:\n{snippet}"
            continue
        ran.append(language)
    assert ran.count("sh") >= 4 and ran.count("python") >= 3
    assert names["card"]["candidate"] == releases.made[-1]
    assert float((logits(names["adapted"]) - logits(names["plain"])).abs().max()) < 1e-5
    assert {"served", "adapter", "half", "bare", "corrigenda.lock"} <= {path.name for path in here.iterdir()}


def test_the_environment_has_the_core_dependencies_and_no_others(fresh, own):
    program = "from importlib.metadata import distributions; print(*{d.name for d in distributions()})"
    done = subprocess.run([fresh / "bin" / "python", "-c", program], cwd=own, env=environment(), capture_output=True)
    assert done.returncode == 0, done.stderr
    there = {name.lower().replace("_", "-").replace(".", "-") for name in done.stdout.decode().split()}
    assert there == set(closure([Requirement(line) for line in PROJECT["project"]["dependencies"]]))
    assert not there & {"prefect", "sqlalchemy", "great-expectations", "mlflow", "peft", "pytest"}


def test_a_consumer_pulls_verifies_and_loads_in_it_beside_packages_of_their_own(releases, fresh, own):
    python = [fresh / "bin" / "python", "-W", "error::ImportWarning", "-c", CONSUMER, releases.champion]
    done = subprocess.run(python, cwd=own, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads((own / "told.json").read_text())
    assert told["candidate"] == releases.made[-1] and told["vocabulary"] > 0
    assert told["from"].startswith(str(fresh)) and told["imported"] == [] and told["there"] == []
    assert "weights: they differ from the base's at" in " ".join(told["lines"])
    for words in (("pull", releases.champion, "again"), ("verify", "again")):
        done = subprocess.run(
            [fresh / "bin" / "corrigenda", *words], cwd=own, env=environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
