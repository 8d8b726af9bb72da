"""Start a program that outlives us, find it again, and stop it with everything it started.

A process is known by its pid and its time of creation, so a pid that the system gave to another program is never
signalled. Each one also carries the stack's home and its own name in its environment, and its children inherit them: so
what a part left behind is found even when the part itself is gone.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from infra.code import code_of
from infra.errors import StackError
from infra.layout import write_private

HOME_MARK = "CORRIGENDA_STACK"
PART_MARK = "CORRIGENDA_PART"
LONGEST_LOG = 20_000_000
LONGEST_TAIL = 4_000
CLOCK_SECONDS = 1.0
STRAY_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program to run.

    Args:
        name: the part's name.
        command: the program and its arguments.
        environment: all its variables; the stack's marks are added.
        folder: where it runs.
        user: the system user it runs as; None for ours.
        stop_signal: what asks it to end.
        stop_seconds: how long it may take to end before it is killed.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is remembered of a started program: its process, where in its log this run begins, and its code's digest."""

    pid: int
    created: float
    log_start: int
    code: str = ""


def launch(program: Program, *, home: Path) -> None:
    """Start a program in a session of its own, append its output to its log, and record it."""
    log = log_file(home, program.name)
    if log.is_file() and log.stat().st_size > LONGEST_LOG:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        log_start = output.tell()
        started = subprocess.Popen(
            program.command,
            env={**program.environment, HOME_MARK: str(home), PART_MARK: program.name},
            cwd=program.folder,
            user=program.user,
            group=program.user,
            extra_groups=None if program.user is None else [],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
        )
    record = Record(
        pid=started.pid,
        created=psutil.Process(started.pid).create_time(),
        log_start=log_start,
        code=code_of(program.name),
    )
    write_private(record_file(home, program.name), json.dumps(asdict(record)))
    started.returncode = 0  # psutil watches it from here; else Popen complains that it outlives its object


def find(home: Path, name: str) -> psutil.Process | None:
    """Return a part's recorded process if it is alive and still the same."""
    record = read_record(home, name)
    if record is None:
        return None
    try:
        process = psutil.Process(record.pid)
        same = abs(process.create_time() - record.created) < CLOCK_SECONDS or is_marked(process, home, [name])
    except psutil.NoSuchProcess:
        return None
    return process if same and is_alive(process) else None


def runs_other_code(home: Path, name: str) -> bool:
    """Say whether a part that runs was started from other code than is here now."""
    record = read_record(home, name)
    return record is not None and find(home, name) is not None and record.code != code_of(name)


def stop(programs: Sequence[Program], *, home: Path) -> list[str]:
    """End programs and all that they started; those that don't heed are killed.

    Returns:
        The names of the programs that were running.

    Raises:
        StackError: a process survives even being killed.
    """
    running = {program.name: process for program in programs if (process := find(home, program.name))}
    children = [child for process in running.values() for child in descendants(process)]
    for program in programs:
        if process := running.get(program.name):
            send(process, program.stop_signal)
    began = time.monotonic()
    for program in sorted(programs, key=lambda program: program.stop_seconds):
        if process := running.get(program.name):
            wait_or_kill(process, seconds=began + program.stop_seconds - time.monotonic())
    kill([*running.values(), *children, *marked(home, [program.name for program in programs])])
    for program in programs:
        record_file(home, program.name).unlink(missing_ok=True)
    return list(running)


def wait_or_kill(process: psutil.Process, *, seconds: float) -> None:
    """Wait for a process to end, and kill it if it hasn't by then."""
    try:
        process.wait(max(seconds, 0.0))
    except psutil.TimeoutExpired:
        send(process, signal.SIGKILL)


def kill(processes: Sequence[psutil.Process]) -> None:
    """Ask processes to end, then kill those that are left."""
    left = [process for process in processes if is_alive(process)]
    for harsh in (signal.SIGTERM, signal.SIGKILL):
        for process in left:
            send(process, harsh)
        left = [process for process in psutil.wait_procs(left, timeout=STRAY_SECONDS)[1] if is_alive(process)]
    if left:
        raise StackError(f"processes that can't be killed: {', '.join(describe(process) for process in left)}")


def marked(home: Path, names: Collection[str] | None = None) -> list[psutil.Process]:
    """Find the living processes that carry the mark of the stack at `home`, or of some of its parts only."""
    found = psutil.process_iter()
    return [process for process in found if is_marked(process, home, names) and is_alive(process)]


def is_marked(process: psutil.Process, home: Path, names: Collection[str] | None = None) -> bool:
    """Say whether a process carries the marks of a stack in its environment."""
    try:
        environment = process.environ()
    except (psutil.Error, OSError):
        return False
    if environment.get(HOME_MARK) != str(home):
        return False
    return names is None or environment.get(PART_MARK) in names


def is_alive(process: psutil.Process) -> bool:
    """Say whether a process runs; one that ended and waits to be collected doesn't.

    Where it was killed its first thread ends at once, and the others keep its files and ports for a moment.
    """
    try:
        ended = process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
        return process.is_running() and not ended
    except psutil.NoSuchProcess:
        return False


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """List everything that a process started and that still hangs on it."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def send(process: psutil.Process, which: signal.Signals) -> None:
    """Signal a process, unless it has just ended."""
    try:
        process.send_signal(which)
    except psutil.NoSuchProcess:
        return


def describe(process: psutil.Process) -> str:
    """Name a process for a message."""
    try:
        return f"pid {process.pid} ({process.name()})"
    except psutil.Error:
        return f"pid {process.pid}"


def listener(port: int) -> str:
    """Name the process that listens on a port, as far as we may know."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return "another program"
    for connection in connections:
        local = connection.laddr
        if connection.status == psutil.CONN_LISTEN and local and local.port == port and connection.pid:
            return describe(psutil.Process(connection.pid))
    return "another program"


def log_tail(home: Path, name: str, *, lines: int = 15) -> str:
    """Return the last lines that a part wrote to its log since its last start."""
    log, record = log_file(home, name), read_record(home, name)
    if not log.is_file():
        return ""
    with log.open("rb") as stream:
        size = stream.seek(0, 2)
        start = record.log_start if record else 0
        stream.seek(max(min(start, size), size - LONGEST_TAIL))
        text = stream.read().decode("utf-8", errors="replace")
    return "\n".join(text.rstrip().splitlines()[-lines:])


def log_file(home: Path, name: str) -> Path:
    """Name a part's log."""
    return home / "logs" / f"{name}.log"


def record_file(home: Path, name: str) -> Path:
    """Name the file that remembers a part's process."""
    return home / "run" / f"{name}.json"


def read_record(home: Path, name: str) -> Record | None:
    """Read what is remembered of a part's process."""
    file = record_file(home, name)
    return Record(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None
