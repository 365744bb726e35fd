"""What a step carries is named when it cannot travel or is large; ordinary flows pay nothing for that."""

from __future__ import annotations

import functools
import io
import socket
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from nbflow.define import captures
from nbflow.define.bundle import Bundle, make_bundle
from nbflow.errors import CaptureError
from nbflow.model.definition import StepSpec
from nbflow.model.signing import Signer
from tests.cells import Kernel

MIB = 1024 * 1024


def bundle_of(**steps: Callable[..., Any]) -> Bundle:
    code = {name: (StepSpec(name), function, None) for name, function in steps.items()}
    return make_bundle("orders", code, signer=Signer(b"secret"), project=Path("/nowhere"))


def message_of(function: Callable[..., Any]) -> str:
    with pytest.raises(CaptureError) as caught:
        bundle_of(load=function)
    return str(caught.value)


def names(function: Any) -> list[str]:
    return [capture.name for capture in captures.captured(function)]


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (threading.Lock, "_thread.lock"),
        (socket.socket, "socket.socket"),
        (lambda: sqlite3.connect(":memory:"), "sqlite3.Connection"),
        (lambda: (number for number in [1]), "generator"),
        (lambda: tempfile.TemporaryFile("w+"), "_io.TextIOWrapper"),  # noqa: SIM115 - the test closes it
        (lambda: tempfile.TemporaryFile("rb+"), "_io.BufferedRandom"),  # noqa: SIM115 - as above
        (lambda: Path(__file__).open(), "_io.TextIOWrapper"),  # noqa: SIM115 - as above
    ],
)
def test_what_cannot_travel_is_named_with_its_type(make: Callable[[], Any], kind: str) -> None:
    db = make()

    def load() -> Any:
        return db

    try:
        message = message_of(load)
    finally:
        if hasattr(db, "close"):
            db.close()
    assert message.startswith(f"Step 'load' refers to `db`, a {kind}, which cannot travel to a worker.")
    assert "inside the step" in message


def test_the_innermost_culprit_is_named_and_the_helper_it_is_in() -> None:
    settings = {"plain": 1, "inner": [1, threading.Lock()]}

    def helper() -> Any:
        return settings

    def load() -> Any:
        return helper()

    assert "`settings['inner'][1]`, a _thread.lock, through `helper`" in message_of(load)


def test_attributes_defaults_methods_and_decorators_are_looked_into() -> None:
    class Client:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def get(self) -> None: ...

    client = Client()
    method = client.get

    def by_attribute() -> Any:
        return client

    def by_default(client: Any = client) -> Any:
        return client

    def by_method() -> Any:
        return method()

    @functools.cache
    def wrapper() -> Any:
        return by_attribute()

    @functools.wraps(wrapper)
    def outer() -> Any:
        return wrapper()

    assert "`client.lock`" in message_of(by_attribute)
    assert "`client.lock`" in message_of(by_default)
    assert "`method.lock`" in message_of(by_method)
    assert "`client.lock`" in message_of(outer)


def test_the_first_step_that_cannot_travel_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(CaptureError, match="Step 'second'"):
        bundle_of(first=lambda: 1, second=lambda: lock)


def test_live_objects_of_nbflow_do_not_travel() -> None:
    class Run:
        pass

    Run.__module__ = "nbflow.watch.run"
    run = Run()
    message = message_of(lambda: run)
    assert "`run`, a nbflow.watch.run." in message
    assert "ctx.run_id" in message


def test_standard_streams_and_memory_files_may_be_referred_to() -> None:
    out, memory = sys.stdout, io.StringIO("x")
    bundle_of(load=lambda: out)
    bundle_of(load=lambda: memory)


@pytest.mark.parametrize(
    "table",
    [
        np.zeros(2 * MIB // 8),
        pd.DataFrame({"x": np.zeros(2 * MIB // 8)}),
        pl.DataFrame({"x": np.zeros(2 * MIB // 8)}),
        "x" * 2 * MIB,
        [float(number) for number in range(250_000)],
    ],
    ids=["array", "frame", "polars", "text", "list"],
)
def test_more_than_a_mebibyte_is_a_warning_with_its_name(table: Any) -> None:
    def clean() -> Any:
        return table

    [warning] = bundle_of(clean=clean, other=lambda: table).warnings
    assert warning.startswith("Step 'clean' carries `table` (2.")
    assert "MiB) in its code; pass it as a payload" in warning


def test_more_than_thirty_two_is_an_error_before_it_is_pickled() -> None:
    table = np.zeros(33 * MIB // 8)
    assert "Step 'load' carries `table` (33.0 MiB)" in message_of(lambda: table)


def test_large_values_without_a_size_are_weighed() -> None:
    lines = [f"{number:>{MIB}}" for number in range(33)]
    assert "carries `lines` (" in message_of(lambda: lines)


def test_a_large_value_in_a_helper_is_named_with_the_helper() -> None:
    table = np.zeros(2 * MIB // 8)

    def helper() -> Any:
        return table

    assert "`table` (2.0 MiB, through `helper`)" in bundle_of(load=lambda: [helper()]).warnings[0]


def test_small_captures_say_nothing(tmp_path: Path) -> None:
    [made] = (
        Kernel(tmp_path / "p")
        .cell("rate = 1.5\ntable = [1] * 100\ndef step(): return rate, table")
        .bundle("step")
        .run()
    )
    assert made.warnings == []


def test_captures_are_found_in_order_with_closures_and_defaults() -> None:
    here = 1

    def function(x: Any = 2, *, y: Any = 3) -> Any:
        def inner() -> Any:
            return MIB, here

        return inner, x, y, io.BytesIO

    assert names(function) == ["Any", "MIB", "io", "here", "x", "y"]


def test_an_attribute_of_the_same_name_is_no_capture() -> None:
    assert "message_of" not in names(lambda x: x.message_of)


def test_text_annotations_count_with_the_quotes_inside() -> None:
    assert captures.annotation_names({"x": "dict[str, list['Order']]", "y": int, "z": "not python ("}) == {
        "dict",
        "str",
        "list",
        "Order",
    }


def test_imports_of_a_function_are_found_without_running_it() -> None:
    text = "import a.b\nfrom .c import d\ndef inner():\n    import e\nimportlib.import_module('f.g')"
    code = compile(text, "cell", "exec")
    assert captures.code_imports(code) == (("a.b", 0), ("c", 1), ("c.d", 1), ("e", 0), ("f.g", 0))


@pytest.mark.parametrize(
    ("count", "shown"), [(812, "812 B"), (3482, "3.4 KiB"), (12.3 * MIB, "12.3 MiB"), (2048 * MIB, "2.0 GiB")]
)
def test_sizes_are_written_for_people(count: float, shown: str) -> None:
    assert captures.human_size(count) == shown
