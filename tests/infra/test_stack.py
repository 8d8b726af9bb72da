"""The stack starts once, comes back part by part, and leaves nothing behind."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg2
import pytest

from infra import stack as local
from infra.errors import OtherCodeError, PartDiedError, PortTakenError, StackError
from infra.layout import read_layout
from infra.objectstore import BUCKET, MLFLOW_BUCKET, admin_client
from infra.postgres import connect
from infra.processes import find, is_alive, marked, record_file
from infra.settings import StackSettings

pytestmark = pytest.mark.stack


def pids(home: Path) -> dict[str, int | None]:
    return {part.name: part.pid for part in local.status(home)}


def states(home: Path) -> dict[str, str]:
    return {part.name: part.state for part in local.status(home)}


def start_part(home: Path, name: str) -> list[str]:
    lines: list[str] = []
    local.start_part(home, name, report=lines.append)
    return lines


def test_every_server_is_up_after_a_start(stack):
    found = states(stack.home)
    assert {found[name] for name in local.SERVERS} == {"up"}


def test_a_second_start_changes_nothing(stack):
    before = pids(stack.home)
    lines: list[str] = []
    again = local.start(stack.home, runners=False, report=lines.append)
    assert pids(stack.home) == before
    assert again.prefect_api_url == stack.prefect_api_url
    assert all("was up already" in line for line in lines)


def test_everything_listens_on_the_loopback_address_only(stack):
    listening = [
        connection.laddr.ip
        for process in marked(stack.home)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert set(listening) == {"127.0.0.1"}


def test_files_with_secrets_are_private(stack):
    secret = [stack.home / "stack.toml", stack.home / "s3" / "identities.json", *(stack.home / "credentials").iterdir()]
    assert {file.stat().st_mode & 0o777 for file in secret} == {0o600}


def test_down_leaves_no_process_and_no_socket(home):
    start_part(home, "postgres")
    start_part(home, "s3")
    started = marked(home)
    assert len(started) >= 2
    local.stop(home, report=print)
    assert [process for process in started if is_alive(process)] == []
    assert not marked(home)
    assert not read_layout(home).sockets.exists()
    assert set(states(home).values()) == {"down"}


def test_down_of_a_stack_that_never_was_is_harmless(tmp_path):
    local.stop(tmp_path / "nothing", report=print)
    assert not (tmp_path / "nothing").exists()
    assert local.status(tmp_path / "nothing") == []


def test_a_taken_port_is_named_before_anything_starts(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        settings = StackSettings(prefect_port=port, mlflow_port=0, s3_port=0)
        with pytest.raises(PortTakenError, match=rf"Prefect server: port {port} is taken by .*CORRIGENDA_PREFECT_PORT"):
            local.start(tmp_path / "home", report=print, settings=settings)
    assert not marked(tmp_path / "home")


def test_a_part_that_dies_while_starting_is_named_with_its_log_and_the_rest_is_stopped(home):
    (home / "postgres").mkdir(mode=0o700)
    with pytest.raises(PartDiedError, match=r"(?s)PostgreSQL ended by itself.*postgres\.log.*\S"):
        local.start(home, runners=False, report=print)
    assert not marked(home)


def test_a_dead_part_is_reported_with_its_log_and_brought_back_alone(home):
    start_part(home, "postgres")
    start_part(home, "s3")
    postgres, server = find(home, "postgres"), find(home, "s3")
    assert postgres and server
    server.send_signal(signal.SIGKILL)
    psutil.wait_procs([server], timeout=10)
    [dead] = [part for part in local.status(home) if part.name == "s3"]
    assert dead.state == "dead"
    assert "s3.log" in dead.detail
    assert any("S3 server had died" in line for line in start_part(home, "s3"))
    assert states(home)["s3"] == "up"
    assert pids(home)["postgres"] == postgres.pid


def test_what_older_code_started_is_told_and_nothing_starts_beside_it(home):
    start_part(home, "postgres")
    file = record_file(home, "postgres")
    record = json.loads(file.read_text())
    file.write_text(json.dumps({name: record[name] for name in ("pid", "created", "log_start")}))  # as it once was
    [part] = [part for part in local.status(home) if part.name == "postgres"]
    assert part.state == "old" and "'corrigenda down'" in part.detail
    with pytest.raises(OtherCodeError, match=r"^postgres: started from other code .*'corrigenda up'$"):
        local.start(home, runners=False, report=print)
    assert states(home) | {"postgres": "down"} == dict.fromkeys(states(home), "down")
    local.stop(home, report=print)
    start_part(home, "postgres")
    assert states(home)["postgres"] == "up"


def test_ctrl_c_in_the_middle_stops_what_was_started(home):
    def interrupt(line: str) -> None:
        if "PostgreSQL is up" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.start(home, runners=False, report=interrupt)
    assert not marked(home)


def test_what_the_store_has_acknowledged_survives_its_restart(home):
    start_part(home, "s3")
    store = admin_client(read_layout(home))
    for number in range(50):
        store.put_object(Bucket=BUCKET, Key=f"candidates/{number}", Body=str(number).encode())
    local.stop_part(home, "s3", report=print)
    start_part(home, "s3")
    stored = [store.get_object(Bucket=BUCKET, Key=f"candidates/{number}")["Body"].read() for number in range(50)]
    assert stored == [str(number).encode() for number in range(50)]


def test_a_disk_with_three_gigabytes_left_holds_every_bucket(home):
    folder = home / "s3"
    folder.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3g", "tmpfs", folder], check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        start_part(home, "s3")
        store = admin_client(read_layout(home))
        for bucket in (BUCKET, MLFLOW_BUCKET):
            store.put_object(Bucket=bucket, Key="candidates/one", Body=b"one")
    finally:
        local.stop_part(home, "s3", report=print)
        subprocess.run(["umount", folder], check=True)


def test_the_database_keeps_its_rows_over_a_restart_with_a_client_connected(home):
    start_part(home, "postgres")
    client = connect(read_layout(home), "corrigenda")
    client.cursor().execute("CREATE TABLE kept AS SELECT 1 AS one")
    local.stop_part(home, "postgres", report=print)
    client.close()
    start_part(home, "postgres")
    client = connect(read_layout(home), "corrigenda")
    cursor = client.cursor()
    cursor.execute("SELECT one FROM kept")
    assert cursor.fetchall() == [(1,)]
    client.close()


def test_a_cluster_that_let_everybody_in_asks_for_passwords_from_its_next_start_on(home):
    start_part(home, "postgres")
    layout = read_layout(home)
    connect(layout, "corrigenda").cursor().execute("CREATE TABLE kept AS SELECT 1 AS one")
    local.stop_part(home, "postgres", report=print)
    (home / "postgres" / "pg_hba.conf").write_text("local all all trust\n")
    (home / "credentials" / "postgres.secret").write_text("another")
    start_part(home, "postgres")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        connect(layout, "corrigenda")
    cursor = connect(read_layout(home), "corrigenda").cursor()
    cursor.execute("SELECT one FROM kept")
    assert cursor.fetchall() == [(1,)]


def test_a_pid_that_now_belongs_to_another_program_is_never_killed(home):
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    record = {"pid": bystander.pid, "created": psutil.Process(bystander.pid).create_time() - 100, "log_start": 0}
    record_file(home, "s3").write_text(json.dumps(record), encoding="utf-8")
    try:
        assert states(home)["s3"] == "dead"
        local.stop(home, report=print)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_what_a_dead_part_left_running_is_stopped_too(home):
    marks = {"CORRIGENDA_STACK": str(home), "CORRIGENDA_PART": "editor"}
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=marks)
    deadline = time.monotonic() + 10
    while not marked(home) and time.monotonic() < deadline:
        time.sleep(0.05)
    local.stop(home, report=print)
    assert not psutil.pid_exists(orphan.pid)
    orphan.wait(10)


def test_two_commands_at_once_do_not_meet(home):
    with local.only_one(home), pytest.raises(StackError, match="another command"):
        local.stop(home, report=print)
