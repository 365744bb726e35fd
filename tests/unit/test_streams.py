"""stdout and stderr as a step sees them."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from nbflow.worker.streams import Lines
from nbflow.worker.tape import Tape, entries


@pytest.fixture
def tape() -> Iterator[Tape]:
    made = Tape()
    yield made
    os.close(made.fd)


@pytest.fixture
def out(tape: Tape) -> Lines:
    return Lines(tape, "stdout", "info")


def told(tape: Tape) -> list[str]:
    found, _ = entries(tape.read(0, tape.size()), tape.mark, final=True, most=10_000)
    return [data["message"] for _, data in found]


def test_pieces_of_a_line_are_one_message(tape: Tape, out: Lines) -> None:
    print("a", "b", end="", file=out)
    print("c\nd\n\ne", end="", file=out)
    assert told(tape) == ["a bc", "d"]
    out.end_line()
    assert told(tape) == ["a bc", "d", "e"]


def test_a_line_that_never_ends_arrives_in_pieces(tape: Tape, out: Lines) -> None:
    for _ in range(20_000):
        out.write(".")
    assert [len(line) for line in told(tape)] == [8192, 8192]
    out.write("\n")
    assert [len(line) for line in told(tape)] == [8192, 8192, 3616]


def test_dots_cost_the_same_each() -> None:
    """Law: what is written without an end of line costs in proportion to its length."""
    times: list[float] = []
    for n in (20_000, 400_000):
        tape = Tape()
        out = Lines(tape, "stdout", "info")
        start = time.process_time()
        for _ in range(n):
            out.write(".")
        times.append((time.process_time() - start) / n)
        os.close(tape.fd)
    assert times[1] < times[0] * 3


def test_a_bar_that_redraws_itself_shows_its_last_state(tape: Tape, out: Lines) -> None:
    for i in range(10_000):
        out.write(f"{i:5} of 10000\r")
    assert told(tape) == []
    out.write("\n")
    assert told(tape) == [" 9999 of 10000"]


def test_bytes_that_are_written_become_output_in_order(tape: Tape, out: Lines) -> None:
    out.write("text ")
    assert out.buffer.write("é".encode()[:1]) == 1
    out.buffer.write("é".encode()[1:] + b" and\nmore \xff")
    out.buffer.flush()
    out.write("\n")
    assert told(tape) == ["text é and", "more \N{REPLACEMENT CHARACTER}"]


def test_it_can_be_wrapped_and_closed_and_lives_on(tape: Tape, out: Lines) -> None:
    wrapped = io.TextIOWrapper(cast("Any", out.buffer), encoding="utf-8", line_buffering=True)
    wrapped.write("wrapped\n")
    wrapped.close()
    out.close()
    with out:
        out.write("still\n")
    assert told(tape) == ["wrapped", "still"]


def test_it_answers_what_code_asks_of_a_terminal(out: Lines) -> None:
    out.reconfigure(line_buffering=True, encoding="latin-1")
    assert (out.encoding, out.errors, out.isatty(), out.writable(), out.closed) == (
        "utf-8",
        "replace",
        False,
        True,
        False,
    )
    assert set(dir(sys.__stdout__)) - set(dir(out)) <= {"_finalizing", "_CHUNK_SIZE", "__getstate__"}
    with pytest.raises((TypeError, AttributeError)):
        out.write(b"bytes")  # type: ignore[arg-type]
