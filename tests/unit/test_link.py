"""The linker changes the names of top-level functions and where top-level locals of parts live, and nothing else."""

from __future__ import annotations

import re

import pytest

from nbflow.store.keys import Keys
from nbflow.store.link import Linked, functions, shadows
from nbflow.store.scripts import HOT, NAMES, linked_script, sources

PART = """\
local call = redis.call
local stops, LEVEL                                                    -- two at once
local table_of = {take = 1, ['take'] = 2}
local function take(id)                                               -- take, in a comment
  local function inner(x) return take(x) end
  stops = 'take '..id..'"take"'
  return {take = take, other.take, 'x'..take(1), take == take}
end
function table_of.more() return take end
"""
BODY = "local mine = 1\nreturn take(mine)"


def script() -> str:
    return Linked.of(PART, BODY, {"take", "table_of.more"}).text("#!lua", {"P": '"p"'})


def test_top_level_functions_are_fields_of_one_table_wherever_they_are_named() -> None:
    text = script()
    assert "function F.take(id)" in text
    assert "local function inner(x) return F.take(x) end" in text
    assert "{take = F.take, other.take, 'x'..F.take(1), F.take == F.take}" in text
    assert text.splitlines()[-2:] == ["return F.take(mine)", "end)()"]


def test_text_comments_keys_and_fields_stay_as_they_are() -> None:
    text = script()
    assert "-- take, in a comment" in text
    assert "stops = 'take '..id..'\"take\"'" in text
    assert "table_of = {take = 1, ['take'] = 2}" in text


def test_top_level_locals_of_parts_live_outside_of_the_function_around() -> None:
    lines = script().splitlines()
    assert lines[:2] == ["#!lua", 'local F, RARE, P, call, stops, LEVEL, table_of = {}, {}, "p"']
    assert "call = redis.call" in lines
    assert "local mine = 1" in lines  # the body's own stay
    assert lines[lines.index("return (function()") + 1] == "call = redis.call"


def test_functions_that_are_rare_are_made_when_the_first_of_them_is_looked_for() -> None:
    lines = Linked.of(PART, BODY, {"table_of.more"}).text("#!lua", {}).splitlines()
    around = lines.index("return (function()")
    assert (
        lines.index("function F.take(id)                                               -- take, in a comment") < around
    )
    assert lines.index("function table_of.more() return F.take end") > around
    assert "table_of = {take = 1, ['take'] = 2}" in lines
    lines = Linked.of(PART, BODY, {"take"}).text("#!lua", {}).splitlines()
    assert lines.index("function table_of.more() return F.take end") < lines.index("return (function()")
    assert "table_of = setmetatable({take = 1, ['take'] = 2}, RARE)" in lines


def test_what_is_made_at_once_keeps_its_place() -> None:
    """Law: a message of the server names a line, and it is found by a constant."""
    all_hot, none_hot = (Linked.of(PART, BODY, hot).inner.splitlines() for hot in ({"take", "table_of.more"}, ()))
    assert len(all_hot) == len(none_hot)
    assert all_hot[-2:] == none_hot[-2:]


def test_functions_that_are_made_at_once_exist() -> None:
    assert set().union(*(functions(sources(name)[0]) for name in NAMES)) >= HOT


def test_a_local_with_the_name_of_a_function_is_found() -> None:
    assert shadows(PART, BODY) == set()
    for line in ("local take = 1", "local a, take", "for _, take in ipairs(x) do", "function other(a, take)"):
        assert shadows(PART, line) == {"take"}
    assert shadows(PART, "-- local take") == set()


@pytest.mark.parametrize("name", NAMES)
def test_no_script_has_such_a_local_nor_too_many_that_are_moved(name: str) -> None:
    """Lua 5.1 lets a function capture 60 locals of another."""
    assert shadows(*sources(name)) == set()
    head = linked_script(name, Keys("n")).text.splitlines()[1]
    assert len(re.findall(r"\w+", head.partition(" = ")[0])) - 1 <= 60
