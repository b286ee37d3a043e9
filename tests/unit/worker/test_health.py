"""Whether a process makes progress: what follows from its signs, how it is asked, how systemd is told."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dingqueue_worker.configuration import ConfigurationError, load
from dingqueue_worker.health import Page, Shown, ask, host_and_port, notify, verdict
from dingqueue_worker.progress import Signs, not_live, not_ready

WELL = Signs(
    now_s=10_000.0, looked_s=9_999.0, heard_s=9_999.0, ticked_s=9_999.5, consumes=True, reached_s=5_000.0, idle_s=None,
    oldest_attempt_s=9_998.0, lease_s=27.0,
)  # fmt: skip


def test_a_worker_that_works_is_well() -> None:
    assert not_live(WELL) == []
    assert not_ready(WELL) == []


def test_redis_away_for_an_hour_kills_nobody() -> None:
    away = replace(WELL, heard_s=6_400.0, ticked_s=6_400.0, reached_s=None)

    assert not_live(away) == []
    assert not_ready(away) == ["Redis has not answered the pacer", "the broker is not reached"]


def test_redis_just_back_kills_nobody_either() -> None:
    back = replace(WELL, ticked_s=6_400.0, reached_s=9_990.0)

    assert not_live(back) == []
    assert not_ready(back) == ["not consuming any more"]


@pytest.mark.parametrize(
    ("signs", "problem"),
    [
        (replace(WELL, looked_s=9_939.0), "the pacer has not come to an end of its look for 61 s"),
        (replace(WELL, ticked_s=9_939.0), "Celery's loop has stood still for 61 s"),
        (replace(WELL, idle_s=9_939.0), "calls wait in the queue and none was taken for 61 s"),
        (replace(WELL, oldest_attempt_s=9_918.0), "an attempt has hung for 82 s"),
    ],
)
def test_what_only_a_restart_cures_is_named(signs: Signs, problem: str) -> None:
    assert not_live(signs) == [problem]
    assert problem in not_ready(signs)


def test_a_worker_that_connects_again_and_again_is_not_ready() -> None:
    assert not_ready(replace(WELL, consumes=False)) == ["not consuming yet"]


@contextmanager
def served(**paths: Callable[[], Shown]) -> Iterator[int]:
    page = Page(("127.0.0.1", 0), {f"/{name}": say for name, say in paths.items()})
    page.start()
    yield page.port
    page.stop()


def test_the_question_costs_no_import_and_says_why_not() -> None:
    with served(livez=lambda: verdict(["the pacer sleeps", "and more"]), readyz=lambda: verdict(())) as port:
        bad, good, nothing = (
            subprocess.run(  # noqa: S603 - our own module
                [sys.executable, "-X", "importtime", "-m", "dingqueue_worker.health", f"http://127.0.0.1:{at}"],
                capture_output=True, text=True, check=False, timeout=30,
            )
            for at in (f"{port}/livez", f"{port}/readyz", "1/livez")
        )  # fmt: skip

    assert (bad.returncode, bad.stdout) == (1, "the pacer sleeps\nand more\n")
    assert (good.returncode, good.stdout) == (0, "ok\n")
    assert nothing.returncode == 1
    assert "no answer from 127.0.0.1:1" in nothing.stdout
    assert "celery" not in good.stderr
    assert "redis" not in good.stderr


def test_a_path_that_fails_says_so_and_no_more() -> None:
    def fail() -> Shown:
        raise RuntimeError("a secret in an error")

    with served(metrics=fail) as port:
        assert ask(f"http://127.0.0.1:{port}/metrics") == (False, "RuntimeError")
        assert ask(f"http://127.0.0.1:{port}/nothing") == (False, "there is /metrics")


def test_one_who_says_nothing_holds_up_nobody() -> None:
    with served(livez=lambda: verdict(())) as port, socket.create_connection(("127.0.0.1", port)):
        assert ask(f"http://127.0.0.1:{port}/livez") == (True, "ok")


def test_head_has_no_body() -> None:
    with served(livez=lambda: verdict(())) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("HEAD", "/livez")
        answer = connection.getresponse()

        assert (answer.status, answer.read()) == (200, b"")
        connection.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:9809", ("127.0.0.1", 9809)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),  # noqa: S104 - read, not bound
        ("[::1]:9809", ("::1", 9809)),
        (":9809", ("127.0.0.1", 9809)),
    ],
)
def test_an_address_is_read(text: str, expected: tuple[str, int]) -> None:
    assert host_and_port(text) == expected


@pytest.mark.parametrize("text", ["", "9809", "localhost", "localhost:", "localhost:http", "localhost:65536", "a:-1"])
def test_a_wrong_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        host_and_port(text)


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"\0dingqueue-test-{threading.get_native_id()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name)
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name.replace("\0", "@"))

        notify("WATCHDOG=1")

        assert systemd.recv(100) == b"WATCHDOG=1"


def test_nobody_is_told_where_systemd_did_not_start_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    notify("READY=1")


def test_a_wrong_address_stops_the_boot(tmp_path: Path) -> None:
    config = tmp_path / "dingqueue.toml"
    config.write_text('[robots.ops]\ntoken = "x"\n[destinations.ops]\nrobots = ["ops"]\n')

    with pytest.raises(ConfigurationError, match=r"^DINGQUEUE_HEALTH: expected HOST:PORT"):
        load({"DINGQUEUE_CONFIG": str(config), "DINGQUEUE_HEALTH": "everywhere"})
