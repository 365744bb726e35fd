"""A corpus of broken flows: each with what is to be found about it, or refused where it is written."""

# ruff: noqa: ARG005 - what a function does with its parameters is not the question here, but how they are called

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from nbflow.define.flow import FlowDefinition
from nbflow.define.forms import any_of, collect, completed, each, failed
from nbflow.model.awaits import Approval

__all__ = ["CORPUS", "NEVER", "a_step_called_like_a_topic", "a_topic_misspelt", "by_hand", "entry", "then", "uses_key"]

API_KEY = "not-shown-7f3a"
DATABASE = "postgres://etl:not-shown-7f3a@warehouse/db"
TOKEN_PATH = "/run/token"


class Order(BaseModel):
    total: float


def entry(flow: FlowDefinition, name: str = "start", emits: Any = (), function: Callable[..., Any] = lambda: 1) -> None:
    flow.entry(name=name, emits=emits)(function)


def then(
    flow: FlowDefinition,
    subscribes: Any,
    name: str,
    emits: Any = (),
    function: Callable[..., Any] = lambda *payloads: None,
) -> None:
    flow.step(subscribes, name=name, emits=emits)(function)


def by_hand(ctx: Any) -> None:
    ctx.emit("a", 1)


def gives_frame() -> pd.DataFrame:
    return pd.DataFrame()


def gives_files() -> list[Path]:
    return []


def gives_nothing() -> None: ...


def takes_number(number: int) -> None: ...


def takes_order(order: Order) -> Order:
    return order


def takes_orders(orders: list[Order]) -> None: ...


def takes_frames(frames: list[pd.DataFrame]) -> None: ...


def takes_stranger(thing: Stranger) -> Stranger: ...  # type: ignore[name-defined]  # noqa: F821


def uses_key() -> str:
    return API_KEY


def uses_helper() -> str:
    return uses_key()


def uses_url() -> str:
    return DATABASE


def uses_path() -> str:
    return TOKEN_PATH


def has_constant() -> str:
    return "AKIAABCDEFGHIJKLMNOP"


def has_default(password: str = "not-shown-7f3a") -> str:
    return password


Build = Callable[[FlowDefinition], object]
CORPUS: dict[str, tuple[Build, str, str, str]] = {}


def broken(code: str, severity: str, step: str) -> Callable[[Build], Build]:
    """One flow of the corpus, with the finding that is expected of it."""

    def add(build: Build) -> Build:
        CORPUS[build.__name__] = (build, code, severity, step)
        return build

    return add


@broken("no-entry", "error", "")
def nothing_at_all(flow: FlowDefinition) -> None: ...


@broken("no-entry", "error", "")
def steps_without_an_entry(flow: FlowDefinition) -> None:
    then(flow, each("step:walk"), "walk")


@broken("result-unknown", "error", "")
def a_result_of_no_step(flow: FlowDefinition) -> None:
    FlowDefinition(flow.name, result="stort")
    entry(flow)


@broken("step-unknown", "error", "use")
def a_step_that_is_not_there(flow: FlowDefinition) -> None:
    entry(flow)
    then(flow, "step:strat", "use")


@broken("step-unknown", "error", "use")
def a_failure_of_a_step_that_is_not_there(flow: FlowDefinition) -> None:
    entry(flow)
    then(flow, failed("strat"), "use")


@broken("topic-without-emitter", "error", "use")
def a_topic_misspelt(flow: FlowDefinition) -> None:
    entry(flow, emits=["order.priced"])
    then(flow, "order.prized", "use")


@broken("topic-without-emitter", "error", "use")
def a_step_called_like_a_topic(flow: FlowDefinition) -> None:
    entry(flow)
    then(flow, "start", "use")


@broken("topic-without-emitter", "error", "join")
def a_join_with_a_topic_nobody_emits(flow: FlowDefinition) -> None:
    entry(flow)
    then(flow, ["step:start", "missing"], "join")


@broken("unreachable", "error", "after")
def what_follows_a_step_that_never_starts(flow: FlowDefinition) -> None:
    entry(flow)
    then(flow, "missing", "use")
    then(flow, "step:use", "after")


@broken("unreachable", "error", "walk")
def an_island_that_feeds_itself(flow: FlowDefinition) -> None:
    entry(flow)
    then(flow, each("page"), "walk", emits=["page"])


@broken("unreachable", "error", "ping")
def two_that_wait_for_each_other(flow: FlowDefinition) -> None:
    entry(flow)
    then(flow, each("step:pong"), "ping")
    then(flow, each("step:ping"), "pong")


@broken("join-incomplete", "error", "walk")
def a_join_with_what_it_leads_to_itself(flow: FlowDefinition) -> None:
    entry(flow)
    then(flow, [each("step:start"), "found"], "walk")
    then(flow, each("step:walk"), "look", emits=["found"])


@broken("join-incomplete", "error", "pairs")
def an_each_of_two_of_which_one_cannot_come(flow: FlowDefinition) -> None:
    entry(flow)
    then(flow, each("island"), "alone", emits=["island"])
    then(flow, each("step:start", "island"), "pairs")


@broken("join-incomplete", "error", "both")
def completed_together_with_what_a_failure_leads_to(flow: FlowDefinition) -> None:
    entry(flow)
    then(flow, failed("start"), "mend")
    then(flow, [completed("start"), "step:mend"], "both")


@broken("plain-on-mapped", "warning", "use")
def a_plain_subscription_to_a_mapped_step(flow: FlowDefinition) -> None:
    entry(flow)
    then(flow, each("step:start"), "parse")
    then(flow, "step:parse", "use")


@broken("plain-on-mapped", "warning", "use")
def a_plain_subscription_to_a_topic_of_a_mapped_step(flow: FlowDefinition) -> None:
    entry(flow)
    then(flow, each("step:start"), "parse", emits=["parsed"])
    then(flow, "parsed", "use")


@broken("plain-on-mapped", "warning", "use")
def any_of_with_a_mapped_step(flow: FlowDefinition) -> None:
    entry(flow, emits=["a"])
    then(flow, each("step:start"), "parse")
    then(flow, any_of("a", "step:parse"), "use")


@broken("first-of-several", "info", "use")
def a_topic_of_two_emitters(flow: FlowDefinition) -> None:
    entry(flow, "one", emits=["a"])
    entry(flow, "two", emits=["a"])
    then(flow, "a", "use")


@broken("topic-unused", "info", "start")
def a_topic_nobody_wants(flow: FlowDefinition) -> None:
    entry(flow, emits=["a"])


@broken("collect-of-one", "info", "gather")
def a_collect_of_a_step_that_runs_once(flow: FlowDefinition) -> None:
    entry(flow)
    then(flow, collect("step:start"), "gather")


@broken("collect-of-one", "info", "gather")
def a_collect_of_a_topic_that_is_emitted_once(flow: FlowDefinition) -> None:
    entry(flow, emits=["a"])
    then(flow, collect("a", failures="keep"), "gather")


@broken("types-do-not-fit", "warning", "use")
def a_frame_where_a_number_is_expected(flow: FlowDefinition) -> None:
    entry(flow, function=gives_frame)
    then(flow, "step:start", "use", function=takes_number)


@broken("types-do-not-fit", "warning", "use")
def a_list_where_its_element_is_expected(flow: FlowDefinition) -> None:
    entry(flow, function=gives_files)
    then(flow, "step:start", "use", function=takes_number)


@broken("types-do-not-fit", "warning", "use")
def orders_that_are_no_frames(flow: FlowDefinition) -> None:
    entry(flow)
    flow.step(each("step:start"), name="made")(takes_order)
    then(flow, collect("step:made"), "use", function=takes_frames)


@broken("types-do-not-fit", "warning", "use")
def nothing_where_an_order_is_expected(flow: FlowDefinition) -> None:
    entry(flow, function=gives_nothing)
    then(flow, completed("start"), "use", function=takes_order)


@broken("annotation-unresolved", "warning", "use")
def an_annotation_of_a_name_that_is_not_there(flow: FlowDefinition) -> None:
    entry(flow)
    then(flow, "step:start", "use", function=takes_stranger)


@broken("secret-captured", "warning", "start")
def a_key_among_the_globals(flow: FlowDefinition) -> None:
    entry(flow, function=uses_key)


@broken("secret-captured", "warning", "start")
def a_key_that_a_helper_uses(flow: FlowDefinition) -> None:
    entry(flow, function=uses_helper)


@broken("secret-captured", "warning", "start")
def a_url_with_a_password(flow: FlowDefinition) -> None:
    entry(flow, function=uses_url)


@broken("secret-captured", "warning", "start")
def a_key_as_a_constant(flow: FlowDefinition) -> None:
    entry(flow, function=has_constant)


@broken("secret-captured", "warning", "start")
def a_password_as_a_default(flow: FlowDefinition) -> None:
    entry(flow, function=has_default)


@broken("secret-captured", "warning", "start")
def a_secret_in_a_closure(flow: FlowDefinition) -> None:
    client_secret = "not-shown-7f3a"
    entry(flow, function=lambda: client_secret)


@broken("inputs-differ", "info", "two")
def entries_with_two_defaults_for_one_input(flow: FlowDefinition) -> None:
    entry(flow, "one", function=lambda folder="a": folder)
    entry(flow, "two", function=lambda folder="b": folder)


@broken("not-asked-again", "info", "start")
def an_approval_that_is_kept(flow: FlowDefinition) -> None:
    flow.entry(name="start", cache="1h", hold=Approval(bool))(lambda: 1)


NEVER: dict[str, Build] = {
    "a plain cycle": lambda flow: (
        then(flow, any_of("a", "c"), "one", emits=["b"]),
        then(flow, "b", "two", emits=["c"]),
    ),
    "a step that waits for itself": lambda flow: then(flow, "step:one", "one"),
    "a collect in a cycle": lambda flow: (
        then(flow, each("a"), "one"),
        then(flow, collect("step:one"), "two", emits=["a"]),
    ),
    "completed in a cycle": lambda flow: (
        then(flow, each("a"), "one"),
        then(flow, completed("one"), "two", emits=["a"]),
    ),
    "a cycle through a failure": lambda flow: (then(flow, failed("two"), "one", emits=["a"]), then(flow, "a", "two")),
    "one topic twice": lambda flow: then(flow, ["a", each("a")], "one"),
    "two each": lambda flow: then(flow, [each("a"), each("b")], "one"),
    "nested forms": lambda flow: then(flow, each(collect("a")), "one"),
    "a bad name": lambda flow: then(flow, "a", "one-1"),
    "too many parameters": lambda flow: then(flow, "a", "one", function=lambda x, y: None),
    "too few parameters": lambda flow: then(flow, ["a", "b", "c"], "one", function=lambda x, y: None),
}
