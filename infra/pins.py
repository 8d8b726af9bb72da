"""Write the complete list of pinned packages: `make pins`.

It lists what the installed environment holds of the project's dependencies and everything they need in turn, so that
installing resolves nothing. Torch and what belongs to it are left out: pip installs them first, as fits the machine.
"""

from __future__ import annotations

import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEADER = (
    "# Everything that core, platform, serve and dev need on Python 3.11; torch is installed first. "
    "Written by `make pins`.\n"
)
TORCH_AND_ITS_OWN = ("torch", "triton", "nvidia-", "cuda-")


def main() -> None:
    """Write infra/pins.txt for the pyproject.toml of this working copy."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    chosen = [*project["dependencies"], *extras["platform"], *extras["serve"], *extras["dev"]]
    wanted = [Requirement(line) for line in chosen]
    found = {name: each for name, each in closure(wanted).items() if not name.startswith(TORCH_AND_ITS_OWN)}
    pins = [f"{name}=={version}\n" for name, version in sorted(found.items())]
    Path("infra/pins.txt").write_text(HEADER + "".join(pins), encoding="utf-8")


def closure(wanted: list[Requirement]) -> dict[str, str]:
    """Return the installed version of every package that the wanted ones lead to."""
    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    queue = list(wanted)
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            versions[name] = distribution(name).version
            queue += needed_by(name, extra=extra)
    return versions


def needed_by(name: str, *, extra: str) -> list[Requirement]:
    """List what an installed package needs on this machine, with one of its extras."""
    requirements = [Requirement(line) for line in distribution(name).requires or ()]
    return [each for each in requirements if each.marker is None or each.marker.evaluate({"extra": extra})]


if __name__ == "__main__":
    main()
