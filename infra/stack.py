"""The local stack: start all its parts, say how they are, and stop them without leaving a process.

Parts start as soon as those they need are up, so the servers come up beside each other. A part that is well is left
alone: starting a started stack does nothing, and starting one with a dead part brings back that part.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from infra import processes
from infra.errors import OtherCodeError, PartDiedError, PartSilentError, PortTakenError, StackError
from infra.layout import Layout, is_free, lay_out, read_layout, read_state, toml_of, write_private
from infra.objectstore import BUCKET, object_store
from infra.parts import Part
from infra.postgres import postgres
from infra.servers import mlflow_server, prefect_server, runner
from infra.settings import StackSettings

Report = Callable[[str], None]
State = Literal["up", "old", "silent", "dead", "down"]

SERVERS = ("postgres", "s3", "prefect", "mlflow")
RUNNERS = ("editor", "promoter")
STOP_ORDER = (RUNNERS, ("prefect", "mlflow"), ("postgres", "s3"))
LOOK_SECONDS = 0.1
RENEW = "run 'corrigenda down', then 'corrigenda up'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A started stack: where its parts are, and the ledger's database with its owner's credentials."""

    home: Path
    prefect_api_url: str
    prefect_ui_url: str
    mlflow_url: str
    s3_endpoint: str
    s3_bucket: str
    database_url: str
    root_fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartStatus:
    """How a part is.

    Up; old (up, but started from other code than is here now); silent (runs, but doesn't answer); dead (ended by
    itself); down (not started).
    """

    name: str
    title: str
    state: State
    address: str
    pid: int | None
    detail: str


def start(
    home: Path,
    *,
    report: Report,
    runners: bool = True,
    settings: StackSettings | None = None,
    prepare: Callable[[Stack], None] = lambda stack: None,
) -> Stack:
    """Start what isn't running of the stack at `home`, and wait until all of it is well.

    Args:
        home: the stack's folder; created when it doesn't exist.
        report: told one line when a part is up.
        runners: whether to start the runners too, or only the servers.
        settings: the ports asked for; read from the environment when not given.
        prepare: done when the servers are well, before the runners start.

    Raises:
        OtherCodeError: a part that runs was started from other code; nothing was done.
        PortTakenError: another program listens on a port that was asked for.
        PartDiedError: a part ended by itself.
        PartSilentError: a part didn't become healthy in time.
    """
    home = home.absolute()
    with only_one(home):
        require_same_code(home, [*SERVERS, *RUNNERS] if runners else SERVERS)
        running = [name for name in SERVERS if processes.find(home, name)]
        layout = lay_out(home, settings=settings or StackSettings(), running=running)
        parts = describe_parts(layout)
        bring_up([parts[name] for name in SERVERS], home=home, report=report)
        write_private(home / "stack.toml", toml_of(settings_table(layout)))
        prepare(stack_at(layout))
        if runners:
            bring_up([parts[name] for name in RUNNERS], home=home, report=report)
    return stack_at(layout)


def stop(home: Path, *, report: Report) -> None:
    """Stop every part of the stack at `home`, runners first, and make sure that no process is left."""
    home = home.absolute()
    if not read_state(home):
        return
    with only_one(home):
        parts = describe_parts(read_layout(home))
        for group in STOP_ORDER:
            stop_group([parts[name] for name in group], home=home, report=report)
        processes.kill(processes.marked(home))


def status(home: Path) -> list[PartStatus]:
    """Say how each part of the stack at `home` is."""
    home = home.absolute()
    if not read_state(home):
        return []
    parts = describe_parts(read_layout(home))
    return [part_status(part, home=home) for part in parts.values()]


def start_part(home: Path, name: str, *, report: Report) -> None:
    """Start one part of a stack; those it needs must be up."""
    home = home.absolute()
    with only_one(home):
        layout = read_layout(home)
        bring_up([describe_parts(layout)[name]], home=home, report=report)


def stop_part(home: Path, name: str, *, report: Report) -> None:
    """Stop one part of a stack, and leave the others alone."""
    home = home.absolute()
    with only_one(home):
        parts = describe_parts(read_layout(home))
        stop_group([parts[name]], home=home, report=report)


def describe_parts(layout: Layout) -> dict[str, Part]:
    """Describe every part, by name, in the order of status reports."""
    parts = [
        postgres(layout),
        object_store(layout),
        prefect_server(layout),
        mlflow_server(layout),
        runner(layout, "editor"),
        runner(layout, "promoter"),
    ]
    return {part.name: part for part in parts}


def bring_up(parts: Sequence[Part], *, home: Path, report: Report) -> None:
    """Start the parts that aren't up, each as soon as those it needs are; undo that if one fails.

    Raises:
        StackError: one of them can't be started; what was started is stopped again.
    """
    for part in parts:
        if part.port is not None and processes.find(home, part.name) is None:
            require_free_port(part, part.port)
    launched: list[Part] = []
    try:
        start_in_order(parts, home=home, report=report, launched=launched)
    except BaseException:  # Ctrl-C too: it would leave half a stack
        report("stopping what was started")
        stop_group(launched, home=home, report=report)
        raise


def require_same_code(home: Path, names: Sequence[str]) -> None:
    """Make sure that no part goes on with other code beside what is started now.

    Raises:
        OtherCodeError: one does.
    """
    if others := [name for name in names if processes.runs_other_code(home, name)]:
        raise OtherCodeError(f"{', '.join(others)}: started from other code than is here now; {RENEW}")


def require_free_port(part: Part, port: int) -> None:
    """Make sure that nothing else listens where a part will.

    Raises:
        PortTakenError: something does.
    """
    if not is_free(port):
        raise PortTakenError(
            f"{part.title}: port {port} is taken by {processes.listener(port)}; stop that program, "
            f"or set CORRIGENDA_{part.name.upper()}_PORT to another port (0 takes any free one)"
        )


def start_in_order(parts: Sequence[Part], *, home: Path, report: Report, launched: list[Part]) -> None:
    """Start parts and watch them until all are up; `launched` collects those that weren't running."""
    waiting = list(parts)
    starting: dict[str, tuple[Part, float]] = {}
    while waiting or starting:
        unready = {part.name for part in waiting} | set(starting)
        for part in [part for part in waiting if unready.isdisjoint(part.needs)]:
            waiting.remove(part)
            starting[part.name] = (part, time.monotonic())
            if processes.find(home, part.name) is None:
                launched.append(part)
                launch(part, home=home, report=report)
        for part, since in list(starting.values()):
            seconds = time.monotonic() - since
            if is_up(part, home=home, seconds=seconds):
                del starting[part.name]
                part.settle()
                report(f"{part.title} {came_up(part, seconds if part in launched else None)}")
        time.sleep(LOOK_SECONDS)


def launch(part: Part, *, home: Path, report: Report) -> None:
    """Start one part, after saying so if it had died."""
    if processes.read_record(home, part.name):
        report(f"{part.title} had died; its log ends:\n{processes.log_tail(home, part.name)}")
        processes.stop([part.program], home=home)
    part.prepare()
    processes.launch(part.program, home=home)


def is_up(part: Part, *, home: Path, seconds: float) -> bool:
    """Say whether a part that is starting has become healthy.

    Raises:
        PartDiedError: it has ended instead.
        PartSilentError: it has had time enough.
    """
    if processes.find(home, part.name) is None:
        raise PartDiedError(f"{part.title} ended by itself; {evidence(home, part)}")
    if part.is_healthy():
        return True
    if seconds > part.start_seconds:
        raise PartSilentError(f"{part.title} runs but isn't healthy after {seconds:.0f} s; {evidence(home, part)}")
    return False


def evidence(home: Path, part: Part) -> str:
    """Point at a part's log and show its end."""
    return f"its log, {processes.log_file(home, part.name)}, ends:\n{processes.log_tail(home, part.name)}"


def came_up(part: Part, seconds: float | None) -> str:
    """Word that a part is up, where, and after how long; None for one that was up before."""
    where = f" at {part.address}" if part.address else ""
    return f"was up already{where}" if seconds is None else f"is up{where} ({seconds:.1f} s)"


def stop_group(parts: Sequence[Part], *, home: Path, report: Report) -> None:
    """Stop parts beside each other."""
    stopped = processes.stop([part.program for part in parts], home=home)
    for part in parts:
        part.clear()
        if part.name in stopped:
            report(f"{part.title} is stopped")


def part_status(part: Part, *, home: Path) -> PartStatus:
    """Find out how one part is."""
    process = processes.find(home, part.name)
    if process is not None:
        well: State = "old" if processes.runs_other_code(home, part.name) else "up"
        state: State = well if part.is_healthy() else "silent"
    else:
        state = "dead" if processes.read_record(home, part.name) else "down"
    detail = evidence(home, part) if state in ("silent", "dead") else ""
    if state == "old":
        detail = f"started from other code than is here now; {RENEW}"
    pid = process.pid if process else None
    return PartStatus(name=part.name, title=part.title, state=state, address=part.address, pid=pid, detail=detail)


def stack_at(layout: Layout) -> Stack:
    """Gather where the parts of a stack are."""
    return Stack(
        home=layout.home,
        prefect_api_url=layout.prefect_api_url,
        prefect_ui_url=layout.prefect_ui_url,
        mlflow_url=layout.mlflow_url,
        s3_endpoint=layout.s3_endpoint,
        s3_bucket=BUCKET,
        database_url=layout.owner_url("corrigenda"),
        root_fingerprint=layout.root_fingerprint,
    )


def settings_table(layout: Layout) -> dict[str, str]:
    """Gather the settings that lead a command to this stack, with the credentials of a consumer and a requester."""
    consumer, requester = layout.keys["consumer"], layout.keys["requester"]
    addresses = {name: str(value) for name, value in asdict(stack_at(layout)).items()}
    return addresses | {
        "database_url": layout.database_url("corrigenda"),
        "database_user": requester.database_user,
        "database_password": requester.database_password,
        "s3_access_key": consumer.access_key,
        "s3_secret_key": consumer.secret_key,
    }


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Keep two commands from starting or stopping the same stack at once."""
    home.parent.mkdir(parents=True, exist_ok=True)
    for folder in (home, home / "run"):
        folder.mkdir(exist_ok=True, mode=0o700)
    with (home / "run" / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackError(f"another command is starting or stopping the stack in {home}; wait for it") from error
        yield
