"""An environment of its own for the published code, which asks for the torch and numpy of 2022."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

PACKAGE = "easyeditor==0.0.1.dev0"


def python_of(folder: Path) -> Path:
    """Return the interpreter of an environment that holds the published package over this project's torch.

    It is made on the first call: the package alone from PyPI, for the versions that it pins no longer install, and
    a path to this environment's packages, so that both sides compute with the same torch and transformers.

    Raises:
        subprocess.CalledProcessError: it can't be made; venv or pip have said why.
    """
    python, linked = folder / "bin" / "python", folder / "linked.txt"
    packages = sysconfig.get_paths()["purelib"]
    if linked.is_file() and linked.read_text(encoding="utf-8") == packages:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", folder], check=True)
    site = sysconfig.get_path("purelib", vars={"base": str(folder)})
    (Path(site) / "project.pth").write_text(packages + "\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", python, "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", PACKAGE], check=True)
    linked.write_text(packages, encoding="utf-8")
    return python
