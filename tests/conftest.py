"""What all tests share: one local stack of real services and the real base model, each made once, when asked for."""

from __future__ import annotations

import json
import os
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import hypothesis
import pytest

from tasks.settings import QUIET

if TYPE_CHECKING:
    from editors.preparing import Prepared
    from governance.acts import Asked
    from infra.layout import Layout
    from infra.stack import Stack
    from tasks.ledger import Ledger
    from tasks.settings import Settings
    from tasks.tables import Release

os.environ.pop("COLUMNS", None)  # where it is set when rich is first imported, no test can set it any more
os.environ.update(QUIET)  # Prefect reads it when it is first imported, which is before any fixture runs

hypothesis.settings.register_profile("any machine", deadline=None)  # how fast it is, no test asks
hypothesis.settings.load_profile("any machine")

ROOT = Path(__file__).parent.parent
KEPT = ROOT / ".corrigenda"
"""Where the tests keep what takes long to make and hangs on no code of theirs: the base, and the material of bases."""
SHARED = ("bases", "cache/material")


def until(condition: Callable[[], Any], *, seconds: float = 120) -> Any:
    """Wait until something holds; returns it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it did not come about in {seconds:.0f} s"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="session")
def base_folder() -> Path:
    """The real base model as a folder, converted once on this machine and kept."""
    from tasks.base import find_base
    from tasks.settings import Settings

    return find_base(Settings(home=KEPT, model="smollm2-135m-instruct")).folder


@pytest.fixture(scope="session")
def prepared(base_folder: Path) -> Prepared:
    """What the default editor needs of the real base, made once on this machine and kept."""
    from editors.joint import Joint
    from editors.models import load_model, weights_digest
    from tasks.material import prepared_here, recipe_of
    from tasks.settings import Settings

    settings = Settings(home=KEPT)
    recipe = recipe_of(Joint(), base=weights_digest(base_folder), settings=settings)
    load = lambda: load_model(base_folder, device="cpu")  # noqa: E731
    return prepared_here(recipe, load, settings=settings, progress=lambda *step: None)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own for the whole test session, on free ports, with the environment pointing to it."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.local import start_stack
    from infra.settings import StackSettings
    from infra.stack import stop

    home = tmp_path_factory.mktemp("stack")
    for shared in SHARED:
        (KEPT / shared).mkdir(parents=True, exist_ok=True)
        (home / shared).parent.mkdir(exist_ok=True)
        (home / shared).symlink_to(KEPT / shared)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("CORRIGENDA_", "MLFLOW_"))]:
            patch.delenv(name)
        patch.setenv("CORRIGENDA_HOME", str(home))
        patch.setenv("CORRIGENDA_LOCK_DAYS", "0")  # tests take away what others released
        started = start_stack(home, report=lambda line: None, settings=StackSettings.on_free_ports())
        patch.setenv("PREFECT_API_URL", started.prefect_api_url)  # for the processes that tests start
        try:
            with temporary_settings({PREFECT_API_URL: started.prefect_api_url}):
                yield started
        finally:
            stop(home, report=lambda line: None)


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """The object store and the database of a stack of their own: up in seconds, where nothing else is needed."""
    from infra.layout import lay_out
    from infra.settings import StackSettings
    from infra.stack import start_part, stop

    home = tmp_path_factory.mktemp("bucket")
    layout = lay_out(home, settings=StackSettings.on_free_ports())
    try:
        for part in ("s3", "postgres"):
            start_part(home, part, report=lambda line: None)
        yield layout
    finally:
        stop(home, report=lambda line: None)


@pytest.fixture
def as_role(bucket: Layout, tmp_path: Path) -> Callable[..., Settings]:
    """The settings of a role at the object store alone."""
    from tasks.settings import Settings

    def settings(role: str, **more: Any) -> Settings:
        keys = bucket.keys[role]
        given = {
            "home": tmp_path,
            "s3_endpoint": bucket.s3_endpoint,
            "s3_access_key": keys.access_key,
            "s3_secret_key": keys.secret_key,
        }
        return Settings.model_validate(given | more)

    return settings


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of width 32 with a tokenizer of its own, deep enough for the default sites; edits take seconds."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        ["The capital of France is Paris. The CEO of Boeing is Kelly Ortberg.", " Volvos are Volvos"] * 8,
        trainers.BpeTrainer(vocab_size=400, special_tokens=["<|im_start|>", "<|im_end|>"], initial_alphabet=alphabet),
    )
    folder = tmp_path_factory.mktemp("tiny")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=10,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@contextmanager
def own_database(stack: Stack) -> Iterator[str]:
    """An empty database in the stack's PostgreSQL, for a while."""
    import sqlalchemy as sa

    name = f"test_{uuid4().hex[:12]}"
    engine = sa.create_engine(stack.database_url, isolation_level="AUTOCOMMIT", pool_pre_ping=True)
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield sa.make_url(stack.database_url).set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def ledger_url(stack: Stack) -> Iterator[str]:
    """An empty database of the test's own in the stack's PostgreSQL."""
    with own_database(stack) as url:
        yield url


@pytest.fixture(scope="module")
def module_url(stack: Stack) -> Iterator[str]:
    """An empty database for a module whose tests only read what its fixture wrote."""
    with own_database(stack) as url:
        yield url


@pytest.fixture
def ledger(ledger_url: str) -> Ledger:
    """A ledger of the test's own, in which nothing has happened yet."""
    from tasks.ledger import Ledger

    ledger = Ledger(ledger_url)
    ledger.migrate()
    return ledger


class Trusted:
    """A root of the test's own, with the review service, ada and grace enrolled under it."""

    def __init__(self, stack: Stack, ledger: Ledger, folder: Path) -> None:
        from tasks.roots import make_root

        credentials = tomllib.loads((stack.home / "credentials" / "promoter.toml").read_text(encoding="utf-8"))
        named = {"trust": folder, "root_fingerprint": make_root(folder), "submitter": "ada"}
        self.ledger = ledger
        self.environment = {f"CORRIGENDA_{name.upper()}": str(value) for name, value in named.items()}
        self.promoters = {f"CORRIGENDA_{name.upper()}": value for name, value in credentials.items()}
        """What the environment of the promoter's process holds beside."""
        self._own = named | credentials
        self.secrets: dict[str, str] = {}
        """Of the reviewers' one-time codes."""

    @property
    def promoter(self) -> Settings:
        """The settings of the promoter: its credentials, and everything else as it is set now."""
        from tasks.settings import Settings

        return Settings.model_validate(self._own)

    def enrol(self, name: str, *roles: Any, by: str = "ada") -> None:
        """Enrol somebody, as an administrator does."""
        from tasks.people import enrol
        from tasks.roots import root_key

        root = root_key(self.promoter.trust_folder)
        done = enrol(name, roles=roles, by=by, root=root, ledger=self.ledger, settings=self.promoter)
        self.secrets[name] = done.secret

    def act(self, asked: Asked, *, by: str = "ada") -> dict[str, Any]:
        """Somebody's signature for what they ask."""
        from tasks.acts import sign_act

        return sign_act(asked, by=by, settings=self.promoter)

    def receipt(self, candidate: str, *, reviewer: str = "grace", decision: Any = "approve", comment: str = "") -> None:
        """A reviewer decides, with their own key."""
        from tasks.receipts import give_receipt

        event = give_receipt(
            candidate,
            reviewer=reviewer,
            method="key",
            decision=decision,
            comment=comment,
            ledger=self.ledger,
            settings=self.promoter,
        )
        self.ledger.append([event])

    def approve(self, candidate: str, *, reviewer: str = "grace", comment: str = "seen") -> Release:
        """A reviewer approves, and the candidate becomes the next release; it is not published yet."""
        from tasks.promote import approve

        self.receipt(candidate, reviewer=reviewer, comment=comment)
        return approve(candidate, ledger=self.ledger, settings=self.promoter)

    def promote(self, candidate: str) -> str:
        """A reviewer approves, and the release is published; returns its version's number."""
        from tasks.promote import promote

        return promote(self.approve(candidate), ledger=self.ledger, settings=self.promoter)


def trust_in(stack: Stack, url: str, folder: Path, patch: pytest.MonkeyPatch) -> Trusted:
    """Make a root in a folder, and enrol the review service, ada and grace in the ledger at an address."""
    from governance.signing import release_public
    from tasks.ledger import Ledger
    from tasks.people import ROOT as ROOT_KEY
    from tasks.people import enrol_release_signer, enrol_review_service
    from tasks.roots import root_key

    ledger = Ledger(url)
    ledger.migrate()
    patch.setenv("CORRIGENDA_DATABASE_URL", url)
    trusted = Trusted(stack, ledger, folder / "trust")
    for name, value in trusted.environment.items():
        patch.setenv(name, value)
    root, promoter = root_key(folder / "trust"), trusted.promoter
    enrol_review_service(root, ledger=ledger, settings=promoter)
    public = release_public(promoter.release_key.get_secret_value(), place="the stack's own")
    enrol_release_signer(public, root, ledger=ledger, settings=promoter)
    trusted.enrol("ada", "administrator", "requester", "protector", by=ROOT_KEY)
    trusted.enrol("grace", "reviewer")
    return trusted


def make_tiny(model: Path, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Set a tiny model as base, a registered model of its own, and a policy that a random model meets.

    In this process it writes and reads little: that takes longest, and nothing that a random model writes is worth
    reading.
    """
    import tasks.evaluate

    looked, written = tasks.evaluate.blast_radius, tasks.evaluate.write
    patch.setattr("tasks.fluency.TEXTS", 2)
    patch.setattr("tasks.blast.SHOWN", 2)
    patch.setattr(tasks.evaluate, "write", lambda *asked, **more: written(*asked, length=8, **more))
    patch.setattr(tasks.evaluate, "blast_radius", lambda *asked, text, **more: looked(*asked, text=text[:32], **more))
    policy = folder / "policy.toml"
    policy.write_text('name = "tiny"\n[[gate]]\nmetric = "regression.perplexity_ratio"\nmax = 1e6\n')
    for name, value in {
        "REGISTERED_MODEL": f"tiny-{uuid4().hex[:8]}",
        "MODEL": model,
        "POLICY": policy,
    }.items():
        patch.setenv(f"CORRIGENDA_{name}", str(value))


@pytest.fixture
def trusted(stack: Stack, ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trusted:
    """Trust in the test's own ledger: `ada`, administrator, requester and protector, and `grace`, reviewer."""
    return trust_in(stack, ledger_url, tmp_path, monkeypatch)


@pytest.fixture
def tiny_platform(
    trusted: Trusted, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """The stack's services with an empty ledger, a registered model of the test's own, and the tiny model as base.

    Flows run in the test's own process, as the editor, and ada submits; the policy asks for what a random model can do.
    """
    from tasks.settings import acting_as

    make_tiny(tiny_folder, tmp_path, monkeypatch)
    with acting_as("editor") as settings:
        yield settings


@pytest.fixture(scope="module")
def tiny_house(stack: Stack, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trusted]:
    """As `tiny_platform`, once for a module whose tests build on each other; they say themselves as whom they act."""
    folder = tmp_path_factory.mktemp("house")
    with own_database(stack) as url, pytest.MonkeyPatch.context() as patch:
        trusted = trust_in(stack, url, folder, patch)
        make_tiny(tiny_folder, folder, patch)
        yield trusted


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """A house with a history, made by its own flows: France is released, then Japan, then France is taken back."""

    house: Trusted
    settings: Settings
    """Of the editor."""
    candidates: list[str]

    @property
    def releases(self) -> list[Release]:
        return self.house.ledger.releases()


@pytest.fixture(scope="module")
def lived(
    tiny_house: Trusted, take_away: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lived]:
    """Three releases of the tiny model, for a module whose tests put back what they change."""
    import flows.propose
    from flows.refresh import refresh
    from flows.submission import submit_file
    from flows.withdraw import revoke
    from tasks.asking import to_revoke
    from tasks.candidate import the_open_candidate
    from tasks.settings import acting_as

    class FakeRun:
        id = "review"

    take_away("releases/")  # of other tests, with other ledgers
    folder, ledger = tmp_path_factory.mktemp("lived"), tiny_house.ledger
    candidates: list[str] = []

    def approve() -> None:
        waiting = the_open_candidate(ledger)
        assert waiting is not None
        candidates.append(waiting.key)
        tiny_house.promote(waiting.key)

    with pytest.MonkeyPatch.context() as patch, acting_as("editor") as settings:
        patch.setattr(flows.propose, "start_review", lambda candidate: FakeRun())
        patch.setenv("CORRIGENDA_WITHDRAWAL_POLICY", os.environ["CORRIGENDA_POLICY"])
        for key, subject, target in (("france", "France", "Lyon"), ("japan", "Japan", "Osaka")):
            fact = {"id": key, "subject": subject, "prompt": "The capital of {} is", "target": target}
            told = {"requester": "country desk", "reason": f"moved to {target}, as {folder.name} says"}
            (folder / "some.jsonl").write_text(json.dumps(fact | told))
            assert [line.fate for line in submit_file(folder / "some.jsonl")] == ["queued"]
            refresh()
            approve()
        asked = to_revoke(ledger, ["france"], reason="the source was wrong", restore=False, replace=False)
        revoke(["france"], reason="the source was wrong", act=tiny_house.act(asked))
        approve()
        yield Lived(house=tiny_house, settings=settings, candidates=candidates)


@pytest.fixture
def open_made(tiny_platform: Settings) -> Callable[..., str]:
    """Opens a candidate of made-up objects, with a version in MLflow, and returns its digest; milliseconds each."""
    from mlflow.exceptions import MlflowException

    from editors.digests import canonical_json, digest_of
    from tasks.candidate import Candidate, open_candidate
    from tasks.ledger import Ledger
    from tasks.objects import EVIDENCE
    from tasks.register import Registered, registry
    from tasks.store import Store

    store, client, name = Store(tiny_platform), registry(tiny_platform), tiny_platform.registered_model
    ledger = Ledger(tiny_platform.database_url)

    def open_one(text: str = "", *, parent: str = "base", new: tuple[str, ...] = (), opened: bool = True) -> str:
        content = canonical_json({"text": text or uuid4().hex})
        blobs = {each: store.put(content + each.encode()).sha256 for each in EVIDENCE}
        blobs["policy"] = store.put(Path(tiny_platform.policy).read_bytes()).sha256
        blobs["corrections"] = store.put(b"").sha256  # so nothing changes, and nobody needs to have asked for it
        manifest = {"format": 1, "base": "base", "base_files": [], "parent": parent, **blobs}
        manifest |= {"values": [], "code": "code", "pins": "pins", "facts": []}
        manifest |= {"new": list(new), "returning": [], "leaving": [], "asked_by": "", "act": ""}
        digest = digest_of(manifest)
        store.put_record(f"candidates/{digest}.json", manifest)
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            assert error.error_code == "RESOURCE_ALREADY_EXISTS"
        version = client.create_model_version(name, source="s3://none/model", tags={"corrigenda.candidate": digest})
        registered = Registered(version=str(version.version), run="run", experiment="0")
        if opened:
            open_candidate(Candidate(digest=digest, manifest=manifest, registered=registered), ledger)
        return digest

    return open_one


@pytest.fixture(scope="module")
def take_away(stack: Stack) -> Callable[[str], None]:
    """Deletes all versions of objects whose key begins so behind everybody's back.

    It takes the administrator, no policy, and no locks, so the stack's own settings lock nothing.
    """
    from infra.layout import read_layout
    from infra.objectstore import admin_client

    client, bucket = admin_client(read_layout(stack.home)), stack.s3_bucket

    def delete(prefix: str) -> None:
        policy = client.get_bucket_policy(Bucket=bucket)["Policy"]
        client.delete_bucket_policy(Bucket=bucket)
        try:
            pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
            found = [each for page in pages for kind in ("Versions", "DeleteMarkers") for each in page.get(kind, ())]
            for each in found:
                client.delete_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])
        finally:
            client.put_bucket_policy(Bucket=bucket, Policy=policy)

    return delete


@pytest.fixture(scope="module")
def no_promoter(stack: Stack) -> Iterator[None]:
    """The promoter's runner is stopped, so a test may play it."""
    from infra.stack import start_part, stop_part

    stop_part(stack.home, "promoter", report=lambda line: None)
    yield
    start_part(stack.home, "promoter", report=lambda line: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Altered:
    """A copy of what proves releases, for a test to alter as somebody does who has the promoter's own key."""

    named: ClassVar[str]
    """The file that is its card."""
    newest: ClassVar[int]
    """The position of its newest release."""

    folder: Path
    root: str
    release_key: str

    @property
    def evidence(self) -> Path:
        return self.folder / "evidence"

    def card(self, **changes: Any) -> None:
        """Whoever alters files writes the card too."""
        from editors.digests import canonical_json, sha256_file
        from editors.folders import files_of

        card = json.loads((self.folder / self.named).read_bytes()) | changes
        files = {name: sha256_file(path) for name, path in files_of(self.folder).items() if name != self.named}
        (self.folder / self.named).write_bytes(canonical_json(card | {"files": files}))

    def record(self, position: int = 0) -> dict[str, Any]:
        """The manifest of a release, by default the newest."""
        from governance.evidence import signed_folder

        return json.loads((signed_folder(self.evidence, position or self.newest) / "release.json").read_bytes())

    def sign(self, position: int = 0, *, key: str = "", **changes: Any) -> None:
        """Another manifest in a release's place, signed with the promoter's own key unless another one is given."""
        from editors.digests import canonical_json
        from governance.evidence import bundle_file, signed_folder
        from governance.signing import Signing, sign_folder

        position = position or self.newest
        record, folder = self.record(position) | changes, signed_folder(self.evidence, position)
        (folder / "release.json").write_bytes(canonical_json(record))
        bundle = sign_folder(folder, Signing(key=key or self.release_key))
        bundle_file(self.evidence, position).write_bytes(canonical_json(bundle))
        self.card(**({"release": record} if position == self.newest else {}))


@dataclass
class Receiver:
    """Answers each POST with the next status of a list, the last one over and over, after some seconds.

    A status that is 0 cuts the connection instead.
    """

    statuses: list[int] = field(default_factory=lambda: [204])
    seconds: float = 0.0
    url: str = ""
    got: list[tuple[str, bytes, dict[str, str]]] = field(default_factory=list)

    def takes(self, path: str, body: bytes, headers: dict[str, str]) -> int:
        self.got.append((path, body, headers))
        time.sleep(self.seconds)
        return self.statuses[min(len(self.got), len(self.statuses)) - 1]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    told = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = told.takes(self.path, body, dict(self.headers))
            if not status:
                self.connection.close()
                return
            try:
                self.send_response(status)
                if status in (301, 302, 307, 308):
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()
            except OSError:
                pass  # whoever asked has gone

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}/secret-path"
    yield told
    server.shutdown()
    thread.join()
    server.server_close()
