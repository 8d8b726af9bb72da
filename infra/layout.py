"""What a local stack consists of on disk: its folder, the sockets' folder, its ports and its secrets.

Everything lives under one home, except the PostgreSQL socket: the path of a socket is limited to about 107 bytes, so it
gets a short private folder among the temporary files. Ports and that folder are remembered, so the next start uses the
same addresses.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import secrets
import socket
import stat
import tempfile
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.errors import StackError
from infra.settings import USUAL_PORTS, StackSettings
from tasks.roots import make_root, pinned_root
from tasks.sealing import service_keys

HOST = "127.0.0.1"
S3_PORTS = ("s3", "s3_grpc", "master", "master_grpc", "volume", "volume_grpc", "filer", "filer_grpc")
ROLES = ("admin", "mlflow", "editor", "promoter", "consumer")
DATABASE_ROLES = ("editor", "promoter", "requester", "reader")
OWNER = "postgres"
LONGEST_SOCKET_FOLDER = 90

# Below the range from which the kernel takes ports for outgoing connections.
FREE_PORTS = range(20000, 32000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """A role's credentials, empty where it uses none.

    For S3, for the ledger's database, those with which the review service signs and opens sealed secrets, and the one
    with which releases are signed.
    """

    access_key: str = ""
    secret_key: str = ""
    database_user: str = ""
    database_password: str = ""
    signing_key: str = ""
    sealing_key: str = ""
    release_key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The folders, ports and secrets of one stack.

    Args:
        home: the stack's folder, absolute.
        sockets: the short private folder of the PostgreSQL socket.
        ports: one port a name: the public ones, and those inside the S3 server.
        keys: the credentials of each role.
        root_fingerprint: of the key that vouches for people and services.
        owner_password: of the database's owner, who alone may alter it.
        filer_secret: with which the S3 server signs its own requests to its storage.
    """

    home: Path
    sockets: Path
    ports: Mapping[str, int]
    keys: Mapping[str, Keys]
    root_fingerprint: str
    owner_password: str
    filer_secret: str

    @property
    def run(self) -> Path:
        """Where process records and the remembered ports are."""
        return self.home / "run"

    @property
    def prefect_ui_url(self) -> str:
        """The address of the Prefect server for a browser."""
        return f"http://{HOST}:{self.ports['prefect']}"

    @property
    def prefect_api_url(self) -> str:
        """The address of the Prefect server for programs."""
        return f"{self.prefect_ui_url}/api"

    @property
    def mlflow_url(self) -> str:
        """The address of the MLflow server."""
        return f"http://{HOST}:{self.ports['mlflow']}"

    @property
    def s3_endpoint(self) -> str:
        """The address of the S3 server."""
        return f"http://{HOST}:{self.ports['s3']}"

    def database_url(self, database: str, *, driver: str = "psycopg2") -> str:
        """Return the address of a database in SQLAlchemy's form, to enter as a role that is named apart."""
        return f"postgresql+{driver}:///{database}?host={self.sockets}"

    def owner_url(self, database: str, *, driver: str = "psycopg2") -> str:
        """Return the address of a database with its owner's credentials."""
        return f"postgresql+{driver}://{OWNER}:{self.owner_password}@/{database}?host={self.sockets}"


def lay_out(home: Path, *, settings: StackSettings, running: Collection[str] = ()) -> Layout:
    """Create or read the layout of the stack at `home`.

    Args:
        home: the stack's folder.
        settings: which ports are asked for.
        running: names of the parts that run already; they keep their ports.
    """
    home = home.absolute()
    for folder in (home, home / "run", home / "logs", home / "credentials"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    remembered = read_state(home)
    ports = choose_ports(settings, remembered=remembered.get("ports", {}), running=running)
    sockets = Path(remembered.get("sockets") or socket_folder(home))
    make_root(home / "trust")
    write_private(home / "run" / "state.json", json.dumps({"sockets": str(sockets), "ports": ports}, indent=1))
    return read_layout(home)


def read_layout(home: Path) -> Layout:
    """Read the layout of the last start of the stack at `home`."""
    state = read_state(home)
    if not state:
        raise StackError(f"there is no stack in {home}; start one with 'corrigenda up'")
    return Layout(
        home=home,
        sockets=Path(state["sockets"]),
        ports=state["ports"],
        keys={role: role_keys(home, role) for role in (*ROLES, *DATABASE_ROLES)},
        root_fingerprint=pinned_root(home / "trust"),
        owner_password=kept_secret(home / "credentials" / "postgres.secret"),
        filer_secret=kept_secret(home / "credentials" / "filer.secret"),
    )


def read_state(home: Path) -> dict:
    """Read the ports and the sockets' folder of the last start; empty when there was none."""
    file = home / "run" / "state.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def choose_ports(settings: StackSettings, *, remembered: Mapping[str, int], running: Collection[str]) -> dict[str, int]:
    """Choose a port for each name: the one that is in use, else the one set, else the last one, else a usual one."""
    ports: dict[str, int] = {}
    for name, usual in USUAL_PORTS.items():
        wanted = settings.wanted_port(name)
        if name in running and name in remembered:
            ports[name] = remembered[name]
        elif wanted == 0:
            ports[name] = free_port(remembered.get(name), taken=ports.values())
        else:
            ports[name] = wanted or remembered.get(name, usual)
    for name in S3_PORTS:
        if name not in USUAL_PORTS:
            in_use = "s3" in running and name in remembered
            ports[name] = remembered[name] if in_use else free_port(remembered.get(name), taken=ports.values())
    return ports


def free_port(preferred: int | None, *, taken: Collection[int]) -> int:
    """Return the preferred port if nothing listens there, else a free one that isn't among `taken`."""
    if preferred and preferred not in taken and is_free(preferred):
        return preferred
    for port in random.sample(FREE_PORTS, k=200):
        if port not in taken and is_free(port):
            return port
    raise StackError(f"no free port on {HOST} among 200 tried between {FREE_PORTS.start} and {FREE_PORTS.stop}")


def is_free(port: int) -> bool:
    """Say whether a server could listen on this port of 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def socket_folder(home: Path) -> Path:
    """Name the folder of the PostgreSQL socket: short, and another one for each home and user."""
    name = f"corrigenda-{os.getuid()}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:10]}"
    folder = Path(tempfile.gettempdir()) / name
    if len(os.fsencode(folder)) > LONGEST_SOCKET_FOLDER:
        raise StackError(f"{folder} is too long a path for a socket; set TMPDIR to a shorter folder")
    return folder


def claim_private_folder(folder: Path, *, owners: Collection[int]) -> None:
    """Create a folder that only its owner can enter, or make sure that an existing one is that.

    Raises:
        StackError: somebody else has put something else there.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners:
        raise StackError(f"{folder} belongs to user {found.st_uid} or is no folder; remove it, or set TMPDIR")
    folder.chmod(0o700)


def role_keys(home: Path, role: str) -> Keys:
    """Read a role's credentials; what is missing is made up and kept."""
    file = home / "credentials" / f"{role}.toml"
    kept = tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    table = made_up(role) | kept
    if table != kept:
        write_private(file, toml_of(table))
    return Keys(**{name.removeprefix("s3_"): value for name, value in table.items()})


def made_up(role: str) -> dict[str, str]:
    """Make up a role's credentials; the promoter alone signs, and opens what is sealed."""
    table: dict[str, str] = service_keys() if role == "promoter" else {}
    if role in ROLES:
        table |= {"s3_access_key": f"{role}-{secrets.token_hex(8)}", "s3_secret_key": secrets.token_urlsafe(30)}
    if role in DATABASE_ROLES:
        table |= {"database_user": f"corrigenda_{role}", "database_password": secrets.token_hex(32)}
    return table


def kept_secret(file: Path) -> str:
    """Read a random secret, or make it up and keep it."""
    if not file.is_file():
        write_private(file, secrets.token_hex(32))
    return file.read_text(encoding="utf-8")


def toml_of(table: Mapping[str, str]) -> str:
    """Write a flat table of strings as TOML: a JSON string is a TOML string."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())


def write_private(file: Path, text: str) -> None:
    """Write a file at once and for its owner's eyes only."""
    fresh = file.with_name(f".{file.name}.fresh")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
    fresh.replace(file)
