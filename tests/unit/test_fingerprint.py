"""Fingerprints: equal where the code does the same, in every process; another one for each change that matters."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from tests.cells import Kernel

CELL = '''
from __future__ import annotations
import enum, functools, helper
from dataclasses import dataclass, field
from typing import NamedTuple
import numpy as np
import pandas as pd
from pydantic import BaseModel, Field, field_validator
from helper import shout
import pkg.deep

RATE = 1.2
NAMES = {"one", "two", "three"}
TABLE = {"b": [1, 2.5], "a": (None, True)}
ARRAY = np.arange(6).reshape(2, 3)
FRAME = pd.DataFrame({"x": [1, 2], "name": ["a", "b"]})
NUMBERS = [number for number in range(100)]

class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"
    def shown(self): return self.value.upper()

class Pair(NamedTuple):
    left: int
    right: int = 2

@dataclass
class Order:
    """An order."""
    total: float = 0.0
    tags: list[str] = field(default_factory=lambda: ["x"])
    def tax(self): return self.total * 0.2

class Model(BaseModel):
    size: int = Field(default=3, gt=1)
    @field_validator("size")
    @classmethod
    def even(cls, value): return value + 1

def factory(amount):
    def added(value): return value + amount
    return added

plus = factory(5)
part = functools.partial(plus, 1)
quick = lambda x: x + 1; slow = lambda x: x + 2

def leaf(x):
    # a comment
    return x + 1

@functools.cache
def cached(x): return x * 3

def helps(x):
    """It helps."""
    return leaf(x) + cached(x)

def step(order: Order, limit=10, *, mode="fast"):
    """The step."""
    def inner(y): return y * RATE
    used = (NAMES, TABLE, Colour.RED, Pair, Model, plus, part, quick, ARRAY, FRAME, NUMBERS, Colour)
    import lazily
    return helps(inner(limit)), used, lazily, helper.value(), shout("x"), pkg.deep.DEPTH, np.sum
'''

FILES = {
    "helper.py": "from other import base\ndef value(): return base() + 1\ndef shout(text):\n    return text.upper()\n",
    "other.py": "def base():\n    return 1\n",
    "lazily.py": "X = 1\n",
    "pkg/__init__.py": "",
    "pkg/deep.py": "DEPTH = 3\n",
}


def project(directory: Path, seed: str = "1") -> Kernel:
    kernel = Kernel(directory, environment={"PYTHONHASHSEED": seed})
    for path, text in FILES.items():
        kernel.write(path, text)
    return kernel


def prints(directory: Path, cells: list[str], *, seed: str = "1") -> list[str]:
    """The fingerprints of the step as each cell in turn defines it, in one kernel."""
    kernel = project(directory, seed)
    for cell in cells:
        kernel.cell(cell).bundle("step")
    return [made.fingerprints.get("step", made.message) for made in kernel.run()]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> str:
    return prints(tmp_path_factory.mktemp("original"), [CELL])[0]


def test_two_processes_with_other_hash_seeds_agree(tmp_path: Path, original: str) -> None:
    assert prints(tmp_path / "p", [CELL, "\n\n# moved down\n" + CELL], seed="2") == [original] * 2


SAME = [
    ("    # a comment\n", "\n    # another comment\n\n"),
    ('    """The step."""\n', ""),
    ('"""It helps."""', '"""It helps much."""'),
    ('    """An order."""\n', '    """Another text."""\n'),
    ("return x + 1\n", "return (x   +\n        1)  # formatted\n"),
    ("RATE = 1.2", "RATE = 1.20\nUNUSED = 7"),
    ('{"one", "two", "three"}', '{"three", "two", "one"}'),
    ("slow = lambda x: x + 2", "slow = lambda x: x + 20"),
]


def test_what_changes_nothing_changes_nothing(tmp_path: Path, original: str) -> None:
    found = prints(tmp_path / "p", [CELL.replace(old, new) for old, new in SAME if CELL.count(old) == 1])
    assert found == [original] * len(SAME)


MUTATIONS = [
    ("return helps(inner(limit))", "return helps(inner(limit + 1))"),
    ("limit=10", "limit=11"),
    ('mode="fast"', 'mode="slow"'),
    ("order: Order", "order: Pair"),
    ("return y * RATE", "return y / RATE"),
    ("RATE = 1.2", "RATE = 1.3"),
    ("RATE = 1.2", "RATE = '1.2'"),
    ('"three"}', '"four"}'),
    ("[1, 2.5]", "[1, 2.6]"),
    ("(None, True)", "(None, 1)"),
    ("(None, True)", "[None, True]"),
    ("reshape(2, 3)", "reshape(3, 2)"),
    ("np.arange(6)", "np.arange(6).astype('int32')"),
    ('{"x": [1, 2]', '{"x": [1, 3]'),
    ('["a", "b"]', '["a", "c"]'),
    ("range(100)", "range(101)"),
    ('RED = "red"', 'RED = "crimson"'),
    ("self.value.upper()", "self.value.lower()"),
    ("right: int = 2", "right: int = 3"),
    ("total: float = 0.0", "total: float = 0.5"),
    ("total: float = 0.0", "total: int = 0.0"),
    ('lambda: ["x"]', 'lambda: ["y"]'),
    ("@dataclass\n", "@dataclass(frozen=True)\n"),
    ("return self.total * 0.2", "return self.total * 0.3"),
    ("default=3", "default=4"),
    ("gt=1", "gt=2"),
    ("return value + 1\n\ndef", "return value + 2\n\ndef"),
    ('@field_validator("size")', '@field_validator("size", mode="before")'),
    ("return value + amount", "return value - amount"),
    ("factory(5)", "factory(6)"),
    ("partial(plus, 1)", "partial(plus, 2)"),
    ("quick = lambda x: x + 1", "quick = lambda x: x + 3"),
    ("return x + 1\n", "return x + 2\n"),
    ("return x * 3", "return x * 4"),
    ("return leaf(x)", "return 2 * leaf(x)"),
    ("np.sum\n", "np.mean\n"),
]


def test_every_single_change_changes_the_fingerprint(tmp_path: Path, original: str) -> None:
    mutants = prints(tmp_path / "p", [CELL.replace(old, new) for old, new in MUTATIONS if CELL.count(old) == 1])
    unchanged = [mutation for mutation, found in zip(MUTATIONS, mutants, strict=True) if found == original]
    assert unchanged == []
    assert len(set(mutants)) == len(mutants)


IN_MODULES = [
    ("helper.py", "base() + 1", "base() + 2"),
    ("helper.py", "text.upper()", "text.lower()"),
    ("other.py", "return 1", "return 2"),
    ("pkg/deep.py", "DEPTH = 3", "DEPTH = 4"),
    ("lazily.py", "X = 1", "X = 2"),
]


def test_a_change_in_a_project_module_counts_and_a_comment_does_not(tmp_path: Path, original: str) -> None:
    kernel = project(tmp_path / "p").cell(CELL)
    kernel.write("helper.py", '"""A module."""\n# changed\n' + FILES["helper.py"]).bundle("step")
    for path, old, new in IN_MODULES:
        kernel.write("helper.py", FILES["helper.py"])
        kernel.write(path, FILES[path].replace(old, new)).bundle("step").write(path, FILES[path])
    commented, *mutants = [made.fingerprints["step"] for made in kernel.run()]
    assert commented == original
    assert len({original, *mutants}) == len(IN_MODULES) + 1


def test_the_kernels_old_version_of_a_module_does_not_count(tmp_path: Path) -> None:
    """What counts is what will run: the file as it is now."""
    old, new, again = (
        Kernel(tmp_path / "p")
        .write("helper.py", "def f(): return 1")
        .cell("from helper import f\ndef step(): return f()")
        .bundle("step")
        .write("helper.py", "def f(): return 2")
        .bundle("step")
        .write("helper.py", "def f(): return 1  # back")
        .bundle("step")
        .run()
    )
    assert old.fingerprints != new.fingerprints
    assert old.fingerprints == again.fingerprints


def test_steps_have_fingerprints_of_their_own(tmp_path: Path) -> None:
    cell = """
    def shared(): return {}
    def own(): return 2
    def one(): return shared()
    def two(): return shared() + own()
    """
    kernel = Kernel(tmp_path / "p")
    for change in (("{}", "1"), ("2", "3")):
        kernel.cell(dedent(cell).replace("{}", "1")).bundle("one", "two")
        kernel.cell(dedent(cell).replace("{}", "1").replace("return 2", f"return {change[1]}0")).bundle("one", "two")
    a, b, *_ = kernel.run()
    assert a.fingerprints["one"] == b.fingerprints["one"]
    assert a.fingerprints["two"] != b.fingerprints["two"]


def test_functions_that_call_each_other_and_values_that_hold_themselves_end(tmp_path: Path) -> None:
    [made] = (
        Kernel(tmp_path / "p")
        .cell(
            """
            loop = []
            loop.append(loop)
            class Node:
                def __init__(self): self.me = self
                def again(self) -> Node: return Node()
            Node.__annotations__ = {}
            node = Node()
            def even(n): return n == 0 or odd(n - 1)
            def odd(n): return n != 0 and even(n - 1)
            def step(n): return even(n), loop, node, step
            """.replace("-> Node", "")
        )
        .bundle("step")
        .run()
    )
    assert len(made.fingerprints["step"]) == 32


def test_code_without_source_still_has_one(tmp_path: Path) -> None:
    cell = "exec(compile('def step(): return 1', '<nowhere>', 'exec'), globals())"
    one, same, two = (
        Kernel(tmp_path / "p")
        .cell(cell)
        .bundle("step")
        .cell(cell)
        .bundle("step")
        .cell(cell.replace("return 1", "return 2"))
        .bundle("step")
        .run()
    )
    assert one.fingerprints == same.fingerprints
    assert one.fingerprints != two.fingerprints
