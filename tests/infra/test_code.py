"""A part's code is known by what it would run, and by nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from infra.code import HERE, OURS, RUN_BY, code_of
from infra.stack import RUNNERS, SERVERS


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the code, to be changed."""
    root = tmp_path_factory.mktemp("checkout")
    for name in OURS:
        copy = shutil.copytree if (HERE / name).is_dir() else shutil.copy
        copy(HERE / name, root / name)
    return root


@pytest.mark.parametrize(
    ("changed", "others"),
    [
        ("tasks/edit.py", {"editor", "promoter"}),
        ("infra/policies/default.toml", {"editor", "promoter"}),
        ("infra/mlflow_app.py", {"mlflow", "editor", "promoter"}),
        ("infra/pins.txt", {*SERVERS, *RUNNERS}),
        ("tasks/__pycache__/edit.cpython-311.pyc", set()),
    ],
)
def test_a_change_is_seen_by_the_parts_that_would_run_it(checkout, changed, others):
    before = {part: code_of(part, root=checkout) for part in RUN_BY}
    (checkout / changed).parent.mkdir(exist_ok=True)
    with (checkout / changed).open("a") as file:
        file.write("# changed\n")
    assert {part for part in RUN_BY if code_of(part, root=checkout) != before[part]} == others


def test_another_copy_of_the_same_code_is_the_same(checkout, tmp_path):
    shutil.copytree(checkout, tmp_path / "copy")
    assert code_of("editor", root=tmp_path / "copy") == code_of("editor", root=checkout)
    (tmp_path / "copy" / "tasks" / "edit.py").rename(tmp_path / "copy" / "tasks" / "other.py")
    assert code_of("editor", root=tmp_path / "copy") != code_of("editor", root=checkout)
