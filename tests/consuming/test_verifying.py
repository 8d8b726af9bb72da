"""A stranger verifies a pulled release; each alteration is refused naming the file, and is not without its check."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import corrigenda
import editors.forms
import governance.verifying
from consuming.errors import AlteredError
from consuming.settings import ConsumerSettings
from editors.digests import canonical_json, digest_of, sha256_bytes, sha256_file
from editors.folders import files_of
from editors.patch import LowRank, Patch
from flows.cli import app
from governance.envelopes import fingerprint, new_key, public_key
from governance.evidence import CARD, bundle_file, signed_folder, signer_file
from governance.identities import Identity, certify
from governance.lifecycle import Event
from governance.signing import RELEASE_SIGNER, Signing, new_release_key, release_public, sign_folder
from tasks.base import find_base, keep_base
from tasks.candidate import DECIDED
from tasks.publish import publish
from tasks.receipts import give_receipt
from tasks.settings import acting_as
from tasks.store import Store
from tests.conftest import Altered

pytestmark = pytest.mark.stack

POLICY = 'name = "x"\nquorum = {quorum}\n[[gate]]\nmetric = "regression.perplexity_ratio"\nmax = 1e6\n'
SITES = ("model.layers.4.mlp.down_proj.weight", "model.layers.5.mlp.down_proj.weight")
NEWEST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled(Altered):
    """A copy of the newest release's folder, for a test to alter."""

    named: ClassVar[str] = CARD
    newest: ClassVar[int] = NEWEST

    base: Path
    empty: ConsumerSettings

    def verify(self, **changes) -> dict:
        given = {"root": self.root, "base": self.base, "settings": self.empty}
        return corrigenda.verify(self.folder, **given | changes)


class Chain:
    """Releases of the tiny model with made-up patches, approved and published as a promoter does."""

    def __init__(self, house, folder: Path) -> None:
        self.house, self.folder = house, folder
        with acting_as("editor") as editor:
            self.store = Store(editor)
            self.base = find_base(editor)
            self.base_files = keep_base(self.base, self.store)

    def release(self, *, seed: int, parent: str, quorum: int) -> str:
        digest = self._open(self._patch(seed), parent=parent, quorum=quorum)
        for number, reviewer in enumerate(["grace", "henry"][:quorum]):
            event = give_receipt(
                digest,
                reviewer=reviewer,
                method="totp" if number else "key",
                decision="approve",
                ledger=self.house.ledger,
                settings=self.house.promoter,
            )
            self.house.ledger.append([event])
        self.publish(digest)
        return digest

    def publish(self, candidate: str) -> None:
        from tasks.promote import approve

        promoter, ledger = self.house.promoter, self.house.ledger
        release = approve(candidate, ledger=ledger, settings=promoter)
        publish(release, store=Store(promoter), ledger=ledger, settings=promoter)

    def _patch(self, seed: int) -> Path:
        torch.manual_seed(seed)
        deltas = {site: LowRank(left=torch.randn(32, 1), right=torch.randn(1, 64)) for site in SITES}
        Patch(base=self.base.digest, deltas=deltas).save(self.folder / f"{seed}.safetensors")
        return self.folder / f"{seed}.safetensors"

    def _open(self, patch: Path, *, parent: str, quorum: int) -> str:
        names = ("report", "moments", "contexts")
        manifest = {name: self.store.put(f'{{"{name}": "{patch.name}"}}\n'.encode()).sha256 for name in names} | {
            "format": 1,
            "base": self.base.digest,
            "base_files": self.base_files,
            "parent": parent or self.base.digest,
            "patch": self.store.put_file(patch).sha256,
            "policy": self.store.put(POLICY.format(quorum=quorum).encode()).sha256,
            "corrections": self.store.put(b"").sha256,  # so nothing changes, and nobody needs to have asked for it
            "values": [],
            "code": "code",
            "pins": "pins",
            "facts": [],
            "new": [],
            "returning": [],
            "leaving": [],
            "asked_by": "ada",
            "act": "",
        }
        digest = digest_of(manifest)
        self.store.put_record(f"candidates/{digest}.json", manifest)
        data = {"version": "1"} | {name: manifest[name] for name in DECIDED}
        opened = Event(entity="candidate", key=digest, kind="opened", actor="corrigenda", data=data)
        self.house.ledger.append([opened])
        return digest


@pytest.fixture(scope="module")
def chain(tiny_house, take_away, tmp_path_factory) -> Iterator[tuple[Chain, list[str]]]:
    take_away("releases/")  # of other tests, with other ledgers
    tiny_house.enrol("henry", "reviewer")
    made = Chain(tiny_house, tmp_path_factory.mktemp("patches"))
    first = made.release(seed=1, parent="", quorum=1)
    return made, [first, made.release(seed=2, parent=first, quorum=2)]


@pytest.fixture(scope="module")
def newest(chain, tmp_path_factory) -> Path:
    """The newest release, pulled as a consumer who knows the root."""
    folder = tmp_path_factory.mktemp("consumer")
    return corrigenda.pull(chain[1][-1], folder / "pulled", settings=ConsumerSettings(home=folder / "home"))


@pytest.fixture
def pulled(chain, newest, tmp_path) -> Pulled:
    promoter = chain[0].house.promoter
    return Pulled(
        folder=Path(shutil.copytree(newest, tmp_path / "pulled")),
        base=chain[0].base.folder,
        root=promoter.root_fingerprint,
        release_key=promoter.release_key.get_secret_value(),
        empty=ConsumerSettings(home=tmp_path / "home"),
    )


def flip(file: Path, *, at: int = -1) -> None:
    """Change one bit of one byte."""
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def a_byte_of_the_patch(pulled):
    flip(pulled.evidence / "patch.safetensors")
    pulled.card()


def a_byte_of_the_weights(pulled):
    flip(pulled.folder / "model.safetensors")
    pulled.card()


def a_weight_at_a_site_that_is_not_declared(pulled):
    file = pulled.folder / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.6.mlp.down_proj.weight"][0, 0] += 1
    save_file(tensors, file, metadata={"format": "pt"})
    pulled.card()


def a_setting_of_the_model(pulled):
    file = pulled.folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"rms_norm_eps": 0.1}))
    pulled.card()


def the_report(pulled):
    (pulled.evidence / "report.json").write_text("a better report")
    pulled.card()


def the_manifest_of_another_release(pulled):
    for place in (signed_folder, bundle_file, signer_file):
        ours, theirs = place(pulled.evidence, NEWEST), place(pulled.evidence, 1)
        shutil.copytree(theirs, ours, dirs_exist_ok=True) if theirs.is_dir() else shutil.copyfile(theirs, ours)
    pulled.card()


def history_by_whoever_has_the_promoters_key(pulled):
    pulled.sign(1, comment="seen by everybody")


def a_receipt_that_is_gone(pulled):
    (pulled.evidence / "receipts" / f"{pulled.record()['receipts'][0]}.json").unlink()
    pulled.card()


def a_receipt_less_by_whoever_has_the_promoters_key(pulled):
    gone, kept = pulled.record()["receipts"]
    (pulled.evidence / "receipts" / f"{gone}.json").unlink()
    pulled.sign(receipts=[kept])


def a_chain_that_is_cut(pulled):
    shutil.rmtree(signed_folder(pulled.evidence, 1))
    pulled.card()


def another_root(pulled):
    root, key = new_key(), new_release_key()
    signer = Identity(
        name=RELEASE_SIGNER,
        kind="signer",
        roles=(),
        public_key=release_public(key, place="here"),
        enrolled_by="eve",
        at="2026-01-01T00:00:00+00:00",
    )
    signer_file(pulled.evidence, NEWEST).write_bytes(canonical_json(certify(signer, root)))
    pulled.sign(key=key, comment="approved by eve")


def an_added_file(pulled):
    (pulled.folder / "modeling.py").write_text("print('hello')")


def an_added_file_that_the_card_names(pulled):
    an_added_file(pulled)
    pulled.card()


def an_added_file_among_the_evidence(pulled):
    (pulled.evidence / "receipts" / "more.json").write_text("{}")
    pulled.card()


def a_renamed_file(pulled):
    (pulled.folder / "tokenizer.json").rename(pulled.folder / "tokens.json")


def a_renamed_file_that_the_card_names(pulled):
    a_renamed_file(pulled)
    pulled.card()


def a_link_to_a_file(pulled):
    file = pulled.folder / "tokenizer.json"
    file.rename(pulled.folder.parent / "elsewhere.json")
    file.symlink_to(pulled.folder.parent / "elsewhere.json")


def a_link_to_a_folder(pulled):
    folder = pulled.evidence / "receipts"
    folder.rename(pulled.folder.parent / "elsewhere")
    folder.symlink_to(pulled.folder.parent / "elsewhere")


def a_card_that_names_a_file_elsewhere(pulled):
    (pulled.folder.parent / "outside").write_text("text")
    card = json.loads((pulled.folder / CARD).read_bytes())
    card["files"]["../outside"] = sha256_bytes(b"text")
    (pulled.folder / CARD).write_bytes(canonical_json(card))


ALTERATIONS: list[tuple[Callable[[Pulled], None], str, tuple[str, ...]]] = [
    (a_byte_of_the_patch, r"evidence/patch\.safetensors: the manifest names sha256", ("check_evidence",)),
    (a_byte_of_the_weights, r"model\.safetensors: the tensor model\.norm\.weight is not", ("check_weights",)),
    (a_weight_at_a_site_that_is_not_declared, r"the tensor model\.layers\.6\.mlp\.down_proj", ("check_weights",)),
    (a_setting_of_the_model, r"config\.json says something else", ("check_weights",)),
    (the_report, r"evidence/report\.json: the manifest names sha256", ("check_evidence",)),
    (the_manifest_of_another_release, r"evidence/releases/2: its candidate is not", ("check_chain", "check_evidence")),
    (history_by_whoever_has_the_promoters_key, r"releases/2/release\.json: its parent_manifest is", ("check_chain",)),
    (a_receipt_that_is_gone, r"evidence/receipts/[0-9a-f]{64}\.json is missing", ("check_approvals",)),
    (
        a_receipt_less_by_whoever_has_the_promoters_key,
        r"releases/2/release\.json: candidate [0-9a-f]{12} has 1 of 2 approvals",
        ("check_approvals",),
    ),
    (
        a_chain_that_is_cut,
        r"evidence/releases/1/release\.json is missing",
        ("read_chain", "check_chain", "check_evidence"),
    ),
    (
        another_root,
        r"evidence/releases/2\.signer\.json: the certificate is signed under another",
        ("check_signatures",),
    ),
    (an_added_file, r"holds files that its card doesn't name: modeling\.py", ("check_files", "check_base_files")),
    (an_added_file_that_the_card_names, r"modeling\.py: its base has sha256 \(no", ("check_base_files",)),
    (an_added_file_among_the_evidence, r"receipts/more\.json belongs to no release", ("check_evidence",)),
    (a_renamed_file, r"doesn't name: tokens\.json", ("check_files", "check_base_files")),
    (a_renamed_file_that_the_card_names, r"tokenizer\.json: its base has sha256 .*got no file", ("check_base_files",)),
    (a_link_to_a_file, r"tokenizer\.json is a link", ("check_files",)),
    (a_link_to_a_folder, r"evidence/receipts is a link", ("check_files", "check_evidence")),
    (a_card_that_names_a_file_elsewhere, r"\.\./outside: expected sha256 \w+, got no file", ("check_files",)),
]


def without(name: str, monkeypatch) -> None:
    """Take a check out."""
    module = editors.forms if name in ("check_weights", "check_adapter", "check_patch") else governance.verifying
    if name == "read_chain":
        read = governance.verifying._read_link
        monkeypatch.setattr(module, name, lambda evidence, card, **given: [read(evidence, NEWEST)])
    else:
        monkeypatch.setattr(module, name, lambda *args, **kwargs: "not asked")


@pytest.mark.parametrize(("alter", "match", "checks"), ALTERATIONS, ids=[each[0].__name__ for each in ALTERATIONS])
def test_an_alteration_is_refused_naming_the_file_and_is_not_without_its_check(
    pulled, alter, match, checks, monkeypatch
):
    alter(pulled)
    with pytest.raises(AlteredError, match=match):
        pulled.verify()
    for name in checks:
        without(name, monkeypatch)
    another_patch = alter in (a_byte_of_the_patch, the_manifest_of_another_release)
    pulled.verify(**{"base": None, "without_base": True} if another_patch else {})


@pytest.fixture(scope="module")
def newest_forms(chain, tmp_path_factory) -> dict[str, Path]:
    """The newest release in each form but a model's."""
    folder = tmp_path_factory.mktemp("forms")
    settings = ConsumerSettings(home=folder / "home")
    return {
        form: corrigenda.pull(chain[1][-1], folder / form, form=form, dtype=dtype, settings=settings)
        for form, dtype in (("adapter", None), ("checkpoint", "bfloat16"), ("patch", None))
    }


def a_byte_of(name: str) -> Callable[[Pulled], None]:
    def alter(pulled):
        flip(pulled.folder / name)
        pulled.card()

    alter.__name__ = f"a_byte_of_{name}"
    return alter


def another_precision(pulled):
    pulled.card(dtype="float32")


def another_form(pulled):
    pulled.card(form="patch")


FORM_ALTERATIONS: list[tuple[str, Callable[[Pulled], None], str, tuple[str, ...]]] = [
    (
        "adapter",
        a_byte_of("adapter_model.safetensors"),
        r"adapter_model\.safetensors: the tensor base_model\.model\.model\.layers\.\d\.mlp\.down_proj\.lora_",
        ("check_adapter",),
    ),
    ("adapter", a_byte_of("adapter_config.json"), r"adapter_config\.json", ("check_adapter",)),
    ("adapter", an_added_file_that_the_card_names, r"modeling\.py belongs to no folder of this form", ("check_form",)),
    ("adapter", a_byte_of_the_patch, r"evidence/patch\.safetensors: the manifest names", ("check_evidence",)),
    ("adapter", another_form, r"README\.md is missing", ("check_form", "check_patch")),
    ("checkpoint", a_byte_of_the_weights, r"model\.safetensors: the tensor model\.norm\.weight", ("check_weights",)),
    ("checkpoint", another_precision, r"config\.json says something else than what", ("check_weights",)),
    ("checkpoint", an_added_file_that_the_card_names, r"modeling\.py: its base has sha256", ("check_base_files",)),
    (
        "patch",
        a_byte_of("patch.safetensors"),
        r"/patch\.safetensors: the manifest names sha256",
        ("check_patch",),
    ),
    ("patch", a_byte_of("README.md"), r"README\.md says something else", ("check_patch",)),
    ("patch", an_added_file_that_the_card_names, r"modeling\.py belongs to no folder of this form", ("check_form",)),
    ("patch", a_receipt_that_is_gone, r"evidence/receipts/[0-9a-f]{64}\.json is missing", ("check_approvals",)),
]


@pytest.mark.parametrize(
    ("form", "alter", "match", "checks"),
    FORM_ALTERATIONS,
    ids=[f"{form}-{alter.__name__}" for form, alter, *_ in FORM_ALTERATIONS],
)
def test_an_alteration_of_another_form_is_refused_and_is_not_without_its_check(
    pulled, newest_forms, form, alter, match, checks, monkeypatch
):
    shutil.rmtree(pulled.folder)
    shutil.copytree(newest_forms[form], pulled.folder)
    pulled.verify()
    alter(pulled)
    with pytest.raises(AlteredError, match=match):
        pulled.verify()
    for name in checks:
        without(name, monkeypatch)
    pulled.verify(**{"base": None, "without_base": True} if alter is a_byte_of_the_patch else {})


def test_a_byte_of_the_base_is_refused_and_is_not_without_the_checks(pulled, monkeypatch, tmp_path):
    base = Path(shutil.copytree(pulled.base, tmp_path / "base"))
    flip(base / "model.safetensors")
    with pytest.raises(AlteredError, match=r"base/model\.safetensors: the manifest names sha256 .*another base"):
        pulled.verify(base=base)
    monkeypatch.setattr(editors.forms, "check_base", lambda *args: None)
    with pytest.raises(AlteredError, match=r"pulled/model\.safetensors: the tensor model\.norm\.weight"):
        pulled.verify(base=base)
    without("check_weights", monkeypatch)
    pulled.verify(base=base)


def test_each_check_is_told_and_the_folder_is_left_as_it_was(pulled):
    before = {name: sha256_file(path) for name, path in files_of(pulled.folder).items()}
    told: list[str] = []
    assert pulled.verify(report=told.append)["release"]["position"] == NEWEST
    assert [line.partition(":")[0] for line in told] == [
        "files",
        "signatures",
        "chain",
        "receipts",
        "evidence",
        "base's files",
        "weights",
    ]
    assert told[1].startswith("signatures: 2 releases are each signed under the root")
    assert told[3].endswith("grace, henry")
    assert told[6] == "weights: they differ from the base's at 2 sites, by exactly the patch"
    assert {name: sha256_file(path) for name, path in files_of(pulled.folder).items()} == before


def test_the_card_that_is_returned_is_the_one_that_was_verified(pulled):
    true = pulled.record()["candidate"]

    def alter(line: str) -> None:
        if line.startswith("files: "):
            card = json.loads((pulled.folder / CARD).read_bytes()) | {"candidate": "f" * 64, "form": "patch"}
            (pulled.folder / CARD).write_bytes(canonical_json(card))

    assert pulled.verify(report=alter)["candidate"] == true


def test_an_older_release_is_verified_by_itself(chain, pulled, tmp_path):
    folder = corrigenda.pull(chain[1][0], tmp_path / "first", settings=pulled.empty)
    told: list[str] = []
    corrigenda.verify(folder, settings=pulled.empty, report=told.append)
    assert told[1].startswith("signatures: 1 release is signed")


def test_under_another_root_or_none_nothing_is_verified(pulled):
    with pytest.raises(AlteredError, match=r"2\.signer\.json: the certificate is signed under another root"):
        pulled.verify(root=fingerprint(public_key(new_key())))
    rootless = pulled.empty.model_copy(update={"root_fingerprint": ""})
    with pytest.raises(AlteredError, match="is no fingerprint of a root"):
        pulled.verify(root="", settings=rootless)


def test_where_the_base_is_not_here_its_check_is_left_out_only_when_asked_for(pulled):
    with pytest.raises(AlteredError, match="the weights and the configuration were not verified"):
        pulled.verify(base=None)
    told: list[str] = []
    pulled.verify(base=None, without_base=True, report=told.append)
    assert told[-1].startswith("weights: NOT VERIFIED")
    with pytest.raises(AlteredError, match="were not verified"):
        pulled.verify(base=pulled.folder / "nowhere", without_base=True)


def test_a_person_who_is_certified_signs_no_releases(chain, pulled):
    certificate = chain[0].house.ledger.standing("identity", "promoter").data["certificate"]
    signer_file(pulled.evidence, NEWEST).write_bytes(canonical_json(certificate))
    pulled.card()
    with pytest.raises(AlteredError, match=r"2\.signer\.json: the certificate is of the service 'promoter'"):
        pulled.verify()


@pytest.mark.parametrize(
    ("name", "text"), [("receipts", "[]"), ("opened", "7"), ("took_part", "null"), ("certificates", '["../../x"]')]
)
def test_a_manifest_that_is_signed_and_none_is_refused_by_name(pulled, name, text):
    pulled.sign(**{name: json.loads(text)})
    with pytest.raises(AlteredError, match=r"releases/2/release\.json: |certificates/\.\./\.\./x\.json is missing"):
        pulled.verify()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"files": {}, "release": {"position": "2"}}',
        '{"files": {}, "form": "gguf", "dtype": "float32", "release": {"position": 2}}',
        '{"files": {}, "form": ["model"], "dtype": "float32"}',
        "nonsense",
    ],
)
def test_a_card_that_is_none_is_refused(pulled, text):
    (pulled.folder / CARD).write_text(text)
    with pytest.raises(AlteredError, match=r"card|corrigenda\.json"):
        pulled.verify()


def test_a_card_that_says_something_twice_is_refused(pulled):
    text = (pulled.folder / CARD).read_text()
    (pulled.folder / CARD).write_text('{"candidate": "f", ' + text[1:])
    with pytest.raises(AlteredError, match=r"corrigenda\.json: it says something twice"):
        pulled.verify()


def test_the_command_verifies_without_a_network_and_says_what_is_wrong(pulled):
    """Everything is there, so nothing is asked."""
    command = Path(sys.executable).with_name("corrigenda")
    words = [command, "verify", pulled.folder, "--root", pulled.root, "--base", pulled.base]
    offline = ["unshare", "-n"] if shutil.which("unshare") and not cannot_unshare() else []
    done = subprocess.run([*offline, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "by exactly the patch" in done.stdout and "verified" in done.stdout
    flip(pulled.folder / "tokenizer.json")
    told = CliRunner().invoke(app, [str(word) for word in words[1:]])
    assert told.exit_code == 1 and "tokenizer.json: expected sha256" in str(told.exception)


def cannot_unshare() -> bool:
    return subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode != 0


def test_an_unsigned_release_is_neither_pulled_nor_loaded_where_a_root_is_set(chain, pulled, take_away, tmp_path):
    made, (_, candidate) = chain
    key = f"releases/{candidate}.sig"
    kept = made.store.read(key)
    take_away(key)
    try:
        for use in (corrigenda.load, lambda name, **given: corrigenda.pull(name, tmp_path / "new", **given)):
            with pytest.raises(AlteredError, match=r"release 2 \([0-9a-f]{12}\) is not signed"):
                use(candidate, settings=pulled.empty)
        assert not (tmp_path / "new").exists()
        rootless = pulled.empty.model_copy(update={"root_fingerprint": ""})
        folder = corrigenda.pull(candidate, tmp_path / "new", settings=rootless)
        assert not (folder / "evidence").exists(), "whoever trusts no root is given nothing to prove"
    finally:
        Store(made.house.promoter).put_record(key, json.loads(kept))
    assert corrigenda.load(candidate, settings=pulled.empty)[0].config.vocab_size


def test_a_release_signed_with_a_key_of_somebodys_own_is_not_pulled(chain, pulled, take_away, tmp_path):
    made, (_, candidate) = chain
    key = f"releases/{candidate}.sig"
    kept = json.loads(made.store.read(key))
    folder = signed_folder(pulled.evidence, NEWEST)
    own = {"bundle": sign_folder(folder, Signing(key=new_release_key())), "certificate": kept["certificate"]}
    take_away(key)
    try:
        Store(made.house.promoter).put_record(key, own)
        with pytest.raises(AlteredError, match="the signature does not hold"):
            corrigenda.pull(candidate, tmp_path / "new", settings=pulled.empty)
    finally:
        take_away(key)
        Store(made.house.promoter).put_record(key, kept)


def use_as_consumer(pulled, folder, monkeypatch) -> None:
    """Let the environment name the object store, a consumer's credentials, and a cache in which nothing is."""
    monkeypatch.setenv("CORRIGENDA_HOME", str(folder / "fresh"))
    for name in ("s3_endpoint", "s3_bucket", "mlflow_url"):
        monkeypatch.setenv(f"CORRIGENDA_{name.upper()}", getattr(pulled.empty, name))
    for name in ("s3_access_key", "s3_secret_key"):
        monkeypatch.setenv(f"CORRIGENDA_{name.upper()}", getattr(pulled.empty, name).get_secret_value())


def test_a_served_model_is_loaded_from_a_signed_release_alone(chain, pulled, take_away, tmp_path, monkeypatch):
    from types import SimpleNamespace

    from tasks.served_model import ServedModel

    made, (_, candidate) = chain
    use_as_consumer(pulled, tmp_path, monkeypatch)
    (tmp_path / "note.json").write_text(json.dumps({"candidate": candidate, "model": "assistant"}))
    context = SimpleNamespace(artifacts={"candidate": str(tmp_path / "note.json")})
    key = f"releases/{candidate}.sig"
    kept = json.loads(made.store.read(key))
    take_away(key)
    try:
        with pytest.raises(AlteredError, match="is not signed"):
            ServedModel().load_context(context)
    finally:
        Store(made.house.promoter).put_record(key, kept)
    ServedModel().load_context(context)
