"""What the README shows works as it is written there."""

from __future__ import annotations

import ast
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dingqueue.testing import Outbox
from dingqueue_worker.configuration import load
from dingqueue_worker.console import Exit

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_producers_ten_lines_run(ding_outbox: Outbox, capsys: pytest.CaptureFixture[str]) -> None:
    code = blocks("python")[0]
    tree = compile(code, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    scope = {"datetime": datetime, "UTC": UTC}

    awaited = eval(tree, scope)  # noqa: S307 - our own README
    if awaited is not None:
        import asyncio

        asyncio.run(awaited)

    assert len(code.splitlines()) <= 12
    assert len(ding_outbox.jobs) == 504, "one was cancelled"
    ding_outbox.assert_enqueued(destination="ops", text_contains="host 499 is back")
    assert capsys.readouterr().out.startswith("send to ops: waiting, place 2"), "the urgent one goes first"


def test_every_python_block_is_python() -> None:
    for code in blocks("python"):
        compile(code, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_configuration_is_taken(tmp_path: Path) -> None:
    (text,) = blocks("toml")
    assert tomllib.loads(text)
    config = tmp_path / "dingqueue.toml"
    config.write_text(text, encoding="utf-8")
    names = set(re.findall(r"\$\{(\w+)\}", text))

    settings = load({"DINGQUEUE_CONFIG": str(config), **{name: f"value-of-{name}" for name in names}})

    assert set(settings.destinations) == {"ops", "project"}


def test_exit_codes_are_the_promised_ones() -> None:
    said = re.search(r"Exit codes: (.*)\.$", README, re.MULTILINE)
    assert said
    assert [int(code) for code in re.findall(r"(?:^|, )(\d+) ", said[1])] == [int(code) for code in Exit]


def test_every_command_named_exists() -> None:
    import click

    from dingqueue_worker.cli import main

    context = click.Context(main)
    for name in set(re.findall(r"`dingqueue (\w+)", README)) | set(
        re.findall(r"^dingqueue (\w+)", README, re.MULTILINE)
    ):
        assert main.get_command(context, name), name


def test_files_named_are_there() -> None:
    root = Path(__file__).parents[2]
    for path in re.findall(r"\]\(([\w/.]+)\)", README):
        assert (root / path).exists(), path
