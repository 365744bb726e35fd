"""Which modules are the project's, what they import, and that they are read as they are now."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from nbflow.define.sources import Import, ModuleSource, Origin, Project, distribution_of, imports_of, package_version
from nbflow.errors import DefinitionError


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project's directory that is also where the kernel runs."""
    directory = tmp_path / "project"
    directory.mkdir()
    monkeypatch.chdir(directory)
    monkeypatch.syspath_prepend(str(directory))
    known = set(sys.modules)
    yield directory
    for name in set(sys.modules) - known:
        del sys.modules[name]


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))


def imports(text: str, name: str = "pkg.mod") -> set[Import]:
    return set(imports_of(ModuleSource(name, "x.py", "module", dedent(text))))


def test_the_standard_library_packages_and_nbflow_are_not_the_projects(project: Path) -> None:
    place = Project(project)
    found = {
        name: place.origin(name)
        for name in ("os", "sys", "json.decoder", "pandas", "pytest", "nbflow", "nbflow.errors")
    }
    assert found == {
        "os": Origin.SYSTEM,
        "sys": Origin.SYSTEM,
        "json.decoder": Origin.SYSTEM,
        "pandas": Origin.PACKAGE,
        "pytest": Origin.PACKAGE,
        "nbflow": Origin.SYSTEM,
        "nbflow.errors": Origin.SYSTEM,
    }
    assert place.origin("no_such_thing") is Origin.MISSING


def test_a_file_below_the_project_is_the_projects_even_if_it_was_just_written(project: Path) -> None:
    place = Project(project)
    assert place.origin("helper_a") is Origin.MISSING
    write(project / "helper_b.py")
    assert Project(project).origin("helper_b") is Origin.PROJECT


def test_a_directory_that_the_notebook_added_to_the_path_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sys.path.append("../src")`, and what editable installs do; but not the machine's own PYTHONPATH."""
    for name in ("src", "lib"):
        write(project.parent / name / f"in_{name}.py")
        monkeypatch.syspath_prepend(str(project.parent / name))
    monkeypatch.setenv("PYTHONPATH", str(project.parent / "lib"))
    place = Project(project)
    assert place.origin("in_src") is Origin.PROJECT
    assert place.origin("in_lib") is Origin.PACKAGE


def test_a_virtual_environment_inside_the_project_is_not_the_projects(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = project / ".venv" / "lib" / "python3.11" / "site-packages"
    write(packages / "installed_there.py")
    monkeypatch.syspath_prepend(str(packages))
    assert Project(project).origin("installed_there") is Origin.PACKAGE


def test_nothing_is_imported(project: Path) -> None:
    write(project / "pkg_x/__init__.py", "raise SystemExit('imported')")
    write(project / "pkg_x/sub.py", "raise SystemExit('imported')")
    assert list(Project(project).collect(["pkg_x.sub"]).modules) == ["pkg_x", "pkg_x.sub"]
    assert "pkg_x" not in sys.modules


def test_sources_are_followed_over_imports_of_every_kind(project: Path) -> None:
    write(project / "pk/__init__.py", "from .one import f")
    write(project / "pk/one.py", "import pk.two as other")
    write(project / "pk/two.py", "from . import three")
    write(project / "pk/three.py", "from .deep import leaf")
    write(project / "pk/deep/__init__.py", "")
    write(project / "pk/deep/leaf.py", "from ... import nothing\nfrom ..four import x")
    write(project / "pk/four.py", "def f():\n    from importlib import import_module\n    import_module('pk.five')")
    write(project / "pk/five.py", "import_module('.six', __package__)")
    write(project / "pk/six.py", "import pandas\ntry:\n    import polars\nexcept ImportError: pass")
    write(project / "pk/unused.py", "")
    write(project / "space/leaf.py", "import pk")
    found = Project(project).collect(["space.leaf"])
    modules = ["pk", "pk.deep", "pk.deep.leaf", "pk.five", "pk.four", "pk.one", "pk.six", "pk.three", "pk.two"]
    assert list(found.modules) == [*modules, "space", "space.leaf"]
    assert found.modules["space"].kind == "namespace"
    assert found.packages == set()
    assert found.lazy_packages == {"pandas", "polars"}


def test_packages_that_a_module_imports_at_once_are_needed(project: Path) -> None:
    write(
        project / "mod_y.py",
        "import pandas.api\nfrom polars import DataFrame\ndef f():\n    import numpy\nclass A:\n    import rich",
    )
    found = Project(project).collect(["mod_y"], ["redis"])
    assert found.packages == {"pandas", "polars", "rich"}
    assert found.lazy_packages == {"numpy", "redis"}


def test_relative_imports_are_made_absolute() -> None:
    assert imports("from . import a\nfrom .b import c") == {
        Import("pkg", eager=True),
        Import("pkg.a", eager=True),
        Import("pkg.b", eager=True),
        Import("pkg.b.c", eager=True),
    }
    assert imports("from ... import a") == set()


def test_conditional_imports_are_lazy() -> None:
    text = "import a\nif x:\n    import b\ndef f():\n    import c\ntry:\n    import a, d\nfinally: pass"
    found = {item.name: item.eager for item in imports(text)}
    assert found == {"a": True, "b": False, "c": False, "d": False}


def test_a_module_that_does_not_compile_is_named_with_its_line(project: Path) -> None:
    write(project / "half.py", "x = 1\ndef f(:\n")
    with pytest.raises(DefinitionError, match=r"'half' does not compile: .*half\.py, line 2"):
        Project(project).collect(["half"])


def test_a_compiled_module_is_refused(project: Path) -> None:
    write(project / f"fast{importlib.machinery.EXTENSION_SUFFIXES[0]}")
    with pytest.raises(DefinitionError, match=r"'fast' is compiled .*Install it as a package"):
        Project(project).collect(["fast"])


def test_a_file_is_read_in_its_own_encoding(project: Path) -> None:
    (project / "latin.py").write_bytes("# coding: latin-1\nx = 'é'\n".encode("latin-1"))
    assert "é" in Project(project).source("latin").text
    (project / "wrong.py").write_bytes(b"x = '\xe9'\n")
    with pytest.raises(DefinitionError, match="Save it as UTF-8"):
        Project(project).source("wrong")


def test_a_deleted_file_is_an_error_not_an_old_text(project: Path) -> None:
    write(project / "gone_z.py", "x = 1")
    __import__("gone_z")
    (project / "gone_z.py").unlink()
    place = Project(project)
    assert place.origin("gone_z") in (Origin.PACKAGE, Origin.MISSING)


def test_the_working_directory_on_the_path_as_an_empty_entry(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", *[entry for entry in sys.path if entry != str(project)]])
    write(project / "beside.py", "x = 1")
    place = Project(project / "below")
    assert place.origin("beside") is Origin.PROJECT
    assert (project / "beside.py").samefile(place.source("beside").path)


def test_a_package_is_known_by_the_name_under_which_it_is_installed() -> None:
    assert distribution_of("pandas") == "pandas"
    assert distribution_of("nothing_of_that_name") == "nothing_of_that_name"
    assert distribution_of("dateutil") == "python-dateutil"
    assert package_version("pandas")
    assert package_version("nothing_of_that_name") == ""
