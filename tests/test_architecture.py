from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_imports_flow_from_flows_over_tasks_to_editors():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_consumer_imports_neither_tasks_nor_flows(tmp_path):
    """In a folder with a `tasks/` and a `flows/` of its own, the public face still works."""
    for name in ("tasks", "flows"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise AssertionError('the wrong package was imported')")
    program = "import corrigenda, editors; print(corrigenda.ConsumerSettings().registered_model)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "assistant", done.stderr


def test_the_public_face_waits_for_nothing_heavy():
    heavy = {"torch", "transformers", "numpy", "safetensors", "mlflow", "boto3", "model_signing"}
    program = "import sys, corrigenda; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert heavy & set(done.stdout.split()) == set()
