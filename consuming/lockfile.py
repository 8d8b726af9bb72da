"""The lock file: which release each name stands for where a service runs, so that a moved alias moves nobody.

    format = 1

    [release."assistant@champion"]
    candidate = "…"     64 hexadecimal digits
    patch = "…"         the same
    position = 3        in the chain of releases
    root = "…"          the root's fingerprint, where one was set

It is TOML, sorted by name, and meant to be committed: `corrigenda lock` writes it, and everything else only reads it.
What is in it is held against what is fetched, so a file that was altered is refused and never followed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from consuming.errors import LockError
from editors.atomic import write_atomically
from editors.digests import DIGEST

FORMAT = 1
HEADER = "# Written by 'corrigenda lock NAME', which moves an entry to what NAME stands for then. Commit this file.\n"
NAME = re.compile(r"\w[\w .-]*(@\w[\w-]*|/[1-9][0-9]*)")
REQUIRED, OPTIONAL = ("candidate", "patch", "position"), ("root",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """What a name is pinned to.

    Attributes:
        candidate: digest of the candidate.
        patch: digest of its patch.
        position: of its release in the chain.
        root: the fingerprint of the root that it has to lead to; empty where none was set.
    """

    candidate: str
    patch: str
    position: int
    root: str = ""

    def told(self) -> str:
        """Which release it is, for a line of text."""
        return f"release {self.position} ({self.candidate[:12]})"


def read_lock(path: Path) -> dict[str, Pin]:
    """Read a lock file; where there is none, nothing is pinned.

    Raises:
        LockError: it is a link or no plain file, is damaged, or has an entry that is none.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise LockError(f"{path} is a link or no plain file, and a lock file is one; {_way_out(path)}")
    if not path.exists():
        return {}
    try:
        content = tomllib.loads(path.read_bytes().decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        # Of the second are bad TOML, which names the line, and bad UTF-8.
        raise LockError(f"{path} can't be read: {error}; {_way_out(path)}") from error
    if (found := content.get("format")) != FORMAT:
        raise LockError(f"{path} has format {found!r}, and this Corrigenda reads {FORMAT}; {_way_out(path)}")
    entries = content.get("release", {})
    if content.keys() - {"format", "release"} or not isinstance(entries, dict):
        raise LockError(f"{path} holds something else than entries [release.NAME]; {_way_out(path)}")
    return {name: _pin(name, entry, path) for name, entry in cast(dict[str, Any], entries).items()}


def write_lock(path: Path, pins: Mapping[str, Pin]) -> None:
    """Write a lock file whole or not at all.

    Raises:
        OSError: the disk is full or the folder cannot be written; what was there is left.
    """
    entries = "".join(f"\n{_entry(name, pins[name])}" for name in sorted(pins))
    write_atomically(path, f"{HEADER}format = {FORMAT}\n{entries}".encode())
    path.chmod(0o644)


def model_of(name: str) -> str:
    """The model of which a name names a version."""
    return re.split("[@/]", name)[0]


def check_name(name: str) -> None:
    """Refuse to pin what is no name, or pins itself.

    Raises:
        LockError: it is a digest, or neither model@alias nor model/number.
    """
    if DIGEST.fullmatch(name):
        raise LockError(f"{name[:12]}… is a digest, which stands for one candidate for ever; lock a name instead")
    if not NAME.fullmatch(name):
        raise LockError(f"{name!r} names no version that can be pinned; write model@alias or model/number")


def check_pinned(pin: Pin, found: Pin, *, entry: str) -> None:
    """Refuse what is not what an entry pins.

    Args:
        pin: what the entry says.
        found: what is there; its root counts only where the entry names one.
        entry: the lock file and the entry, for the message.

    Raises:
        LockError: the message names what differs.
    """
    for what in ("candidate", "position", "patch", "root"):
        wanted, got = getattr(pin, what), getattr(found, what)
        if wanted and wanted != got:
            raise LockError(
                f"{entry} pins the {what} {wanted}, and there is {got or 'none'}. Find out who changed which of the "
                "two; 'corrigenda lock NAME' pins what the name stands for now"
            )


def _pin(name: str, entry: object, path: Path) -> Pin:
    where = f'{path}, entry "{name}"'
    if not NAME.fullmatch(name):
        raise LockError(f"{where}: is no model@alias and no model/number; {_way_out(path)}")
    given = cast(dict[str, Any], entry) if isinstance(entry, dict) else {}
    if odd := {*REQUIRED} - given.keys() or given.keys() - {*REQUIRED, *OPTIONAL}:
        wrong = "lacks" if odd <= {*REQUIRED} else "holds an unknown"
        raise LockError(f"{where}: {wrong} {sorted(odd)[0]!r}; {_way_out(path)}")
    for what in given.keys() - {"position"}:
        if not (isinstance(given[what], str) and DIGEST.fullmatch(given[what])):
            raise LockError(f"{where}: its {what} {given[what]!r} is not 64 hexadecimal digits; {_way_out(path)}")
    if type(given["position"]) is not int or given["position"] < 1:
        raise LockError(f"{where}: its position {given['position']!r} is no number of a release; {_way_out(path)}")
    return Pin(**given)


def _entry(name: str, pin: Pin) -> str:
    root = f'root = "{pin.root}"\n' if pin.root else ""
    lines = f'candidate = "{pin.candidate}"\npatch = "{pin.patch}"\nposition = {pin.position}\n{root}'
    return f'[release."{name}"]\n{lines}'


def _way_out(path: Path) -> str:
    return f"take {path.name} back from version control, or delete it and run 'corrigenda lock NAME'"
