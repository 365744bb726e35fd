"""Worlds: several versions of a module in one process, and nothing from the worker's own directory."""

from __future__ import annotations

import linecache
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from nbflow.define.sources import ModuleSource
from nbflow.define.world import FlowReference, World, active_world, deactivate, is_installed, main_globals, resolve
from nbflow.errors import CommandRefused, DefinitionError, InternalError
from tests.cells import Kernel, worker


def world(**modules: str) -> World:
    sources = [ModuleSource(name, f"/gone/{name}.py", "module", text) for name, text in modules.items()]
    return World("orders", {source.name: source for source in sources}, {})


@pytest.fixture(autouse=True)
def own_modules() -> Any:
    yield
    deactivate()


def test_each_world_has_its_own_version() -> None:
    one, two = world(helper_w="X = 1"), world(helper_w="X = 2")
    seen: list[int] = []
    for each in (one, two, one):
        each.activate()
        seen.append(__import__("helper_w").X)
    assert seen == [1, 2, 1]
    deactivate()
    assert "helper_w" not in sys.modules


def test_a_world_remembers_its_modules() -> None:
    one = world(helper_w="X = []")
    with one.entered():
        __import__("helper_w").X.append(1)
    with one.entered():
        assert __import__("helper_w").X == [1]


def test_what_the_process_had_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    own = type(sys)("helper_w")
    monkeypatch.setitem(sys.modules, "helper_w", own)
    monkeypatch.setitem(sys.modules, "helper_w.part", type(sys)("helper_w.part"))
    main = sys.modules["__main__"]
    with world(helper_w="X = 1").entered():
        assert sys.modules["__main__"] is not main
        assert "helper_w" not in sys.modules
        with pytest.raises(ModuleNotFoundError):
            __import__("helper_w.part")
        assert resolve("helper_w", "X") == 1
    assert sys.modules["helper_w"] is own
    assert "helper_w.part" in sys.modules
    assert sys.modules["__main__"] is main


def test_entering_inside_another_goes_back_to_it() -> None:
    one, two = world(), world()
    with one.entered():
        with two.entered():
            assert active_world() is two
        assert active_world() is one
    assert active_world() is None


def test_activating_the_active_world_does_nothing() -> None:
    one = world(helper_w="X = 1")
    one.activate()
    module = __import__("helper_w")
    one.activate()
    assert sys.modules["helper_w"] is module


def test_lines_are_the_active_worlds_and_outlive_a_check() -> None:
    one, two = world(helper_w="first = 1\n"), world(helper_w="second = 1\n")
    shown: list[str] = []
    for each in (one, two, one):
        each.activate()
        linecache.checkcache()
        shown.append(linecache.getline("/gone/helper_w.py", 1))
    assert shown == ["first = 1\n", "second = 1\n", "first = 1\n"]
    deactivate()
    assert linecache.getline("/gone/helper_w.py", 1) == ""


def test_a_name_that_is_gone_is_said_plainly() -> None:
    with world(helper_w="X = 1").entered(), pytest.raises(DefinitionError, match=r"has no 'Y\.z' any more"):
        resolve("helper_w", "Y.z")


def test_a_pickle_needs_a_world() -> None:
    with pytest.raises(InternalError):
        main_globals()


def test_a_flow_in_a_step_is_a_name() -> None:
    flow = FlowReference("orders")
    assert (str(flow), flow.name) == ("orders", "orders")
    with pytest.raises(CommandRefused, match=r"`\.start` cannot be used.*ctx\.start_flow\('orders'"):
        flow.start()


def test_packages_are_looked_up_outside_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_here.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert not is_installed("only_here")
    assert is_installed("pandas")
    assert is_installed("json")
    assert is_installed("_thread")


def test_the_workers_directory_is_not_imported_from(tmp_path: Path) -> None:
    """Neither for a module of the bundle, nor for one that the bundle has not."""
    [made] = (
        Kernel(tmp_path / "project")
        .write("helper.py", "WHERE = 'bundle'\n")
        .cell(
            """
            def step():
                import helper
                return helper.WHERE
            def other(name):
                import importlib, sys
                return importlib.import_module(name).__file__.endswith(f"/lib/python{sys.version_info[0]}.{sys.version_info[1]}/{name}.py")
            """
        )
        .bundle("step", "other")
        .run()
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("helper", "plugin", "sched"):
        (elsewhere / f"{name}.py").write_text("WHERE = 'worker'\n")
    code = """
    sys.modules.pop("helper", None)
    import helper
    assert helper.WHERE == "worker"
    answers = [run(0, "step"), run(0, "other", "sched")]
    try:
        run(0, "other", "plugin")
    except ModuleNotFoundError as error:
        answers.append(str(error))
    deactivate()
    assert sys.modules["helper"] is helper
    import plugin
    print(json.dumps(answers))
    """
    *answers, message = worker(elsewhere, code, made)
    assert answers == ["bundle", True]
    assert "'plugin' in the bundle of flow 'orders'" in message


def test_everything_a_module_does_works_in_its_world(tmp_path: Path) -> None:
    """Imports inside functions, relative ones, by text; dataclasses with text annotations; pickles; `inspect`."""
    kernel = Kernel(tmp_path / "project")
    for version in ("one", "two"):
        kernel.write("pkg/__init__.py", "").write("pkg/sub/__init__.py", "").write(
            "pkg/sub/leaf.py", f"NAME = '{version}'\n"
        )
        kernel.write(
            "pkg/mod.py",
            """
            from __future__ import annotations
            import dataclasses, importlib, inspect, pickle, typing

            @dataclasses.dataclass
            class Row:
                inner: Inner | None = None
                kind: typing.ClassVar[str] = "k"

            class Inner: pass

            def check():
                from .sub import leaf
                assert importlib.import_module(".sub.leaf", __package__) is leaf
                assert type(pickle.loads(pickle.dumps(Row()))) is Row
                assert typing.get_type_hints(Row)["inner"] == typing.Optional[Inner]
                assert [field.name for field in dataclasses.fields(Row)] == ["inner"]
                assert "class Inner" in inspect.getsource(Inner)
                return leaf.NAME
            """,
        )
        kernel.cell("import pkg.mod\ndef step():\n    from pkg.sub import leaf\n    return pkg.mod.check()").bundle(
            "step"
        )
    one, two = kernel.run()
    code = "print(json.dumps([run(i, 'step') for i in (0, 1, 0, 1)]))"
    assert worker(tmp_path / "elsewhere", code, one, two) == ["one", "two", "one", "two"]


def test_a_bundle_made_from_a_bundle_has_the_same_sources(tmp_path: Path) -> None:
    """A worker that starts a flow hands on what it was given, not what lies on its disk."""
    [made] = (
        Kernel(tmp_path / "project")
        .write("helper.py", "def f(): return 'as launched'\n")
        .cell("import helper\ndef step(): return helper.f()")
        .bundle("step")
        .write("helper.py", "broken(")
        .run()
    )
    code = """
    from nbflow.define.bundle import make_bundle
    flow = flows[0]
    flow.world.activate()
    steps = {name: (step.spec, step.function, step.key) for name, step in flow.steps.items()}
    made = make_bundle("again", steps, signer=Signer(b"secret"), project=Path("/nowhere"))
    again = open_bundle(made.blob, made.digest, Signer(b"secret"))
    again.world.activate()
    print(json.dumps([again.steps["step"].function(), made.fingerprints]))
    """
    answer, fingerprints = worker(tmp_path / "elsewhere", code, made)
    assert answer == "as launched"
    assert fingerprints == made.fingerprints


def test_threads_enter_one_after_the_other() -> None:
    """Law: when all have left, the process's own modules are there again, in whatever order they came and went."""
    one, two = world(helper_w="X = 1"), world(helper_w="X = 2")
    inside, seen = threading.Event(), list[int]()

    def second() -> None:
        inside.wait(20)
        with two.entered():
            seen.append(__import__("helper_w").X)

    thread = threading.Thread(target=second)
    thread.start()
    with one.entered():
        inside.set()
        thread.join(0.05)  # were it let in, it would be by now
        assert seen == []
        seen.append(__import__("helper_w").X)
    thread.join(20)
    assert seen == [1, 2]
    assert active_world() is None
