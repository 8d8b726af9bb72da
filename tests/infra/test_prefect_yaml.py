"""The deployments for a work pool are those that the local runners serve, and Prefect takes the file as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from prefect.cli.deploy._models import DeploymentConfig, PrefectYamlModel, RawScheduleConfig
from prefect.flows import load_flow_from_entrypoint

from flows.serve import SERVED, flows_of, schedules
from infra.layout import made_up
from tasks.settings import Settings

ROOT = Path(__file__).parents[2]
FILE = (ROOT / "infra" / "prefect.yaml").read_text(encoding="utf-8")
WRITTEN = yaml.safe_load(FILE)


@pytest.fixture
def deployments() -> list[DeploymentConfig]:
    return PrefectYamlModel.model_validate(WRITTEN).deployments


def test_prefect_reads_every_key_of_the_file():
    """It takes an unknown one for none, without a word."""
    assert set(WRITTEN) - {"prefect-version"} <= set(PrefectYamlModel.model_fields)
    for written in WRITTEN["deployments"]:
        assert set(written) <= set(DeploymentConfig.model_fields)


def test_each_pool_gets_the_flows_of_the_local_runner_of_its_role(deployments, monkeypatch):
    monkeypatch.chdir(ROOT)
    served = {f"corrigenda-{role}": {flow.name for flow in flows_of(role)} for role in SERVED}
    found: dict[str, set[str]] = {}
    for each in deployments:
        assert load_flow_from_entrypoint(each.entrypoint).name == each.name
        found.setdefault(each.work_pool.name, set()).add(each.name)
    assert found == served


def test_the_schedules_are_the_local_ones(deployments):
    written = {each.name: each.schedules for each in deployments if each.schedules}
    local = schedules(Settings())
    assert written == {name: [RawScheduleConfig(cron=cron, timezone="UTC")] for name, cron in local.items()}


def test_the_note_names_every_credential_that_a_local_runner_is_given_and_the_promoters_apart():
    to_both, to_the_promoter = (set(re.findall(r"CORRIGENDA_\w+", part)) for part in FILE.split("The promoter's alone"))
    editor, promoter = ({f"CORRIGENDA_{name.upper()}" for name in made_up(role)} for role in ("editor", "promoter"))
    assert editor | {"CORRIGENDA_ROOT_FINGERPRINT"} <= to_both
    assert to_the_promoter - {"CORRIGENDA_CHECKOUT"} == promoter - editor
