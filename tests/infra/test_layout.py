"""Ports and folders stay the same from one start to the next, and nobody else's are used."""

import os
import socket
import tomllib

import pytest

from infra.errors import StackError
from infra.layout import choose_ports, claim_private_folder, lay_out, read_layout, socket_folder, toml_of
from infra.settings import USUAL_PORTS, StackSettings


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for part in USUAL_PORTS:
        monkeypatch.delenv(f"CORRIGENDA_{part.upper()}_PORT", raising=False)


def test_the_usual_ports_are_taken_when_nothing_is_set():
    ports = choose_ports(StackSettings(), remembered={}, running=())
    assert {name: ports[name] for name in USUAL_PORTS} == USUAL_PORTS


def test_a_port_from_the_environment_wins_over_the_last_one(monkeypatch):
    monkeypatch.setenv("CORRIGENDA_PREFECT_PORT", "4299")
    assert choose_ports(StackSettings(), remembered={"prefect": 4242}, running=())["prefect"] == 4299


def test_a_running_part_keeps_its_port_whatever_is_set():
    settings = StackSettings(prefect_port=4299)
    assert choose_ports(settings, remembered={"prefect": 4242}, running=["prefect"])["prefect"] == 4242


def test_a_free_port_is_asked_for_once_and_then_remembered(tmp_path):
    first = lay_out(tmp_path, settings=StackSettings.on_free_ports())
    assert lay_out(tmp_path, settings=StackSettings()).ports == first.ports
    assert read_layout(tmp_path).keys == first.keys


def test_an_internal_port_that_was_taken_meanwhile_is_chosen_anew(tmp_path):
    first = lay_out(tmp_path, settings=StackSettings.on_free_ports())
    with socket.create_server(("127.0.0.1", first.ports["filer"])):
        second = lay_out(tmp_path, settings=StackSettings())
    assert second.ports["filer"] != first.ports["filer"]


def test_too_long_a_folder_for_sockets_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/tmp/" + "long" * 25)
    with pytest.raises(StackError, match="TMPDIR"):
        socket_folder(tmp_path)


def test_a_link_in_place_of_the_sockets_folder_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sockets").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StackError, match="remove it"):
        claim_private_folder(tmp_path / "sockets", owners=[os.getuid()])


def test_a_missing_stack_is_named_with_the_way_out(tmp_path):
    with pytest.raises(StackError, match="corrigenda up"):
        read_layout(tmp_path)


def test_awkward_strings_survive_in_toml():
    table = {"home": '/a "quoted" \\ folder\twith\nfünf ü', "empty": ""}
    assert tomllib.loads(toml_of(table)) == table
