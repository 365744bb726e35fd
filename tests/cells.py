"""A kernel and a worker in processes of their own, for tests of how code travels.

`Kernel(project)` runs cells in the project's directory and makes bundles; `worker(...)` opens them in another directory,
with none of the notebook's code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent

KERNEL = """
def _go():
    import json, linecache, sys
    from pathlib import Path
    from nbflow.define.bundle import make_bundle
    from nbflow.errors import NbflowError
    from nbflow.model.definition import StepSpec
    from nbflow.model.signing import Signer

    names = sys.modules["__main__"].__dict__
    results = []
    for number, (kind, *rest) in enumerate(json.load(sys.stdin)):
        if kind == "cell":
            path = f"/tmp/ipykernel_7/{number}.py"
            linecache.cache[path] = (len(rest[0]), None, rest[0].splitlines(keepends=True), path)
            exec(compile(rest[0], path, "exec", dont_inherit=True), names)
        elif kind == "write":
            Path(rest[0]).parent.mkdir(parents=True, exist_ok=True)
            Path(rest[0]).write_text(rest[1])
        else:
            steps = {step: (StepSpec(step), names[step], None) for step in rest[1]}
            try:
                made = make_bundle("orders", steps, signer=Signer(b"secret"), project=Path.cwd())
            except NbflowError as error:
                results.append({"error": type(error).__name__, "message": str(error)})
                continue
            Path(rest[0]).write_bytes(made.blob)
            results.append({"digest": made.digest, "fingerprints": made.fingerprints, "warnings": made.warnings,
                            "types": list(made.types.labels()), "blob": rest[0]})
    print(json.dumps(results))
_go()
del _go
"""

WORKER = """
import json, sys
from pathlib import Path
from nbflow.define.bundle import open_bundle
from nbflow.define.world import deactivate
from nbflow.model.signing import Signer

flows = [open_bundle(Path(blob).read_bytes(), digest, Signer(b"secret")) for blob, digest in json.loads(sys.argv[1])]
def run(number, step, *arguments):
    flow = flows[number]
    flow.world.activate()
    return flow.steps[step].function(*arguments)
"""


@dataclass
class Made:
    """A bundle, or the error in its place."""

    digest: str = ""
    fingerprints: dict[str, str] = field(default_factory=dict[str, str])
    warnings: list[str] = field(default_factory=list[str])
    types: list[str] = field(default_factory=list[str])
    blob: str = ""
    error: str = ""
    message: str = ""


class Kernel:
    """A notebook's kernel: collects what is to be done, and does it in one process."""

    def __init__(self, project: Path, *, environment: dict[str, str] | None = None) -> None:
        project.mkdir(parents=True, exist_ok=True)
        self.project = project
        self._todo: list[list[Any]] = []
        self._bundles = 0
        self._environment = environment or {}

    def cell(self, text: str) -> Kernel:
        self._todo.append(["cell", dedent(text).lstrip("\n")])
        return self

    def write(self, path: str, text: str) -> Kernel:
        self._todo.append(["write", path, dedent(text).lstrip("\n")])
        return self

    def bundle(self, *steps: str) -> Kernel:
        self._bundles += 1
        blob = self.project.parent / f"{self.project.name}-{self._bundles}.bundle"
        self._todo.append(["bundle", str(blob), steps])
        return self

    def run(self) -> list[Made]:
        found = process([sys.executable, "-c", KERNEL], self.project, json.dumps(self._todo), self._environment)
        return [Made(**result) for result in json.loads(found.splitlines()[-1])]


def worker(directory: Path, code: str, *bundles: Made) -> Any:
    """What the code prints last, as JSON. It has `flows` and `run(number, step, *arguments)`."""
    directory.mkdir(parents=True, exist_ok=True)
    pairs = json.dumps([(made.blob, made.digest) for made in bundles])
    return json.loads(process([sys.executable, "-c", WORKER + dedent(code), pairs], directory).splitlines()[-1])


def process(command: list[str], directory: Path, text: str = "", environment: dict[str, str] | None = None) -> str:
    variables = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"} | (environment or {})
    done = subprocess.run(
        command, cwd=directory, env=variables, input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{done.stderr}\n{done.stdout}"
    return done.stdout
