"""Bundles: code goes to another process and does there what it did here, or is refused with a reason."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbflow.define.bundle import Bundle, make_bundle, open_bundle
from nbflow.define.world import active_world
from nbflow.model.definition import StepSpec
from nbflow.model.signing import Signer
from tests.cells import Kernel, worker

SIGNER = Signer(b"secret")


def bundle_of(tmp_path: Path, **steps: Callable[..., Any]) -> Bundle:
    code = {name: (StepSpec(name), function, None) for name, function in steps.items()}
    return make_bundle("orders", code, signer=SIGNER, project=tmp_path)


def test_a_notebooks_step_runs_in_another_process_with_its_helpers_classes_and_constants(tmp_path: Path) -> None:
    [made] = (
        Kernel(tmp_path / "project")
        .cell(
            """
            from dataclasses import dataclass
            import math

            RATE = 1.2

            @dataclass
            class Order:
                total: float

            def taxed(order):
                return math.floor(order.total * RATE)

            def price(total: float) -> int:
                return taxed(Order(total))
            """
        )
        .bundle("price")
        .run()
    )
    assert worker(tmp_path / "elsewhere", "print(run(0, 'price', 100.0))", made) == 120


def test_an_edited_helper_takes_effect_though_the_kernel_has_the_old_one(tmp_path: Path) -> None:
    """Project modules travel as they are on disk: by `from`, as a module, inside a body, and after a reload."""
    old, new = (
        Kernel(tmp_path / "project")
        .write("helper.py", "def answer():\n    return 'old'\n")
        .cell(
            """
            import helper
            from helper import answer

            def by_name(): return answer()
            def by_module(): return helper.answer()
            def by_import():
                from helper import answer
                return answer()
            """
        )
        .bundle("by_name", "by_module", "by_import")
        .write("helper.py", "# a new line\ndef answer():\n    return 'new one'\n")
        .bundle("by_name", "by_module", "by_import")
        .run()
    )
    code = "print(json.dumps([[run(i, step) for step in flows[i].steps] for i in (0, 1, 0)]))"
    assert worker(tmp_path / "elsewhere", code, old, new) == [["old"] * 3, ["new one"] * 3, ["old"] * 3]


def test_a_reloaded_module_is_still_a_reference(tmp_path: Path) -> None:
    """After `importlib.reload`, the notebook's function is not the module's any more, and must not travel as it was."""
    [made] = (
        Kernel(tmp_path / "project")
        .write("helper.py", "def answer():\n    return 'old'\n")
        .cell("import helper, importlib\nfrom helper import answer\ndef step(): return answer()")
        .write("helper.py", "def answer():\n    return 'newer'\n")
        .cell("importlib.reload(helper)")
        .bundle("step")
        .run()
    )
    assert worker(tmp_path / "elsewhere", "print(json.dumps(run(0, 'step')))", made) == "newer"


def test_a_decorated_copy_of_a_project_function_keeps_its_decorator(tmp_path: Path) -> None:
    """`functools.wraps` copies the module's name; the function is the notebook's all the same."""
    [made] = (
        Kernel(tmp_path / "project")
        .write("helper.py", "def answer():\n    return 20\n")
        .cell(
            """
            import functools, helper
            def doubled(function):
                @functools.wraps(function)
                def inner(): return 2 * function()
                return inner
            twice = doubled(helper.answer)
            def step(): return twice()
            """
        )
        .bundle("step")
        .run()
    )
    assert worker(tmp_path / "elsewhere", "print(run(0, 'step'))", made) == 40


def test_a_step_of_a_project_module_goes_by_name_with_its_source(tmp_path: Path) -> None:
    [made] = (
        Kernel(tmp_path / "project")
        .write("pkg/__init__.py", "")
        .write("pkg/base.py", "BASE = 40\n")
        .write("pkg/steps.py", "from .base import BASE\ndef step(): return BASE + 2\n")
        .cell("from pkg.steps import step")
        .bundle("step")
        .run()
    )
    code = "print(json.dumps([run(0, 'step'), flows[0].steps['step'].function.__module__, sorted(flows[0].world.sources)]))"
    assert worker(tmp_path / "elsewhere", code, made) == [42, "pkg.steps", ["pkg", "pkg.base", "pkg.steps"]]


def test_two_generations_of_a_class_live_side_by_side(tmp_path: Path) -> None:
    """Cloudpickle's process-wide table of dynamic classes would change the first when the second is loaded."""
    first, second = (
        Kernel(tmp_path / "project")
        .cell("class Model:\n    def value(self): return 1\ndef step(): return Model().value()")
        .bundle("step")
        .cell("Model.value = lambda self: 2")
        .bundle("step")
        .run()
    )
    assert worker(tmp_path / "elsewhere", "print([run(0, 'step'), run(1, 'step'), run(0, 'step')])", first, second) == [
        1,
        2,
        1,
    ]


CLASSES = """
from __future__ import annotations
import enum
from dataclasses import dataclass
from typing import NamedTuple
from pydantic import BaseModel

class Colour(enum.Enum):
    RED = "red"
class Point(NamedTuple):
    x: int
class Line(BaseModel):
    points: list[Point]
    colour: Colour = Colour.RED
@dataclass
class Note:
    line: Line

def step(line: Line, note: Note | None = None) -> Colour:
    return line.colour
"""


def test_pydantic_enums_namedtuples_and_text_annotations_survive(tmp_path: Path) -> None:
    [made] = Kernel(tmp_path / "project").cell(CLASSES).bundle("step").run()
    assert set(made.types) == {"Line", "Note", "Colour", "Point"}
    code = """
    import typing
    flow = flows[0]
    flow.world.activate()
    Line, Colour, Note = (flow.types.get(name) for name in ("Line", "Colour", "Note"))
    hints = typing.get_type_hints(flow.steps["step"].function)
    assert hints["line"] is Line and hints["return"] is Colour, hints
    assert typing.get_type_hints(Note) == {"line": Line}
    assert run(0, "step", Line(points=[{"x": 1}])) is Colour.RED
    import pickle
    assert type(pickle.loads(pickle.dumps(Note(None)))) is Note
    print(json.dumps(list(flow.types.labels())))
    """
    assert worker(tmp_path / "elsewhere", code, made) == made.types


def test_classes_of_project_modules_have_labels_too(tmp_path: Path) -> None:
    [made] = (
        Kernel(tmp_path / "project")
        .write("models.py", "from dataclasses import dataclass\n@dataclass\nclass Row:\n    x: int\n")
        .cell("import models\ndef step(x: int): return models.Row(x)")
        .bundle("step")
        .run()
    )
    assert made.types == ["Row"]
    assert worker(
        tmp_path / "elsewhere", "print(json.dumps(type(run(0, 'step', 1)) is flows[0].types.get('Row')))", made
    )


def test_a_traceback_shows_the_lines_of_cells_and_modules(tmp_path: Path) -> None:
    """Even after `linecache.checkcache`, and though neither file is there."""
    [made] = (
        Kernel(tmp_path / "project")
        .write("helper.py", "def broken():\n    raise ValueError('no')  # in the module\n")
        .cell("import helper\n\ndef step():\n    return helper.broken()  # in the cell\n")
        .write("helper.py", "def broken():\n    raise ValueError('no')  # in the module\n")
        .bundle("step")
        .write("helper.py", "# changed since\n\n\n\n")
        .run()
    )
    code = """
    import traceback, linecache
    linecache.checkcache()
    try:
        run(0, "step")
    except ValueError:
        linecache.checkcache()
        print(json.dumps(traceback.format_exc()))
    """
    shown = worker(tmp_path / "elsewhere", code, made)
    assert "# in the cell" in shown
    assert "# in the module" in shown


def test_functions_under_functools_cache_travel(tmp_path: Path) -> None:
    [made] = (
        Kernel(tmp_path / "project")
        .cell(
            """
            import functools
            @functools.cache
            def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
            class Lazy:
                @functools.cached_property
                def value(self): return 5
            def step(): return fib(30) + Lazy().value
            """
        )
        .bundle("step")
        .run()
    )
    assert worker(tmp_path / "elsewhere", "print(run(0, 'step'))", made) == 832045


def test_a_submodule_that_an_inner_function_reaches_is_there(tmp_path: Path) -> None:
    """Cloudpickle looks at the outermost function only."""
    [made] = (
        Kernel(tmp_path / "project")
        .write("pkg/__init__.py", "")
        .write("pkg/deep.py", "X = 7\n")
        .cell("import pkg.deep\ndef step():\n    def inner(): return pkg.deep.X\n    return inner()")
        .bundle("step")
        .run()
    )
    assert worker(tmp_path / "elsewhere", "print(run(0, 'step'))", made) == 7


def test_key_and_spec_come_along(tmp_path: Path) -> None:
    spec = StepSpec("parse", emits=("a.b",), queue="fast", has_key=True)
    made = make_bundle("f", {"parse": (spec, lambda x: x + 1, lambda x: f"k{x}")}, signer=SIGNER, project=tmp_path)
    step = open_bundle(made.blob, made.digest, SIGNER).steps["parse"]
    assert (step.spec, step.function(1), step.key and step.key(1)) == (spec, 2, "k1")


def test_opening_leaves_no_world_active(tmp_path: Path) -> None:
    made = bundle_of(tmp_path, step=lambda: 1)
    main = sys.modules["__main__"]
    open_bundle(made.blob, made.digest, SIGNER)
    assert active_world() is None
    assert sys.modules["__main__"] is main


def test_an_unchanged_flow_has_the_same_digest(tmp_path: Path) -> None:
    first, second = (
        Kernel(tmp_path / "project")
        .write("helper.py", "def f(): return 1\n")
        .cell(
            """
            import helper
            from pydantic import BaseModel
            class Order(BaseModel):
                total: float = 1.0
            def step(order: Order):
                order.total = 2.0
                return {helper.f(), "a", "b"}
            """
        )
        .bundle("step")
        .cell("step(Order())")
        .bundle("step")
        .run()
    )
    assert first.digest == second.digest


def test_other_steps_travel_without_their_declarations(tmp_path: Path) -> None:
    """`fn.step` knows the flow, and the flow everything: none of it comes along."""
    [made] = (
        Kernel(tmp_path / "project")
        .cell(
            """
            import threading
            from nbflow.define.flow import FlowDefinition

            flow = FlowDefinition("orders")
            lock = threading.Lock()

            @flow.entry
            def one(): return 1
            @flow.step(one)
            def two(n): return one() + n
            @flow.step(two)
            def three(): return str(flow)
            @flow.step(two)
            def never(): return lock
            """
        )
        .bundle("two", "three")
        .run()
    )
    assert made.error == "", made.message
    code = "print(json.dumps([run(0, 'two', 1), run(0, 'three'), vars(flows[0].steps['two'].function)]))"
    assert worker(tmp_path / "elsewhere", code, made) == [2, "orders", {}]


def test_a_module_run_as_a_script_keeps_its_relative_imports(tmp_path: Path) -> None:
    """`python -m pkg.flow`: the functions are `__main__`'s, and their package is `pkg`."""
    [made] = (
        Kernel(tmp_path / "project")
        .write("pkg/__init__.py", "")
        .write("pkg/near.py", "X = 3\n")
        .cell(
            "__package__ = 'pkg'\ndef step():\n    from .near import X\n    from . import near\n    return X + near.X"
        )
        .bundle("step")
        .run()
    )
    assert worker(tmp_path / "elsewhere", "print(run(0, 'step'))", made) == 6


def test_generic_abstract_slotted_and_nested_classes_travel(tmp_path: Path) -> None:
    [made] = (
        Kernel(tmp_path / "project")
        .cell(
            """
            import abc, dataclasses, typing
            T = typing.TypeVar("T")
            class Box(typing.Generic[T]):
                class Inside:
                    size = 2
                def __init__(self, item: T): self.item = item
            class Base(abc.ABC):
                @abc.abstractmethod
                def go(self): ...
            @dataclasses.dataclass(slots=True, frozen=True)
            class Leaf(Base):
                x: int = 1
                def go(self): return self.x + Box.Inside.size
            class Failure(Exception): pass
            async def later(): return 4
            def many():
                yield 5
            def step() -> Box[int]:
                try:
                    raise Failure
                except Failure:
                    return [Box[int](Leaf()).item.go(), sum(many())]
            """
        )
        .bundle("step", "later")
        .run()
    )
    code = "import asyncio; print([*run(0, 'step'), asyncio.run(run(0, 'later'))])"
    assert worker(tmp_path / "elsewhere", code, made) == [3, 5, 4]


def test_a_class_that_was_defined_again_keeps_both_generations_apart(tmp_path: Path) -> None:
    """What still refers to the old one goes on with the old one; labels tell them apart."""
    [made] = (
        Kernel(tmp_path / "project")
        .cell("class Model: version = 1\nold = Model()")
        .cell("class Model: version = 2\ndef step(): return [old.version, Model().version]")
        .bundle("step")
        .run()
    )
    assert sorted(made.types) == ["Model", "Model#2"]
    assert worker(tmp_path / "elsewhere", "print(run(0, 'step'))", made) == [1, 2]
