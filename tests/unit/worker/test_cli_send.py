"""What `dingqueue send` makes of its arguments; nothing is sent."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner

from dingqueue_worker.cli import main

TABLE = "| a | b |\n|---|---|\n| 1 | 2 |"


def sent(*arguments: str, stdin: str | None = None) -> dict[str, Any]:
    """The only body."""
    done = CliRunner().invoke(main, ["send", "ops", *arguments, "--dry-run", "--json"], input=stdin)
    assert done.exit_code == 0, done.output
    (body,) = json.loads(done.stdout)["bodies"]
    return dict(body)


def test_a_table_becomes_lines_unless_it_is_to_be_kept() -> None:
    assert sent("-m", TABLE)["markdown"]["text"] == "a: 1  \n  b: 2"
    assert sent("-m", TABLE, "--tables", "keep")["markdown"]["text"].startswith("| a | b |")


def test_text_comes_from_the_arguments_or_from_stdin() -> None:
    assert sent("hello", "--mention", "13800000000")["text"]["content"] == "hello @13800000000"
    assert sent("-", stdin="from a pipe\n")["text"]["content"] == "from a pipe\n"


def test_a_mistake_is_told_by_its_field_and_exits_with_5() -> None:
    done = CliRunner().invoke(main, ["send", "ops", "hello", "--mention", "@alice", "--dry-run"])

    assert done.exit_code == 5
    assert "mention: '@alice' is neither a mobile, user:ID nor a name" in done.stderr
