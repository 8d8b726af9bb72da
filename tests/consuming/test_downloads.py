"""Files come from the object store whole or not at all, however the network, the disk or the server is."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import threading
import time
import tracemalloc
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import consuming.objects
from consuming.errors import AlteredError, RegistryAwayError
from consuming.objects import CHUNK, CUTS, Objects
from tasks.store import Store

pytestmark = pytest.mark.stack

MIB = 1 << 20
SIZE = 8 * MIB


@pytest.fixture(scope="module")
def proxy():
    """The tests' own proxy, by its path: the tests are no package."""
    spec = importlib.util.spec_from_file_location("proxy", Path(__file__).parents[1] / "flows" / "proxy.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.proxy


@pytest.fixture
def kept(as_role, tmp_path) -> str:
    """The sha256 of a file of 8 MiB that is in the store."""
    file = tmp_path / "kept"
    file.write_bytes(os.urandom(SIZE))
    return Store(as_role("editor")).put_file(file).sha256


@pytest.fixture
def network(bucket, proxy):
    with proxy(bucket.s3_endpoint) as between:
        yield between


@pytest.fixture
def reader(as_role, network) -> Objects:
    return Objects(as_role("consumer", s3_endpoint=network.url))


@pytest.fixture
def target(tmp_path) -> Path:
    (tmp_path / "base").mkdir()
    return tmp_path / "base" / "model.safetensors"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def from_the_beginning(monkeypatch) -> None:
    """Patch out that a download goes on where it ended."""
    whole = Objects._open
    monkeypatch.setattr(Objects, "_open", lambda self, key, *, start=0: whole(self, key))


def test_a_download_that_is_cut_goes_on_where_it_ended_and_does_not_without_that(
    kept, network, reader, target, monkeypatch
):
    network.cuts, network.cut_after = CUTS - 1, 1300 << 10
    reader.fetch(kept, target)
    assert sha256(target) == kept and names(target.parent) == [target.name]
    assert network.answered < SIZE + CUTS * CHUNK + MIB
    target.unlink()
    from_the_beginning(monkeypatch)
    network.cuts = CUTS
    with pytest.raises(RegistryAwayError, match="was cut 8 times"):
        reader.fetch(kept, target)


def test_what_came_of_a_download_that_was_given_up_is_not_fetched_again(kept, network, reader, target):
    network.cuts, network.cut_after = CUTS, 700 << 10
    with pytest.raises(RegistryAwayError, match=r"model\.safetensors from s3://.*what came is kept, so just ask again"):
        reader.fetch(kept, target)
    (part,) = target.parent.iterdir()
    came, network.answered = part.stat().st_size, 0
    assert came > 2 * MIB and not target.exists()
    reader.fetch(kept, target)
    assert sha256(target) == kept and names(target.parent) == [target.name]
    assert network.answered < SIZE - came + MIB


@pytest.mark.parametrize("size", [MIB, SIZE, SIZE + 5])
def test_what_was_kept_and_is_damaged_is_thrown_away(kept, reader, target, size):
    part = target.with_name(f".{target.name}.{kept[:16]}.part")
    part.write_bytes(bytes(size))
    reader.fetch(kept, target)
    assert sha256(target) == kept and names(target.parent) == [target.name]


def test_a_download_that_was_whole_but_for_its_name_is_taken_as_it_is(kept, network, reader, target, tmp_path):
    part = target.with_name(f".{target.name}.{kept[:16]}.part")
    part.write_bytes((tmp_path / "kept").read_bytes())
    reader.fetch(kept, target)
    assert sha256(target) == kept and network.answered < 10_000


def test_who_wants_a_file_that_is_being_fetched_waits_for_it(kept, network, reader, target, as_role):
    network.delay = 0.002
    threads = [threading.Thread(target=reader.fetch, args=(kept, target)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sha256(target) == kept and names(target.parent) == [target.name]
    assert network.answered < SIZE + MIB


def test_a_file_is_not_held_in_memory_either_way(as_role, target, tmp_path):
    file = tmp_path / "big"
    file.write_bytes(os.urandom(40 * MIB))
    store = Store(as_role("editor"))
    tracemalloc.start()
    digest = store.put_file(file, largest=MIB, part=5 * MIB).sha256
    sent, _ = tracemalloc.get_traced_memory()[1], tracemalloc.reset_peak()
    store.fetch(digest, target)
    got = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"40 MiB: {sent / MIB:.1f} MiB at most to send them in parts of 5 MiB, {got / MIB:.1f} MiB to fetch them")
    assert sent < 20 * MIB and got < 5 * MIB and sha256(target) == digest


def test_a_full_disk_is_told_with_the_files_path_and_leaves_nothing(kept, reader, target):
    small = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", target.parent]
    if subprocess.run(small, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        with pytest.raises(OSError, match=rf"No space left on device: '{target}'"):
            reader.fetch(kept, target)
        assert names(target.parent) == []
    finally:
        subprocess.run(["umount", target.parent], check=True)


@contextmanager
def server(body: bytes):
    """An S3 server that answers with the same whatever it is asked for, and knows no versions."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer(b"<ListVersionsResult/>" if "?versions" in self.path else body)

        def answer(self, content: bytes):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{found.server_address[1]}"
    found.shutdown()
    thread.join()
    found.server_close()


def test_a_server_that_lies_about_a_digest_is_refused_by_the_files_name_and_believed_without_the_check(
    as_role, target, monkeypatch
):
    digest = hashlib.sha256(b"the weights").hexdigest()
    with server(b"other weights") as url:
        liar = Objects(as_role("consumer", s3_endpoint=url))
        with pytest.raises(AlteredError, match=rf"model\.safetensors from s3://.*: expected sha256 {digest}, got"):
            liar.fetch(digest, target)
        assert names(target.parent) == []
        with pytest.raises(AlteredError, match=f"expected sha256 {digest}, got"):
            liar.get(digest)
        monkeypatch.setattr(consuming.objects, "check_file", lambda *args, **kwargs: None)
        liar.fetch(digest, target)
        assert target.read_bytes() == b"other weights"


def test_a_server_that_knows_no_ranges_is_asked_for_the_whole(as_role, target):
    content = os.urandom(MIB)
    digest = hashlib.sha256(content).hexdigest()
    target.with_name(f".{target.name}.{digest[:16]}.part").write_bytes(content[:1000])
    with server(content) as url:
        Objects(as_role("consumer", s3_endpoint=url)).fetch(digest, target)
    assert target.read_bytes() == content


def test_a_store_that_is_away_is_told_and_leaves_nothing(as_role, target):
    began = time.monotonic()
    with pytest.raises(RegistryAwayError, match="is the object store up"):
        Objects(as_role("consumer", s3_endpoint="http://127.0.0.1:9")).fetch("0" * 64, target)
    assert names(target.parent) == [] and time.monotonic() - began < 60
