"""What a process loads is decided, not accidental. Counted by modules, not by a clock."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.house.source import ROOT, SOURCE

HEAVY = {
    "pandas",
    "numpy",
    "pyarrow",
    "networkx",
    "IPython",
    "fastapi",
    "rq",
    "redis",
    "typer",
    "anywidget",
    "ipywidgets",
}
COLD_ROOMS = {
    "nbflow": HEAVY,
    "nbflow.errors": HEAVY | {"pydantic"},
    "nbflow.local.keeper": HEAVY | {"pydantic", "cloudpickle"},
    "nbflow.worker.serve": HEAVY | {"pydantic", "cloudpickle"},
}


def loaded_by(module: str) -> set[str]:
    code = f"import json, sys, {module}; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return set(json.loads(out))


@pytest.mark.parametrize("module", COLD_ROOMS)
def test_a_light_module_loads_nothing_heavy(module: str) -> None:
    path = SOURCE.parent / module.replace(".", "/")
    if not (path.is_dir() or path.with_suffix(".py").exists()):
        pytest.skip(f"{module} is not written yet")
    assert not loaded_by(module) & COLD_ROOMS[module]
