"""``dingqueue sandbox`` as a user types it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from dingqueue_worker import children
from dingqueue_worker.cli import main
from dingqueue_worker.sandbox.client import Sandbox, Space
from support.sandbox import send, text
from support.waiting import wait_for

CONFIG = """
[robots.ops]
token = "PLANTED-TOKEN-of-ops"
secret = "SEC-PLANTED"
keyword = "disk"
limit = 3

[destinations.alerts]
robots = ["ops"]
"""


@contextmanager
def running(folder: Path, *options: str) -> Iterator[tuple[Space, Path]]:
    ready, log = folder / "ready", folder / "log"
    command = [sys.executable, "-m", "dingqueue_worker.sandbox", "--port", "0", "--ready-file", ready, *options]
    with log.open("wb") as output:
        child = children.start([*map(str, command)], output=output)
    try:
        wait_for(lambda: ready.exists() or child.poll() is not None, what="the sandbox is ready")
        assert ready.exists(), log.read_text()
        yield Space(ready.read_text()), log
    finally:
        children.stop(child)


def test_it_answers_for_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "dingqueue.toml").write_text(CONFIG)

    with running(tmp_path, "--config", str(tmp_path / "dingqueue.toml")) as (space, log):
        (robot,) = space.call("GET", "robots")
        unknown = send(space, "nobody")

        assert (robot["name"], robot["group"], robot["keywords"]) == ("ops", "alerts", ["disk"])
        assert (robot["limit"], robot["signs"], unknown) == (3, True, 300005)
        assert "PLANTED" not in log.read_text()


def test_robots_can_be_named_on_the_command_line(tmp_path: Path) -> None:
    with running(tmp_path, "--robot", "ops=token-of-ops", "--robot", "dev=token-of-dev,SECxyz") as (space, _):
        assert send(space, "token-of-ops", text("hello")) == 0
        assert send(space, "token-of-dev") == 310000
        assert send(space, "nobody") == 300005


def test_without_either_any_token_is_a_robot_on_loopback_only(tmp_path: Path) -> None:
    with running(tmp_path) as (space, _):
        assert send(space, "nobody") == 0
    (tmp_path / "ready").unlink()
    with running(tmp_path, "--host", "0.0.0.0") as (space, _):  # noqa: S104  # what the test is about
        open_to_all = Space(space.url.replace("0.0.0.0", "127.0.0.1"))  # noqa: S104
        assert send(open_to_all, "nobody") == 300005
        assert requests.get(f"{open_to_all.url}/_sandbox/stats", headers={"Host": "sandbox:8025"}, timeout=5).ok


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--robot", "ops"], "NAME=TOKEN"),
        (["--config", "missing.toml"], "missing.toml"),
        (["--port", "70000"], "70000"),
    ],
)
def test_wrong_usage_is_named(options: list[str], words: str) -> None:
    result = CliRunner().invoke(main, ["sandbox", *options])

    assert result.exit_code == 2
    assert words in result.output


def test_a_port_in_use_is_named(sandbox: Sandbox) -> None:
    result = CliRunner().invoke(main, ["sandbox", "--port", sandbox.url.rpartition(":")[2]])

    assert result.exit_code == 2
    assert "choose another --port" in result.output


def test_a_base_install_says_what_is_missing() -> None:
    lines = "import sys; sys.modules['uvicorn'] = None; from dingqueue_worker.cli import main; main(['sandbox'])"

    command = [sys.executable, "-c", lines]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603  # our own

    assert result.returncode == 2
    assert "pip install 'dingqueue[sandbox]'" in result.stderr
