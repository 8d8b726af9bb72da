"""A lock file is believed as it was written, or refused naming the file, the place and the way out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from consuming.errors import LockError
from consuming.lockfile import Pin, check_name, check_pinned, read_lock, write_lock

A, B, C = "a" * 64, "b" * 64, "c" * 64
PINS = {
    "assistant@champion": Pin(candidate=A, patch=B, position=3, root=C),
    "assistant/1": Pin(candidate=B, patch=C, position=1),
}
ENTRY = f'candidate = "{A}"\npatch = "{B}"\nposition = 3\n'


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "corrigenda.lock"


def entry(name: str = "assistant@champion", text: str = ENTRY) -> str:
    return f'format = 1\n[release."{name}"]\n{text}'


def test_what_was_written_is_read_and_the_same_pins_are_the_same_bytes(path):
    write_lock(path, PINS)
    assert read_lock(path) == PINS
    first = path.read_bytes()
    write_lock(path, dict(reversed(PINS.items())))
    assert path.read_bytes() == first
    assert [line for line in first.decode().splitlines() if line.startswith("[")] == [
        '[release."assistant/1"]',
        '[release."assistant@champion"]',
    ]
    assert path.stat().st_mode & 0o777 == 0o644, "it is meant to be committed, and read by others"


def test_where_there_is_no_lock_file_nothing_is_pinned(path):
    assert read_lock(path) == {}


def test_a_lock_file_that_can_not_be_written_is_left_as_it_was(path, monkeypatch):
    write_lock(path, PINS)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_lock(path, {})
    assert read_lock(path) == PINS and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("format = 1\n[release.x\n", r"can't be read: .*line 2"),
        (entry() + f'[release."assistant@champion"]\n{ENTRY}', r"can't be read: .*twice \(at line 6"),
        ("\xff", "can't be read"),
        ("", "has format None, and this Corrigenda reads 1"),
        ("format = 2\n", "has format 2, and"),
        ("format = 1\nrelease = 3\n", "holds something else than entries"),
        ("format = 1\nmore = 3\n", "holds something else than entries"),
        ('format = 1\nrelease."assistant@champion" = 3\n', "lacks 'candidate'"),
        (entry(text=ENTRY.replace("position = 3\n", "")), "lacks 'position'"),
        (entry(text=ENTRY + 'url = "x"\n'), "holds an unknown 'url'"),
        (entry(text=ENTRY.replace(A, "A" * 64)), "its candidate 'A+' is not 64 hexadecimal digits"),
        (entry(text=ENTRY.replace(A, f"../../{A[6:]}")), r"its candidate '\.\./\.\./a+' is not 64 hex"),
        (entry(text=ENTRY.replace(B, "")), "its patch '' is not 64 hexadecimal digits"),
        (entry(text=ENTRY.replace(f'"{B}"', "7")), "its patch 7 is not 64 hexadecimal digits"),
        (entry(text=ENTRY + 'root = "x"\n'), "its root 'x' is not 64 hexadecimal digits"),
        (entry(text=ENTRY.replace("3", "0")), "its position 0 is no number of a release"),
        (entry(text=ENTRY.replace("3", "true")), "its position True is no number of a release"),
        (entry(text=ENTRY.replace("3", '"3"')), "its position '3' is no number of a release"),
        (entry("../assistant@champion"), r'entry "\.\./assistant@champion": is no model@alias'),
        (entry("assistant"), 'entry "assistant": is no model@alias'),
        (entry(A), 'entry "a+": is no model@alias'),
    ],
)
def test_a_lock_file_that_is_none_is_refused_naming_place_and_way_out(path, text, match):
    path.write_text(text, encoding="latin-1")
    with pytest.raises(LockError, match=f"{path}.*{match}") as told:
        read_lock(path)
    assert "take corrigenda.lock back from version control, or delete it and run 'corrigenda lock NAME'" in str(
        told.value
    )


def test_a_link_or_a_folder_is_no_lock_file(path):
    write_lock(path.with_name("elsewhere"), PINS)
    for place in ("elsewhere", "nowhere"):
        path.symlink_to(path.with_name(place))
        with pytest.raises(LockError, match=f"{path} is a link or no plain file"):
            read_lock(path)
        path.unlink()
    path.mkdir()
    with pytest.raises(LockError, match=f"{path} is a link or no plain file"):
        read_lock(path)


@pytest.mark.parametrize("what", ["candidate", "position", "patch", "root"])
def test_what_is_not_what_an_entry_pins_is_refused_naming_both(what):
    pin = PINS["assistant@champion"]
    check_pinned(pin, pin, entry="it")
    changed = {name: getattr(pin, name) for name in ("candidate", "position", "patch", "root")}
    other = Pin(**changed | {what: 9 if what == "position" else "d" * 64})
    with pytest.raises(LockError, match=rf"^it pins the {what} (3|a+|b+|c+), and there is (9|d+)\."):
        check_pinned(pin, other, entry="it")


def test_an_entry_without_a_root_asks_for_none():
    pin = PINS["assistant/1"]
    check_pinned(pin, Pin(candidate=B, patch=C, position=1, root=A), entry="it")


@pytest.mark.parametrize("name", ["assistant@champion", "assistant/12", "Mein Modell@gültig", "a.b-c_d@x"])
def test_a_name_can_be_pinned(name):
    check_name(name)


@pytest.mark.parametrize(
    "name", [A, "assistant", "assistant@", "@x", "a/0", "a/b", "../a@b", 'a"@b', "a\n@b", "a/1/2", ""]
)
def test_what_names_no_version_can_not_be_pinned(name):
    with pytest.raises(LockError, match="lock a name instead" if name == A else "names no version"):
        check_name(name)
