"""The linker changes the names of top-level functions and where top-level locals of parts live, and nothing else."""

from __future__ import annotations

import re

import pytest

from nbflow.store.keys import Keys
from nbflow.store.link import Linked, shadows
from nbflow.store.scripts import NAMES, linked_script, sources

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
    return Linked.of(PART, BODY).text("#!lua", {"P": '"p"'})


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
    assert lines[:3] == ["#!lua", 'local F, P, call, stops, LEVEL, table_of = {}, "p"', "return (function()"]
    assert "call = redis.call" in lines
    assert "local mine = 1" in lines  # the body's own stay
    assert lines.index("call = redis.call") == 3


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
