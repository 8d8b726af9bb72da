"""A stranger verifies the exported history; an alteration is refused by the file's name, and not without its check."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from typer.testing import CliRunner

import corrigenda
import governance.auditing
import governance.verifying
from consuming.errors import AlteredError
from editors.digests import canonical_json, digest_of, sha256_file
from editors.folders import files_of
from flows.cli import app
from governance.acts import ACT
from governance.envelopes import claimed, fingerprint, new_key, public_key, sign, statement
from governance.events import GENESIS, digest_of_row, line_of, read_lines
from governance.evidence import AUDIT, bundle_file, signed_folder, signer_file
from governance.history import REVOKE_PERSON
from governance.identities import Identity, certify
from governance.receipts import BOUND_TO, Receipt, make
from governance.signing import RELEASE_SIGNER, new_release_key, release_public
from tasks.errors import IdentityError
from tasks.own_keys import sign_as
from tasks.people import identities
from tasks.roots import root_key
from tasks.sealing import new_sealing_key, unseal
from tasks.store import Store
from tests.conftest import Altered

pytestmark = pytest.mark.stack

NEWEST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported(Altered):
    """A copy of an export, for a test to alter."""

    named: ClassVar[str] = AUDIT
    newest: ClassVar[int] = NEWEST

    def verify(self, **changes) -> dict:
        return corrigenda.verify(self.folder, **{"root": self.root} | changes)

    def events(self) -> list[dict]:
        return list(read_lines(self.folder / "events.jsonl"))

    def write(self, events: list[dict], *, anew: bool = False) -> None:
        """Write other events, and a card that ends there; chained anew if wanted."""
        previous = GENESIS
        for seq, event in enumerate(events, start=1):
            if anew:
                event |= {"seq": seq, "previous": previous}
                event["digest"] = digest_of_row(event)
            previous = event["digest"]
        (self.folder / "events.jsonl").write_bytes(b"".join(map(line_of, events)))
        self.card(ledger={"sequence": events[-1]["seq"], "digest": events[-1]["digest"]})


def export(folder: Path, *, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["audit", "export", str(folder)], env={"COLUMNS": "250"})
    assert done.exit_code == code, done.output + repr(done.exception)
    return done.output if not code else f"{done.output}{done.exception}"


@pytest.fixture(scope="module")
def written(lived, tmp_path_factory) -> Path:
    """The whole history, as the command exports it."""
    folder = tmp_path_factory.mktemp("audit") / "export"
    told = export(folder)
    assert "3 releases, with all that proves them" in told and "verified, as whoever gets it does" in told
    return folder


@pytest.fixture
def exported(lived, written, tmp_path) -> Exported:
    promoter = lived.house.promoter
    return Exported(
        folder=Path(shutil.copytree(written, tmp_path / "export")),
        root=promoter.root_fingerprint,
        release_key=promoter.release_key.get_secret_value(),
    )


def of_a_refresh(events) -> dict:
    """An event on which nothing else hangs."""
    return next(event for event in events if event["entity"] == "refresh")


def a_byte_of_the_events(exported):
    file = exported.folder / "events.jsonl"
    content = file.read_bytes()
    assert content.count(b"moved to Lyon") == 1
    file.write_bytes(content.replace(b"moved to Lyon", b"moved to lyon"))
    exported.card()


def an_event_taken_out(exported):
    events = exported.events()
    exported.write([event for event in events if event is not of_a_refresh(events)])


def two_events_the_other_way_round(exported):
    events = exported.events()
    place = events.index(of_a_refresh(events))
    events[place : place + 2] = events[place + 1], events[place]
    exported.write(events)


def an_event_put_in_twice(exported):
    events = exported.events()
    place = events.index(of_a_refresh(events))
    exported.write(events[: place + 1] + events[place:])


def a_tail_that_is_cut(exported):
    approved = exported.record()["ledger"]["sequence"]
    exported.write(exported.events()[: approved - 1])


def a_history_that_is_chained_anew(exported):
    events = exported.events()
    reason = next(event for event in events if event["kind"] == "submitted")
    reason["actor"] = "somebody else"
    exported.write(events, anew=True)


def a_release_that_is_left_out(exported):
    for place in (signed_folder, bundle_file, signer_file):
        path = place(exported.evidence, NEWEST)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    manifest = json.loads((signed_folder(exported.evidence, 2) / "candidate.json").read_bytes())
    record = exported.record(2)
    exported.card(candidate=record["candidate"], manifest=manifest, release=record)


def all_releases_left_out(exported):
    shutil.rmtree(exported.evidence / "releases")
    exported.card(candidate=None, manifest=None, release=None)


def a_receipt_that_is_gone(exported):
    (exported.evidence / "receipts" / f"{exported.record()['receipts'][0]}.json").unlink()
    exported.card()


def the_manifest_of_another_release(exported):
    shutil.rmtree(signed_folder(exported.evidence, 2))
    shutil.copytree(signed_folder(exported.evidence, 1), signed_folder(exported.evidence, 2))
    exported.card()


def the_report_of_a_release(exported):
    (exported.evidence / "reports" / f"{exported.record(1)['report']}.json").write_text("a better report")
    exported.card()


def the_facts_of_a_release(exported):
    file = exported.evidence / "corrections" / f"{exported.record(1)['corrections']}.jsonl"
    file.write_text(file.read_text().replace("Lyon", "Nice"))
    exported.card()


def a_file_that_was_submitted(exported):
    file = next((exported.evidence / "submissions").iterdir())
    file.write_text(file.read_text().replace("Lyon", "Nice") + "\n")
    exported.card()


def an_act_that_is_gone(exported):
    next((exported.evidence / "acts").iterdir()).unlink()
    exported.card()


def an_act_that_says_something_else(exported):
    file = next((exported.evidence / "acts").iterdir())
    file.write_bytes(canonical_json(json.loads(file.read_bytes()) | {"payload": ""}))
    exported.card()


def an_added_file(exported):
    (exported.evidence / "acts" / "more.json").write_text("{}")


def an_added_file_that_the_card_names(exported):
    an_added_file(exported)
    exported.card()


def a_renamed_file(exported):
    (exported.folder / "README.md").rename(exported.folder / "READ.md")


def a_renamed_file_that_the_card_names(exported):
    a_renamed_file(exported)
    exported.card()


def a_link(exported):
    file = exported.folder / "events.jsonl"
    file.rename(exported.folder.parent / "elsewhere.jsonl")
    file.symlink_to(exported.folder.parent / "elsewhere.jsonl")


def another_root(exported):
    (exported.folder / "root.pub").write_text(public_key(new_key()) + "\n")
    exported.card()


def whoever_took_part_left_out_by_whoever_signs(exported):
    exported.sign(took_part=[])


def a_comment_by_whoever_signs(exported):
    exported.sign(comment="seen by everybody")


BY_EVENTS = ("check_releases", "check_decisions", "check_facts", "check_asked", "check_people")
MISSING = r"events\.jsonl: event \d+ is missing: behind event \d+ comes event"
UNRELEASED = r"events\.jsonl: event \d+ approved [0-9a-f]{12}, of which no release is here"
OTHER = r"/[0-9a-f]{64}\.jsonl?: the manifest names sha256"
ALTERATIONS: list[tuple[Callable[[Exported], None], str, tuple[str, ...]]] = [
    (
        a_byte_of_the_events,
        r"events\.jsonl: event \d+ .correction 'france' 'submitted'. was altered",
        ("check_events", "check_facts"),
    ),
    (an_event_taken_out, MISSING, ("check_events",)),
    (two_events_the_other_way_round, MISSING, ("check_events",)),
    (an_event_put_in_twice, MISSING, ("check_events",)),
    (a_tail_that_is_cut, r"events\.jsonl: its tail is cut: .*releases/3/release\.json names event \d+", BY_EVENTS),
    (
        a_history_that_is_chained_anew,
        r"events\.jsonl: event \d+ is not the one that .*/3/release",
        (*BY_EVENTS[:2], "check_asked"),
    ),
    (a_release_that_is_left_out, UNRELEASED, ("check_releases", "check_contents")),
    (all_releases_left_out, UNRELEASED, ("check_releases", "check_contents")),
    (a_receipt_that_is_gone, r"evidence/receipts/[0-9a-f]{64}\.json is missing", ("check_approvals", "check_contents")),
    (
        the_manifest_of_another_release,
        r"evidence/releases/2 and its signature .*2\.sig: .*release\.json has sha256",
        ("check_signatures", "check_chain", "check_contents", *BY_EVENTS),
    ),
    (the_report_of_a_release, f"evidence/reports{OTHER}", ("check_contents",)),
    (the_facts_of_a_release, f"evidence/corrections{OTHER}", ("check_facts", "check_asked", "check_contents")),
    (a_file_that_was_submitted, r"evidence/submissions/[0-9a-f]{64}: the manifest names sha256", ("check_contents",)),
    (an_act_that_is_gone, r"evidence/acts/[0-9a-f]{64}\.json is missing", ("check_contents",)),
    (an_act_that_says_something_else, f"evidence/acts{OTHER}", ("check_contents",)),
    (an_added_file, r"holds files that its card doesn't name: evidence/acts/more", ("check_files", "check_contents")),
    (an_added_file_that_the_card_names, r"acts/more\.json belongs to no release and no event", ("check_contents",)),
    (a_renamed_file, r"holds files that its card doesn't name: READ\.md", ("check_files", "check_contents")),
    (a_renamed_file_that_the_card_names, r"READ\.md belongs to no release and no event", ("check_contents",)),
    (a_link, r"events\.jsonl is a link", ("check_files",)),
    (another_root, r"root\.pub: it is the root [0-9a-f]{12}, expected", ("check_root",)),
    (
        whoever_took_part_left_out_by_whoever_signs,
        r"releases/3/release\.json: its took_part is \[\], the ledger's \[.*\"ada\"",
        ("check_decisions",),
    ),
    (a_comment_by_whoever_signs, r"releases/3/release\.json: its comment is \"seen by ev", ("check_decisions",)),
]


def without(name: str, monkeypatch) -> None:
    """Take a check out, wherever it is called by name."""
    for module in (governance.auditing, governance.verifying):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, lambda *args, **kwargs: "not asked")


@pytest.mark.parametrize(("alter", "match", "checks"), ALTERATIONS, ids=[each[0].__name__ for each in ALTERATIONS])
def test_an_alteration_is_refused_naming_the_file_and_is_not_without_its_check(
    exported, alter, match, checks, monkeypatch
):
    alter(exported)
    with pytest.raises(AlteredError, match=match):
        exported.verify()
    for name in checks:
        without(name, monkeypatch)
    exported.verify()


@pytest.mark.parametrize("name", ["root.pub", "events.jsonl", "corrigenda-audit.json", "README.md"])
def test_a_file_that_is_gone_is_named(exported, name):
    (exported.folder / name).unlink()
    match = name if name != AUDIT else r"corrigenda\.json can't be read"  # for then it is no export at all
    with pytest.raises(AlteredError, match=match):
        exported.verify()
    if name != AUDIT:
        exported.card()
        with pytest.raises(AlteredError, match=name):
            exported.verify()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"release": ["none"]}, r"^corrigenda-audit\.json is of a candidate that nobody released"),
        ({"release": {"position": 0}}, r"^corrigenda-audit\.json names no position in the chain"),
        ({"release": {"position": "3"}}, r"^corrigenda-audit\.json: 'str' object cannot be"),
        ({"candidate": "f" * 64}, r"its candidate is not the one that corrigenda-audit\.json names"),
    ],
)
def test_what_a_card_says_of_a_release_is_refused_by_the_cards_own_name(exported, changes, match):
    exported.card(**changes)
    with pytest.raises(AlteredError, match=match):
        exported.verify()


def test_under_another_root_nothing_is_verified(exported):
    with pytest.raises(AlteredError, match=r"root\.pub: it is the root \w+, expected"):
        exported.verify(root=fingerprint(public_key(new_key())))
    with pytest.raises(AlteredError, match="is no fingerprint of a root"):
        exported.verify(root="0")


def test_each_check_is_told_and_the_folder_is_left_as_it_was(exported):
    before = {name: sha256_file(path) for name, path in files_of(exported.folder).items()}
    told: list[str] = []
    assert exported.verify(report=told.append)["release"]["position"] == NEWEST
    names = "files root signatures chain receipts ledger releases decisions facts asked people acts contents"
    assert [line.partition(":")[0] for line in told] == names.split()
    said = dict(line.split(": ", 1) for line in told)
    assert said["signatures"].startswith("3 releases are each signed under the root")
    assert said["releases"].startswith("the events approve these 3 and no others; ")
    assert said["facts"] == "each release holds what the events released, the newest 1"
    assert said["people"] == "4 certificates are the root's" and said["acts"] == "4 are signed by whom they name"
    assert {name: sha256_file(path) for name, path in files_of(exported.folder).items()} == before


def test_a_release_that_was_pulled_is_no_export_whatever_lies_in_it(exported):
    (exported.folder / "model.safetensors").write_bytes(b"weights")
    exported.card()
    with pytest.raises(AlteredError, match=r"model\.safetensors belongs to no release and no event"):
        exported.verify()


def test_the_secrets_of_codes_stay_sealed_and_no_private_key_is_in_it(lived, exported):
    secret, promoter = lived.house.secrets["grace"], lived.house.promoter
    root = (promoter.trust_folder / "root.pem").read_text()
    keys = [root, *(getattr(promoter, f"{name}_key").get_secret_value() for name in ("signing", "sealing", "release"))]
    inside = [line for pem in keys for line in pem.splitlines() if "-----" not in line]
    texts = [path.read_bytes() for path in files_of(exported.folder).values()]
    certificates = [json.loads(path.read_bytes()) for path in (exported.evidence / "certificates").iterdir()]
    texts += [canonical_json(claimed(each)) for each in certificates]
    assert secret and inside
    for word in (secret, secret.lower(), secret.encode().hex(), *inside):
        assert not any(word.encode() in text for text in texts)
    (sealed,) = [sealed for each in certificates if (sealed := claimed(each)["predicate"]["sealed_secret"])]
    assert unseal(sealed, pem=promoter.sealing_key.get_secret_value(), name="grace") == secret
    with pytest.raises(IdentityError):
        unseal(sealed, pem=new_sealing_key(), name="grace")


def test_the_command_verifies_without_a_network_or_settings(exported, tmp_path):
    command = Path(sys.executable).with_name("corrigenda")
    offline = ["unshare", "-n"] if shutil.which("unshare") and not cannot_unshare() else []
    words = [*offline, command, "verify", exported.folder, "--root", exported.root]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parent.parent), "COLUMNS": "200"}
    given = {"capture_output": True, "text": True, "check": False, "cwd": tmp_path, "env": environment}
    done = subprocess.run(words, **given)
    assert done.returncode == 0, done.stderr
    assert "contents:" in done.stdout and "verified" in done.stdout
    a_byte_of_the_events(exported)
    done = subprocess.run(words, **given)
    assert done.returncode == 1 and "events.jsonl: event" in done.stderr and "Traceback" not in done.stderr


def test_a_program_with_a_tasks_folder_of_its_own_verifies_it_too(exported, tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").write_text("raise SystemExit('somebody else')")
    program = "import sys, corrigenda; print(corrigenda.verify(sys.argv[1], root=sys.argv[2])['release']['position'])"
    done = subprocess.run(
        [sys.executable, "-c", program, exported.folder, exported.root],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, str(NEWEST)), done.stderr


def cannot_unshare() -> bool:
    return subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode != 0


def test_what_the_readme_says_to_run_runs(exported):
    text = (exported.folder / "README.md").read_text()
    (chain,) = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-I", "-c", chain], cwd=exported.folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == exported.events()[-1]["digest"]
    verify, read = re.findall(r"^```sh\n(.*?)\n```", text, flags=re.MULTILINE | re.DOTALL)
    assert verify == "corrigenda verify DIR --root FINGERPRINT"
    certificate = next((exported.evidence / "certificates").iterdir())
    shown = subprocess.run(
        ["bash", "-c", read.replace("FILE", str(certificate))], capture_output=True, text=True, check=True
    )
    assert "public_key" in shown.stdout
    named = set(re.findall(r"`(?:evidence/)?([a-z]+)/`", text))
    assert named == {path.name for path in exported.evidence.iterdir()} - {"releases"}


def test_what_nobody_has_to_believe_is_told_and_breaks_nothing(exported):
    """Whoever may append to the ledger can append what the platform takes no notice of."""
    events = exported.events()
    last = events[-1]
    eve = next(event for event in events if event["kind"] == "enrolled")["data"]
    signature = {"keyid": "", "sig": ""}
    forged = {"certificate": eve["certificate"] | {"signatures": [signature]}}
    act = next(event for event in events if event["entity"] == "act")["data"]["envelope"]
    unsigned = {"envelope": act | {"signatures": [signature]}}
    new = [("identity", "grace", "revoked", {}), ("identity", "eve", "enrolled", forged)]
    for entity, key, kind, data in [*new, ("act", digest_of(7), "used", unsigned)]:
        events.append(last | {"entity": entity, "key": key, "kind": kind, "actor": "eve", "reason": "", "data": data})
    name = digest_of(unsigned["envelope"])
    (exported.evidence / "acts" / f"{name}.json").write_bytes(canonical_json(unsigned["envelope"]))
    exported.write(events, anew=True)
    told: list[str] = []
    exported.verify(report=told.append)
    said, count = dict(line.split(": ", 1) for line in told), len(events)
    idle = f"events {count - 2}, {count - 1} enrol or revoke by nobody who may, and count for nothing"
    assert said["people"].endswith(f", but {idle}")
    assert said["acts"].endswith(f", but events {count} hold none that is")


def put_before_the_last_approval(exported, *new: dict) -> None:
    """As by whoever has the database and the promoter's keys: the ledger is chained anew, and the manifest signed."""
    events = exported.events()
    approved = next(event for event in events if event["seq"] == exported.record()["ledger"]["sequence"])
    place = events.index(approved)
    events[place:place] = [approved | {"actor": "eve", "reason": ""} | each for each in new]
    exported.write(events, anew=True)
    exported.sign(ledger={"sequence": approved["seq"], "digest": approved["digest"]})


def test_who_was_revoked_when_a_release_was_approved_lets_none_through(lived, exported, monkeypatch):
    promoter, at = lived.house.promoter, exported.record()["approved"]
    about = {"grace": fingerprint(identities(lived.house.ledger, promoter)["grace"].public_key)}
    predicate = {"act": REVOKE_PERSON, "by": "ada", "at": at, "reason": "left", "options": {}}
    act = sign(statement(ACT, subject=about, predicate=predicate), sign_as("ada", promoter))
    name = digest_of(claimed(act))
    (exported.evidence / "acts" / f"{digest_of(act)}.json").write_bytes(canonical_json(act))
    put_before_the_last_approval(
        exported,
        {"entity": "act", "key": name, "kind": "used", "data": {"envelope": act}},
        {"entity": "identity", "key": "grace", "kind": "revoked", "data": {"act": name}},
    )
    with pytest.raises(AlteredError, match=r"releases/3/release\.json: .*'grace' is not enrolled, or was revoked"):
        exported.verify()
    without("check_decisions", monkeypatch)
    with pytest.raises(AlteredError, match=r"certificates/\w+\.json: nobody was enrolled with it when release 3"):
        exported.verify()
    without("check_people", monkeypatch)
    exported.verify()


def test_a_signer_that_the_ledger_never_enrolled_is_found(lived, exported, monkeypatch):
    key = new_release_key()
    signer = Identity(
        name=RELEASE_SIGNER,
        kind="signer",
        roles=(),
        public_key=release_public(key, place="here"),
        enrolled_by="eve",
        at=exported.record()["opened"],
    )
    certificate = certify(signer, root_key(lived.house.promoter.trust_folder))
    signer_file(exported.evidence, NEWEST).write_bytes(canonical_json(certificate))
    exported.sign(key=key)
    with pytest.raises(AlteredError, match=r"releases/3\.signer\.json: nobody was enrolled with it when release 3"):
        exported.verify()
    without("check_people", monkeypatch)
    exported.verify()


def test_an_objection_that_whoever_signs_left_out_is_found(lived, exported, monkeypatch):
    key, record = new_key(), exported.record()
    henry = Identity(
        name="henry",
        kind="person",
        roles=("reviewer",),
        public_key=public_key(key),
        enrolled_by="ada",
        at=exported.events()[0]["at"].isoformat(),
    )
    objection = Receipt(
        **{name: record[name] for name in BOUND_TO},
        decision="reject",
        reviewer="henry",
        method="key",
        at=record["approved"],
        expires="2100-01-01T00:00:00+00:00",
    )
    certificate = certify(henry, root_key(lived.house.promoter.trust_folder))
    (exported.evidence / "certificates" / f"{digest_of(certificate)}.json").write_bytes(canonical_json(certificate))
    put_before_the_last_approval(
        exported,
        {"entity": "identity", "key": "henry", "kind": "enrolled", "data": {"certificate": certificate}},
        {
            "entity": "receipt",
            "key": f"{record['candidate']}:henry",
            "kind": "reject",
            "data": {"envelope": make(objection, key)},
        },
    )
    with pytest.raises(AlteredError, match=r"releases/3/release\.json: henry decided to reject candidate"):
        exported.verify()
    without("check_decisions", monkeypatch)
    exported.verify()


def test_a_fact_that_the_ledger_released_and_no_release_holds_is_found(exported, monkeypatch):
    fact = next(e for e in exported.events() if e["key"] == "japan" and e["kind"] == "submitted")["data"]
    other = {"correction": fact["correction"] | {"id": "mars", "subject": "Mars"}}
    course = {"submitted": other, "queued": {}, "in candidate": {}, "released": {}}
    new = [{"entity": "correction", "key": "mars", "kind": kind, "data": data} for kind, data in course.items()]
    put_before_the_last_approval(exported, *new)
    with pytest.raises(AlteredError, match=r"corrections/\w+\.jsonl: release 3 says nothing of 'mars', the ledger {"):
        exported.verify()
    without("check_facts", monkeypatch)
    exported.verify()


@pytest.mark.parametrize(
    "changed", [{"reason": "none"}, {"requester": "eve"}, {"expires": "2030-01-01T00:00:00+00:00"}]
)
def test_whatever_a_fact_says_is_held_against_its_release(exported, changed, monkeypatch):
    events = exported.events()
    for each in events:
        if each["key"] == "france" and "correction" in each["data"]:
            each["data"]["correction"] |= changed
    exported.write(events, anew=True)
    with pytest.raises(AlteredError, match=r"events\.jsonl: event \d+ is not the one that"):
        exported.verify()
    for name in ("check_releases", "check_decisions"):
        without(name, monkeypatch)
    with pytest.raises(AlteredError, match=r"corrections/\w+\.jsonl: release \d says .* of 'france', the ledger"):
        exported.verify()
    without("check_facts", monkeypatch)
    exported.verify()


@pytest.mark.parametrize("changed", [{"kind": "expired"}, {"reason": "nobody asked"}, {"data": {"asked_by": "eve"}}])
def test_how_a_fact_left_is_held_against_what_was_signed(exported, changed, monkeypatch):
    """What comes with an approval is behind it, where no signature of a later release holds it."""
    events = exported.events()
    left = next(event for event in events if event["kind"] == "revoked" and event["entity"] == "correction")
    data = changed.get("data", {})
    left |= changed | {"data": left["data"] | data}
    exported.write(events, anew=True)
    with pytest.raises(AlteredError, match=r"events\.jsonl: it says .* of what became of 'france' with release 3"):
        exported.verify()
    without("check_facts", monkeypatch)
    exported.verify()


def test_a_fact_that_stands_as_submitted_by_another_one_than_signed_is_found(exported, monkeypatch):
    events = exported.events()
    next(each for each in events if each["kind"] == "submitted" and each["key"] == "japan")["actor"] = "eve"
    exported.write(events, anew=True)
    for name in ("check_releases", "check_decisions"):
        without(name, monkeypatch)
    match = r"releases/\d/candidate\.json: .*ada signed for 'japan', which stands as submitted by 'eve'"
    with pytest.raises(AlteredError, match=match):
        exported.verify()
    without("check_asked", monkeypatch)
    exported.verify()


def test_a_withdrawal_whose_act_was_used_for_something_else_is_found(exported, monkeypatch):
    events = exported.events()
    next(each for each in events if (each["entity"], each["kind"]) == ("act", "in candidate"))["reason"] = "e" * 64
    exported.write(events, anew=True)
    approved = events[exported.record()["ledger"]["sequence"] - 1]
    exported.sign(ledger={"sequence": approved["seq"], "digest": approved["digest"]})
    with pytest.raises(AlteredError, match=r"releases/3/candidate\.json: the act \w+ was not signed for candidate"):
        exported.verify()
    without("check_asked", monkeypatch)
    exported.verify()


def test_an_event_that_does_not_follow_on_where_its_thing_stood_is_found(exported, monkeypatch):
    put_before_the_last_approval(exported, {"entity": "candidate", "key": "e" * 64, "kind": "promoted", "data": {}})
    match = r"events\.jsonl: event \d+: candidate 'e{64}' is unknown, so it can't become 'promoted'"
    with pytest.raises(AlteredError, match=match):
        exported.verify()
    without("check_events", monkeypatch)
    exported.verify()


def test_an_export_is_of_one_root_and_no_lock_file_speaks_of_it(exported, tmp_path):
    for more in ({"lock": tmp_path / "corrigenda.lock"}, {"base": tmp_path}):
        with pytest.raises(AlteredError, match="is an audit's export, of which neither"):
            exported.verify(**more)


def test_before_the_first_release_the_ledger_alone_is_exported(trusted, ledger, tmp_path):
    folder = tmp_path / "export"
    assert "0 releases" in export(folder)
    told: list[str] = []
    card = corrigenda.verify(folder, root=trusted.promoter.root_fingerprint, report=told.append)
    assert card["release"] is None and "releases: none was approved" in told
    assert export(folder), "an earlier export is replaced"


def test_without_a_root_or_under_another_one_nothing_is_exported(trusted, ledger, tmp_path, monkeypatch):
    for root, match in (("", "no root is set"), ("f" * 64, "the root f{12} certified nobody in this ledger")):
        monkeypatch.setenv("CORRIGENDA_ROOT_FINGERPRINT", root)
        assert re.search(match, export(tmp_path / "export", code=1))
    assert not any(tmp_path.glob("export*"))


def test_an_export_takes_the_place_of_nothing_else(lived, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    assert "holds no corrigenda-audit.json, so it is none of ours" in export(tmp_path, code=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_history_with_something_wrong_in_it_is_not_exported(lived, take_away, tmp_path):
    store, candidate = Store(lived.house.promoter), lived.candidates[-1]
    for kind, match in (("json", "was approved and is not published yet"), ("sig", "is not signed")):
        key = f"releases/{candidate}.{kind}"
        kept = store.read(key)
        take_away(key)
        try:
            assert match in export(tmp_path / "export", code=1)
        finally:
            store.put_record(key, json.loads(kept))
    key = f"releases/{lived.candidates[0]}.json"
    kept = store.record(key)
    take_away(key)
    store.put_record(key, kept | {"comment": "seen by everybody"})
    try:
        assert "releases/1 and its signature" in export(tmp_path / "export", code=1)
    finally:
        take_away(key)
        store.put_record(key, kept)
    assert list(tmp_path.iterdir()) == []
