"""The code that a part of the stack runs, as a digest: so a part that was started from other code is seen.

A stack outlives a `git pull` and a `pip install`: its processes go on with the code that they have read, beside
commands and flow runs that read today's. Of PostgreSQL, the S3 server and Prefect it is the pinned versions that count.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from editors.digests import digest_of_files

HERE = Path(__file__).parents[1]
PINS = "infra/pins.txt"
OURS = ("consuming", "corrigenda.py", "editors", "flows", "governance", "infra", "tasks")
RUN_BY: Mapping[str, tuple[str, ...]] = {
    "postgres": (PINS,),
    "s3": (PINS,),
    "prefect": (PINS,),
    "mlflow": (PINS, "infra/mlflow_app.py"),
    "editor": OURS,
    "promoter": OURS,
}
"""The files and folders that each part is made of."""


def code_of(part: str, *, root: Path = HERE) -> str:
    """Return the digest of what a part would run if it were started now."""
    return digest_of_files((file for name in RUN_BY[part] for file in _files(root / name)), root=root)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
