"""The servers keep their data in PostgreSQL and S3, answer to this machine only, and send nothing elsewhere."""

import http.client
import json
import urllib.parse

import psutil
import pytest

from infra.layout import read_layout
from infra.objectstore import MLFLOW_BUCKET, admin_client
from infra.postgres import connect
from infra.processes import find

pytestmark = pytest.mark.stack


def ask(address, method, path, *, body=None, headers=None):
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc, timeout=30)
    connection.request(method, path, body=body, headers=headers or {})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


def count(stack, database, table):
    connection = connect(read_layout(stack.home), database)
    cursor = connection.cursor()
    cursor.execute(f"SELECT count(*) FROM {table}")
    row = cursor.fetchone()
    connection.close()
    assert row
    return row[0]


def test_prefect_and_mlflow_keep_their_tables_in_postgresql(stack):
    assert count(stack, "prefect", "block_type") > 0
    assert count(stack, "mlflow", "experiments") > 0


def test_mlflow_stores_artifacts_in_its_own_bucket(stack):
    path = "/api/2.0/mlflow-artifacts/artifacts/infra-tests/note.txt"
    assert ask(stack.mlflow_url, "PUT", path, body=b"kept")[0] == 200
    asked = {"Bucket": MLFLOW_BUCKET, "Prefix": "infra-tests/"}
    found = admin_client(read_layout(stack.home)).list_objects_v2(**asked)["Contents"]
    assert [each["Key"] for each in found] == ["infra-tests/note.txt"]
    assert ask(stack.mlflow_url, "GET", path)[1] == b"kept"


def test_mlflow_refuses_requests_meant_for_another_host(stack):
    path = "/api/2.0/mlflow/experiments/get?experiment_id=0"
    assert ask(stack.mlflow_url, "GET", path)[0] == 200
    assert ask(stack.mlflow_url, "GET", path, headers={"Host": "attacker.example"})[0] == 403


def test_the_prefect_ui_asks_the_stacks_own_server(stack):
    assert ask(stack.prefect_ui_url, "GET", "/v2/", headers={"Accept": "text/html"})[0] == 200
    settings = json.loads(ask(stack.prefect_ui_url, "GET", "/ui-settings")[1])
    assert settings["api_url"] == stack.prefect_api_url


@pytest.mark.parametrize("name", ["prefect", "mlflow"])
def test_telemetry_is_off(stack, name):
    process = find(stack.home, name)
    assert process
    environment = process.environ()
    assert environment["DO_NOT_TRACK"] == "true"
    expected = {
        "prefect": ("PREFECT_SERVER_ANALYTICS_ENABLED", "false"),
        "mlflow": ("MLFLOW_DISABLE_TELEMETRY", "true"),
    }
    variable, value = expected[name]
    assert environment[variable] == value
    outward = [c for c in process.net_connections(kind="inet") if c.raddr and c.raddr.ip != "127.0.0.1"]
    assert outward == []


def test_no_server_starts_processes_that_are_not_needed(stack):
    processes = [find(stack.home, name) for name in ("prefect", "mlflow")]
    assert [process.children(recursive=True) for process in processes if isinstance(process, psutil.Process)] == [
        [],
        [],
    ]


@pytest.mark.parametrize("role", ["editor", "promoter"])
def test_a_runner_holds_the_credentials_of_its_own_role_alone(stack, role):
    process = find(stack.home, role)
    assert process
    environment = process.environ()
    layout = read_layout(stack.home)
    own = layout.keys[role]
    assert environment["CORRIGENDA_S3_SECRET_KEY"] == own.secret_key
    assert environment["CORRIGENDA_DATABASE_PASSWORD"] == own.database_password
    others = [keys for name, keys in layout.keys.items() if name != role]
    secrets = {keys.secret_key for keys in others} | {keys.database_password for keys in others}
    secrets |= {layout.owner_password}
    assert not [value for value in environment.values() for secret in secrets - {""} if secret in value]
