"""Whatever lies in the object store under the name of a release, it is used, or refused by its key."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from consuming.errors import AlteredError, LockError
from consuming.lockfile import Pin, write_lock
from consuming.objects import Objects
from consuming.pinning import outdated
from consuming.pulling import cached, pull
from consuming.settings import ConsumerSettings
from consuming.versions import Version, resolve
from editors.digests import canonical_json, sha256_bytes
from governance.evidence import manifest_key, record_key
from tasks.store import Store

pytestmark = pytest.mark.stack

DIGEST = "d" * 64
MANIFEST = dict.fromkeys(("base", "parent", "patch", "corrections", "report"), DIGEST)
MANIFEST |= {"base_files": [], "facts": [], "leaving": []}


@pytest.fixture
def consumer(as_role) -> ConsumerSettings:
    return as_role("consumer")


@pytest.fixture
def released(as_role, tmp_path) -> Callable[..., str]:
    """Puts a candidate's manifest and its release's into the store, and returns its digest."""

    def release(manifest: dict | bytes = MANIFEST, record: dict | bytes | None = None) -> str:
        if isinstance(manifest, dict):  # of each test its own, for what is there stays
            manifest = canonical_json(manifest | {"test": str(tmp_path)})
        candidate = sha256_bytes(manifest)
        if record is None or isinstance(record, dict):
            right = {"candidate": candidate, "position": 1, "approved": "2026-01-01T00:00:00+00:00"}
            record = canonical_json(
                {name: value for name, value in (right | (record or {})).items() if value is not None}
            )
        for role, key, content in (
            ("editor", manifest_key(candidate), manifest),
            ("promoter", record_key(candidate), record),
        ):
            store = Store(as_role(role))
            store._put(key, content, digest=sha256_bytes(content), size=len(content))
        return candidate

    return release


def found(candidate: str, settings: ConsumerSettings) -> Version:
    return resolve(candidate, Objects(settings), candidate=False, settings=settings)


def test_what_consumers_read_of_a_release_is_all_that_it_has_to_be(released, consumer):
    candidate = released()
    version = found(candidate, consumer)
    assert (version.candidate, version.told(), version.manifest["patch"]) == (candidate, "release 1", DIGEST)


@pytest.mark.parametrize(
    ("record", "match"),
    [
        (b"nonsense", "is no JSON: Expecting value"),
        (b"[" * 100_000, "recursion"),
        (b"\xff", "codec can't decode"),
        (b"[]", "holds no JSON object"),
        (b'{"position": 1, "position": 2}', "it says something twice"),
        ({"candidate": None}, "lacks its candidate"),
        ({"position": None}, "lacks its position"),
        ({"position": "1"}, "its position is '1': "),
        ({"position": 1.0}, "its position is 1.0: "),
        ({"position": True}, "its position is True: "),
        ({"position": 0}, "its position is 0: "),
        ({"approved": None}, "lacks its approved"),
        ({"approved": 7}, "its approved is 7: "),
        ({"candidate": DIGEST}, "is the record of candidate d{64}"),
    ],
)
def test_a_releases_manifest_that_is_none_is_refused_by_its_key(released, consumer, record, match):
    manifest = MANIFEST | {"record": f"{record}"[:100]}
    candidate = released(manifest, record)
    with pytest.raises(AlteredError, match=rf"releases/{candidate}\.json.*{match}"):
        found(candidate, consumer)


@pytest.mark.parametrize(
    ("manifest", "match"),
    [
        (b"nonsense", "is no JSON: Expecting value"),
        (b"[1]", "holds no JSON object"),
        (b'{"base": "a", "base": "b"}', "it says something twice"),
        (b"{}", "lacks its base"),
        (MANIFEST | {"parent": "assistant@champion"}, "its parent is 'assistant@champion': "),
        (MANIFEST | {"patch": "../x"}, r"its patch is '\.\./x': "),
        (MANIFEST | {"corrections": 7}, "its corrections is 7: "),
        (MANIFEST | {"facts": {"a": "b"}}, "its facts is {'a': 'b'}: "),
        (MANIFEST | {"facts": [{}]}, r"lacks its facts\.0\.id"),
        (MANIFEST | {"leaving": [{"id": "a", "becomes": "revoked"}]}, r"lacks its leaving\.0\.reason"),
        (MANIFEST | {"base_files": [{"name": "a", "size": -1, "sha256": DIGEST}]}, r"its base_files\.0\.size is -1"),
        (MANIFEST | {"base_files": ["x" * 100]}, r"its base_files\.0 is 'x{63}…: "),
    ],
)
def test_a_candidates_manifest_that_is_none_is_refused_by_its_key(released, consumer, manifest, match):
    candidate = released(manifest)
    with pytest.raises(AlteredError, match=rf"candidates/{candidate}\.json.*{match}"):
        found(candidate, consumer)


def test_no_use_of_a_release_whose_manifest_is_none_leaves_anything(released, consumer, tmp_path):
    candidate = released(MANIFEST | {"facts": 7})
    lock = tmp_path / "corrigenda.lock"
    write_lock(lock, {"assistant@champion": Pin(candidate=candidate, patch=DIGEST, position=1)})
    settings = consumer.model_copy(update={"lock": lock})
    for use in (
        lambda: pull(candidate, tmp_path / "pulled", settings=settings),
        lambda: cached(candidate, settings=settings),
        lambda: outdated(settings=settings),
    ):
        with pytest.raises(AlteredError, match=rf"candidates/{candidate}\.json.*: its facts is 7"):
            use()
    assert sorted(path.name for path in tmp_path.iterdir()) == [lock.name]


def test_facts_that_are_none_are_refused_where_an_adapter_is_measured_by_them(consumer, as_role):
    from consuming.pulling import _prompts

    for content in (b"nonsense\n", b"[]\n", b'{"prompt": 7}\n'):
        digest = Store(as_role("editor")).put(content).sha256
        with pytest.raises(AlteredError, match=f"the facts {digest}: "):
            _prompts({"corrections": digest}, Objects(consumer))


def test_what_a_pin_says_is_held_against_what_is_there(released, consumer):
    candidate = released()
    pin = Pin(candidate=candidate, patch=DIGEST, position=2)
    with pytest.raises(LockError, match='entry "a@b" pins the position 2, and there is 1'):
        resolve("a@b", Objects(consumer), candidate=False, settings=consumer, pin=pin)
