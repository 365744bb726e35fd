"""What a step writes is text; what the worker records are events; nobody can write the one as the other."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from nbflow.worker.tape import Tape, cut, entries


@pytest.fixture
def tape() -> Iterator[Tape]:
    made = Tape()
    yield made
    os.close(made.fd)


def told(tape: Tape) -> list[tuple[str, dict[str, Any]]]:
    found, taken = entries(tape.read(0, tape.size()), tape.mark, final=True)
    assert taken == tape.size()
    return found


def messages(tape: Tape) -> list[str]:
    return [data["message"] for _, data in told(tape)]


@pytest.mark.parametrize(
    "line",
    ['\x1e["flow.completed",{}]', '\x1e["log",{"level":"error","message":"m"}]', '\x1e0123456789abcdef["log",{}]'],
)
def test_what_looks_like_a_record_is_text(tape: Tape, line: str) -> None:
    os.write(tape.fd, f"{line}\n".encode())
    assert told(tape) == [("log", {"level": "info", "message": line, "source": "output"})]


@pytest.mark.parametrize("kind", ["flow.completed", "step.failed", "trimmed", "emit", "state", "", "LOG"])
def test_a_record_of_another_type_is_text(tape: Tape, kind: str) -> None:
    """Law: a task tells logs, progress, metrics and artifacts; all else is the store's to write."""
    os.write(tape.fd, tape.mark + f'["{kind}",{{"leaves":[]}}]\n'.encode())
    ((found, data),) = told(tape)
    assert (found, data["source"]) == ("log", "output")


@pytest.mark.parametrize("text", ["[[],{}]", '["metric",{"value":NaN}]', '["log",[]]', '["log"', "[" * 100_000, "\xff"])
def test_a_damaged_record_is_text(tape: Tape, text: str) -> None:
    os.write(tape.fd, tape.mark + text.encode("latin-1") + b"\n")
    ((kind, data),) = told(tape)
    assert (kind, data["source"]) == ("log", "output")


def test_the_mark_differs_and_travels_with_the_file_only(tape: Tape) -> None:
    other = Tape()
    assert other.mark != tape.mark
    tape.tell_mark()
    taken = Tape(os.dup(tape.fd))
    assert taken.mark == tape.mark
    assert tape.size() == 0
    assert tape.mark.decode()[1:] not in " ".join(os.environ.values())
    for each in (other, taken):
        os.close(each.fd)


def test_records_and_foreign_lines_keep_their_order(tape: Tape) -> None:
    tape.record("log", {"message": "one"})
    subprocess.run(["printf", "two\\nthree"], stdout=tape.fd, check=True)
    tape.record("metric", {"name": "four"})
    assert [data.get("message") or data["name"] for _, data in told(tape)] == ["one", "two", "three", "four"]


def test_text_in_a_record_stays_in_it(tape: Tape) -> None:
    """Law: whatever a message holds, a record is one line and one event."""
    tape.record("log", {"message": "a\n" + tape.mark.decode() + '["metric",{}]\n\x00\u2028'})
    ((kind, data),) = told(tape)
    assert kind == "log"
    assert data["message"].endswith("\n\x00\u2028")


def test_what_a_carriage_return_wrote_over_is_not_told(tape: Tape) -> None:
    os.write(tape.fd, b"10%\r50%\r100%\r\nplain\r\n\r\n")
    assert messages(tape) == ["100%", "plain"]


def test_a_long_line_arrives_in_pieces(tape: Tape) -> None:
    os.write(tape.fd, b"x" * 20_000 + b"\n")
    assert [len(message) for message in messages(tape)] == [8192, 8192, 3616]


def test_of_a_longer_line_what_is_plain_is_cut_and_a_record_is_not(tape: Tape) -> None:
    record = tape.mark + b'["log",{}]'
    assert cut(b"x" * 100 + record, tape.mark)[1] == 100
    assert cut(record, tape.mark) == ([], 0)
    for n in range(1, len(tape.mark)):
        assert cut(b"x" * 100 + tape.mark[:n], tape.mark)[1] == 100, "the rest of the mark may follow"
    assert cut(b"x" * 100, tape.mark)[1] == 100
