"""The demo, as a newcomer types it: it tells its story and leaves nothing behind, however it ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from dingqueue_worker import children
from support.waiting import wait_for


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the demo keeps its files: what still runs out of it was left behind."""
    return tmp_path


def left_behind(folder: Path) -> list[str]:
    """Processes that still have this demo's folder in their environment or command."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            known = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            known += str((process / "cwd").readlink()).encode()  # a server that renames itself keeps this
        except OSError:
            continue
        if str(folder).encode() in known and int(process.name) != os.getpid():
            found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


class Demo:
    """A demo in a process of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._log = folder / "said"
        with self._log.open("wb") as output:
            self.child = children.start(
                [sys.executable, "-m", "dingqueue_worker", "demo", *words],
                env={"TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"},
                output=output,
            )

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")


@pytest.fixture
def kept(folder: Path) -> Iterator[Demo]:
    demo = Demo(folder, "--keep")
    wait_for(lambda: "Everything runs until Ctrl-C." in demo.said(), within_s=90, what="the demo")
    yield demo
    children.stop(demo.child)


def test_it_tells_its_story(folder: Path) -> None:
    demo = Demo(folder)

    assert demo.child.wait(100) == 0, demo.said()
    said = demo.said()
    assert "one call refused at once: text" in said
    assert re.search(r"40 kB of markdown, split +ops +delivered in 3 parts", said)
    assert re.search(r"25 × one of 25 alarms at once +alarms +delivered", said)
    assert "robot.alarms is at its limit of 20 in 10 s" in said
    assert "has none of the robot's keywords" in " ".join(said.split())
    assert re.search(r"Alarm Bot +26 accepted, never more than 20 in 10 s", said)
    assert "1 upload for two shares, 1 todo for two people, 2 tokens" in said
    assert "Traceback" not in said
    assert "SECdemo" not in said
    assert left_behind(folder) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_leaves_nothing_behind(folder: Path, kept: Demo, how: signal.Signals) -> None:
    assert len(left_behind(folder)) >= 6, "itself, valkey, sandbox, worker, beat and flower"

    kept.child.send_signal(how)
    kept.child.wait(40)

    wait_for(lambda: not left_behind(folder), within_s=20, what=f"still there: {left_behind(folder)}")
    if how != signal.SIGKILL:
        assert not list(folder.glob("dingqueue-*")), "its files are gone too"


def test_what_it_leaves_running_can_be_used(kept: Demo) -> None:
    exports = dict(re.findall(r"export (\w+)=(\S+)", kept.said()))

    done = subprocess.run(
        [sys.executable, "-m", "dingqueue_worker", "send", "ops", "Hello", "--mention", "alice", "--wait", "30"],
        env={**os.environ, **exports}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "delivered" in done.stdout


def test_flower_and_the_metrics_page_have_real_numbers(kept: Demo) -> None:
    pages = dict(re.findall(r"(Flower|figures)[^:]*: +(http://\S+)", kept.said()))

    def metrics() -> str:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(pages["figures"], timeout=10).text
        return ""

    def flower() -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"{pages['Flower']}/tasks", timeout=10).ok
        return False

    wait_for(lambda: re.search(r'jobs_ended_total\{.*state="delivered"\} [1-9]', metrics()), within_s=30, every_s=0.2)
    assert 'dingqueue_processes{role="worker"} 1.0' in metrics()
    wait_for(flower, within_s=30, every_s=0.2)
