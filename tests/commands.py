"""`nbflow …` in a process of its own, which does not begin with a second of imports: a process that has made them forks
one for each command. In all else it is `python -m nbflow`, which other tests start.

`python -m tests.commands` reads lines of JSON, `{"words", "cwd", "env", "out", "err"}`, and answers with exit codes.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["command"]


def command(words: tuple[str, ...], cwd: Path, env: dict[str, str], timeout_s: float) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `nbflow WORDS`."""
    forker = _forker()
    assert forker.stdin is not None
    assert forker.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        order = {"words": words, "cwd": str(cwd), "env": env, "out": str(out), "err": str(err)}
        forker.stdin.write(json.dumps(order) + "\n")
        forker.stdin.flush()
        if not select.select([forker.stdout], [], [], timeout_s)[0]:
            _end(forker)
            _forker.cache_clear()
            raise AssertionError(f"{words} goes on after {timeout_s} s: {out.read_text()} {err.read_text()}")
        return int(forker.stdout.readline()), out.read_text(), err.read_text()


@cache
def _forker() -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    forker = subprocess.Popen(
        [sys.executable, "-m", "tests.commands"], stdin=pipe, stdout=pipe, text=True, process_group=0
    )
    atexit.register(_end, forker)
    return forker


def _end(forker: subprocess.Popen[str]) -> None:
    if forker.poll() is None:
        os.killpg(forker.pid, signal.SIGKILL)
    forker.communicate()


def main() -> None:
    import nbflow.app
    import nbflow.cli.follow
    import nbflow.cli.main
    import nbflow.cli.source
    import nbflow.define.bundle
    import nbflow.define.plan
    import nbflow.watch.frames  # noqa: F401 - what most commands import

    for line in sys.stdin:
        child = os.fork()
        if not child:
            _become(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(order: dict[str, Any]) -> NoReturn:
    for fd, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, order["out"], os.O_WRONLY | os.O_CREAT),
        (2, order["err"], os.O_WRONLY | os.O_CREAT),
    ):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, fd)
        os.close(opened)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.path[0] = order["cwd"]
    from nbflow.cli.main import main as nbflow

    nbflow(order["words"])


if __name__ == "__main__":
    main()
