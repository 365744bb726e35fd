"""The tree of errors: drawn as it is, with stable codes, and able to cross a process's border."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from nbflow import errors

TREE = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.NbflowError) and kind.__module__ == errors.__name__
]


def test_each_error_has_a_code_of_its_own() -> None:
    codes = [kind.__dict__.get("code") for kind in TREE]
    assert None not in codes, [kind.__name__ for kind in TREE if "code" not in kind.__dict__]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", str(code)) for code in codes)


@pytest.mark.parametrize("kind", TREE)
def test_each_error_says_when_it_is_raised(kind: type[errors.NbflowError]) -> None:
    assert kind.__dict__.get("__doc__")


@pytest.mark.parametrize("kind", TREE)
def test_an_error_comes_out_of_a_pickle_as_it_went_in(kind: type[errors.NbflowError]) -> None:
    """Law: type, message, hint, text and every attribute survive."""
    error = kind("The thing is wrong.", hint="Mend it.")
    error.run_id = "ab12"  # pyright: ignore[reportAttributeAccessIssue] - whatever an error carries must travel
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == "The thing is wrong. Mend it."
    assert (copy.args, copy.__dict__) == (error.args, error.__dict__)


def test_the_drawing_shows_each_error_under_its_parent() -> None:
    """Law: the tree at the top of the module is the tree of the classes."""
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^    ((?:│   |    )*)(├── |└── |)(\w+)", line)
        if found is None or not hasattr(errors, found[3]):
            continue
        depth = len(found[1]) // 4 + bool(found[2])
        path[depth:] = [found[3]]
        drawn[found[3]] = path[depth - 1] if depth else "Exception"
    assert drawn == {kind.__name__: kind.__bases__[0].__name__ for kind in TREE}


def test_all_errors_are_offered() -> None:
    assert {kind.__name__ for kind in TREE} <= set(errors.__all__)
