"""Each flow of the corpus is found out, and about a sound flow nothing is said."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import pandas as pd
import pytest

from nbflow.define import registry
from nbflow.define.flow import FlowDefinition
from nbflow.define.forms import any_of, collect, completed, each, failed
from nbflow.define.lint import Finding, check_startable, findings
from nbflow.errors import DefinitionError, FlowShapeError
from tests.unit.broken_flows import (
    CORPUS,
    NEVER,
    a_step_called_like_a_topic,
    a_topic_misspelt,
    by_hand,
    entry,
    then,
    uses_key,
)


@pytest.fixture(autouse=True)
def _fresh_registry() -> Iterator[None]:
    registry.reset()
    yield
    registry.reset()


@pytest.mark.parametrize("name", CORPUS)
def test_a_broken_flow_is_found_out(name: str) -> None:
    build, code, severity, step = CORPUS[name]
    flow = FlowDefinition("broken")
    build(flow)
    found = findings(flow)
    matching = [
        finding for finding in found if (finding.code, finding.severity, finding.step) == (code, severity, step)
    ]
    assert matching, found
    assert all(finding.message and finding.hint for finding in found), found
    assert "not-shown-7f3a" not in str(found), "a value that looks secret is never shown"
    if severity == "error":
        with pytest.raises(DefinitionError, match="cannot start"):
            check_startable(flow)
    else:
        check_startable(flow)


def test_the_corpus_is_broken_in_one_way_each() -> None:
    """Only what follows from the first fault may be said besides it."""
    consequences = {
        "a_topic_misspelt": {"topic-unused"},
        "what_follows_a_step_that_never_starts": {"topic-without-emitter"},
        "two_that_wait_for_each_other": {"unreachable"},
        "a_join_with_what_it_leads_to_itself": {"plain-on-mapped", "unreachable"},
        "an_each_of_two_of_which_one_cannot_come": {"unreachable"},
    }
    for name, (build, code, _, _) in CORPUS.items():
        flow = FlowDefinition(name)
        build(flow)
        extra = {finding.code for finding in findings(flow)} - {code}
        assert extra <= consequences.get(name, set()), (name, extra)


@pytest.mark.parametrize("name", NEVER)
def test_what_no_later_cell_can_cure_is_an_error_where_it_is_written(name: str) -> None:
    flow = FlowDefinition("never")
    with pytest.raises(DefinitionError) as caught:
        NEVER[name](flow)
    assert caught.value.hint
    assert isinstance(caught.value, FlowShapeError) or "parameters" in name or "name" in name
    assert len(flow.steps()) < 2


def test_about_a_sound_flow_nothing_is_said() -> None:
    flow = FlowDefinition("sound", result="report")

    @flow.entry
    def files(folder: Path = Path("data")) -> list[Path]: ...

    @flow.step(each(files))
    def parse(path: Path) -> pd.DataFrame: ...

    @flow.step(collect(parse, failures="keep"), emits=["large", "small"])
    def merge(frames: list[pd.DataFrame], ctx: Any) -> None: ...

    @flow.step([any_of("large", "small"), completed(files)])
    def report(event: tuple[str, pd.DataFrame], files: list[Path]) -> str: ...

    @flow.step(each(failed(parse)))
    def warn(failure: dict[str, Any]) -> None: ...

    @flow.step(failed(report))
    def panic(failure: Mapping[str, Any]) -> None: ...

    @flow.step("small")
    def by_hand_typed(anything: int) -> None:
        """An emit by hand may be of any type, so `merge`'s annotation says nothing about it."""

    assert findings(flow) == []
    check_startable(flow)


def test_a_collect_of_what_is_emitted_by_hand_may_be_of_many() -> None:
    flow = FlowDefinition("hand")
    entry(flow, emits=["a"], function=by_hand)
    then(flow, collect("a"), "gather")
    assert findings(flow) == []


def test_a_context_that_is_imported_for_type_checkers_only_is_no_finding() -> None:
    flow = FlowDefinition("f")

    @flow.entry
    def start(c: Context) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert findings(flow) == []


def test_several_errors_are_listed_at_once() -> None:
    flow = FlowDefinition("f", result="nowhere")
    entry(flow)
    then(flow, "missing", "use")
    with pytest.raises(DefinitionError, match=r"(?s)for 2 reasons.*nowhere.*missing"):
        check_startable(flow)


def test_errors_come_first() -> None:
    flow = FlowDefinition("f", result="nowhere")
    entry(flow, emits=["unused"], function=uses_key)
    assert [finding.severity for finding in flow.findings()] == ["error", "warning", "info"]
    assert isinstance(flow.findings()[0], Finding)


def test_a_topic_called_like_a_step_is_offered_as_the_step() -> None:
    flow = FlowDefinition("f")
    a_step_called_like_a_topic(flow)
    assert "'step:start'" in findings(flow)[0].hint


def test_the_nearest_name_is_offered() -> None:
    flow = FlowDefinition("f")
    a_topic_misspelt(flow)
    assert "'order.priced'" in findings(flow)[0].hint


def chain(flow: FlowDefinition, names: list[str]) -> None:
    def make() -> Callable[[int], int]:
        def work(x: int) -> int:
            return x

        return work

    entry(flow, names[0])
    for before, name in pairwise(names):
        then(flow, f"step:{before}", name, function=make())


def lines_of(act: Callable[[], object]) -> int:
    """How many lines of Python it executes; each round of a loop counts."""
    lines = 0

    def trace(_frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return lines


def test_to_look_through_ten_times_the_steps_is_ten_times_the_work() -> None:
    """No rule may look at all steps for each step: that would be a hundred times the work."""
    work: list[int] = []
    for length in (50, 500):
        flow = FlowDefinition(f"long-{length}")
        chain(flow, [f"s{number}" for number in range(length)])
        assert findings(flow) == []
        work.append(lines_of(partial(findings, flow)))
    assert work[1] < 12 * work[0]


def test_mapping_over_one_thing_is_found() -> None:
    flow = FlowDefinition("maps-over-one")

    @flow.entry
    def number() -> int:
        return 3

    @flow.step(each(number))
    def double(n: int) -> int:
        return 2 * n

    (finding,) = [finding for finding in flow.findings() if finding.code == "types-do-not-fit"]
    assert finding.step == "double"
    assert "maps over 'number', which returns int" in finding.message
