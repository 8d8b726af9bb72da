from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import stack as local
from infra.layout import lay_out
from infra.processes import marked
from infra.settings import StackSettings


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The home of a stack that a test starts for itself; whatever it left is stopped."""
    lay_out(tmp_path / "home", settings=StackSettings.on_free_ports())
    yield tmp_path / "home"
    local.stop(tmp_path / "home", report=print)
    assert not marked(tmp_path / "home")
