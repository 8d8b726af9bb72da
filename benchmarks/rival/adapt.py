"""What the published code needs to run at all on today's transformers and without a GPU. Nothing here makes it slower.

1. `easyeditor/__init__.py` and `easyeditor/models/__init__.py` import every method and trainer, and with them packages
   that no longer install. Empty packages stand in, so that MEMIT is imported by itself.
2. `datasets` is imported for the corpus of second moments, which are handed in; an empty module stands in.
3. Devices are written "cuda:<number>" throughout; the three calls that make or move tensors read them as "cpu".
4. Decoder layers returned a tuple and now return a tensor; a traced module shows a tuple to the tracing code alone.
"""

from __future__ import annotations

import importlib
import sys
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch


def adapted() -> tuple[ModuleType, ModuleType]:
    """Return the published modules `memit.memit_main` and `memit.compute_z`, ready to run."""
    _empty_packages("easyeditor", "easyeditor.models")
    sys.modules["datasets"] = ModuleType("datasets")
    sys.modules["datasets"].load_dataset = None  # pyright: ignore[reportAttributeAccessIssue]
    for owner, name in ((torch, "zeros"), (torch, "tensor"), (torch.Tensor, "to")):
        setattr(owner, name, _on_cpu(getattr(owner, name)))
    nethook = importlib.import_module("easyeditor.util.nethook")
    nethook.Trace = _showing_tuples(nethook)  # pyright: ignore[reportAttributeAccessIssue]
    main = importlib.import_module("easyeditor.models.memit.memit_main")
    return main, importlib.import_module("easyeditor.models.memit.compute_z")


def _empty_packages(*names: str) -> None:
    found = find_spec(names[0])
    if found is None or found.origin is None:
        raise SystemExit("easyeditor is not installed in this environment; delete the folder, it is made again")
    root = Path(found.origin).parent.parent
    for name in names:
        package = ModuleType(name)
        package.__path__ = [str(root / name.replace(".", "/"))]
        sys.modules[name] = package


def _on_cpu(function):
    def cpu(value):
        return "cpu" if isinstance(value, str) and value.startswith("cuda") else value

    @wraps(function)
    def wrapped(*args, **kwargs):
        return function(*map(cpu, args), **{name: cpu(value) for name, value in kwargs.items()})

    return wrapped


def _showing_tuples(nethook: ModuleType) -> type:
    class Trace(nethook.Trace):
        def __init__(self, module, layer=None, **options):
            traced = module if layer is None else nethook.get_module(module, layer)
            before = traced.register_forward_hook(lambda _module, _inputs, output: (output,))
            super().__init__(module, layer, **options)
            after = traced.register_forward_hook(lambda _module, _inputs, output: output[0])
            self.hooks = (before, after)

        def close(self):
            super().close()
            for hook in self.hooks:
                hook.remove()

    return Trace
