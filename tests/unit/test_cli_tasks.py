"""What of acts on one task is refused before a server is asked for anything."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from nbflow.cli.main import app

RUNNER = CliRunner()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("complete", "r", "t", "--value", "{"), "--value: it is neither"),
        (("complete", "r", "t", "--value", "@nowhere.json"), "--value: 'nowhere.json' cannot be read"),
        (("complete", "r", "t", "--emit", "paid"), "--emit: 'paid' is not TOPIC=JSON"),
        (("cancel", "r", "s", "--task", "t"), "--task: it goes with one run"),
        (("cancel", "r", "--task", "t", "--json"), "--task: it goes with one run"),
    ],
)
def test_what_is_typed_wrong_is_wrong_usage(words: tuple[str, ...], said: str) -> None:
    result = RUNNER.invoke(app, words)
    assert result.exit_code == 2
    assert said in result.output
