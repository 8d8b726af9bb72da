"""What `make` installs is what the project asks for."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def test_every_dependency_is_pinned_to_a_version_that_it_allows():
    lines = (ROOT / "infra" / "pins.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    chosen = [*project["dependencies"], *extras["platform"], *extras["serve"], *extras["dev"]]
    wanted = [Requirement(line) for line in chosen]
    wrong = [
        str(each)
        for each in wanted
        if each.name != "torch" and not each.specifier.contains(pins.get(canonicalize_name(each.name), "0"))
    ]
    assert wrong == []
