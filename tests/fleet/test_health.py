"""A worker's and a beat's own page over a real Redis that goes and comes back; what systemd hears."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from dingqueue_worker.embedded import free_port
from dingqueue_worker.sandbox.client import Sandbox
from support.fleet import Fleet
from support.ops import run, tool
from support.waiting import wait_for

CONFIG = """
[robots.ops]
token = "feedc0ffeefeedc0ffeefeedc0ffeefeedc0ffeefeedc0ffeefeedc0ffeefeed"
[destinations.ops]
robots = ["ops"]
"""


class Watched:
    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.worker_port, self.beat_port = fleet, free_port(), free_port()
        self.worker = fleet.worker(env={"DINGQUEUE_HEALTH": f"127.0.0.1:{self.worker_port}"})
        fleet.env["DINGQUEUE_HEALTH"] = f"127.0.0.1:{self.beat_port}"
        self.beat = fleet.beat()
        del fleet.env["DINGQUEUE_HEALTH"]
        wait_for(self.ready, within_s=30, every_s=0.1, what="both are ready")

    def get(self, port: int, path: str) -> tuple[int, str]:
        try:
            answer = requests.get(f"http://127.0.0.1:{port}{path}", timeout=5)
        except requests.ConnectionError:
            return 0, ""
        return answer.status_code, answer.text

    def states(self, path: str) -> tuple[int, int]:
        return self.get(self.worker_port, path)[0], self.get(self.beat_port, path)[0]

    def ready(self) -> bool:
        return self.states("/readyz") == (200, 200)


@pytest.fixture
def watched() -> Iterator[Watched]:
    with Sandbox() as sandbox, Fleet(CONFIG, oapi_url=sandbox.url) as fleet:
        yield Watched(fleet)


def test_a_redis_that_is_away_makes_nobody_dead_and_everybody_unready(watched: Watched) -> None:
    watched.fleet.server.kill()
    wait_for(lambda: watched.states("/readyz") == (503, 503), within_s=30, every_s=0.1)

    assert watched.states("/livez") == (200, 200)
    assert watched.fleet.command("metrics", "--once").returncode == 4

    watched.fleet.server.start()
    wait_for(watched.ready, within_s=40, every_s=0.1, what="ready again")
    job_id = watched.fleet.client.send("ops", "after the blink")
    watched.fleet.wait_for_end(job_id)


def test_the_pages_have_figures_that_promtool_reads(watched: Watched, tmp_path: Path) -> None:
    jobs = [watched.fleet.client.send("ops", f"message {number}") for number in range(3)]
    watched.fleet.wait_for_end(*jobs)
    wait_for(lambda: len(watched.fleet.store.figures().alive) == 2, what="both have given a sign of life")

    _, own = watched.get(watched.worker_port, "/metrics")
    _, fleet = watched.get(watched.worker_port, "/metrics/fleet")

    assert "dingqueue_worker_live 1.0" in own
    assert 'dingqueue_jobs_ended_total{destination="ops",kind="send",state="delivered"} 3.0' in fleet
    assert "dingqueue_books_difference_jobs 0.0" in fleet
    # Fleet-wide figures in every worker's page would be summed up to nonsense.
    assert "dingqueue_jobs_ended_total" not in own
    for name, text in {"own": own, "fleet": fleet}.items():
        file = tmp_path / name
        file.write_text("".join(line + "\n" for line in text.splitlines() if "python_gc" not in line))
        run("sh", "-c", f'"{tool("promtool")}" check metrics < "{file}"')


def test_systemd_hears_of_start_progress_and_end(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
        Sandbox() as sandbox,
        Fleet(CONFIG, oapi_url=sandbox.url) as fleet,
    ):
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        fleet.env["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        worker = fleet.worker()

        assert systemd.recv(100) == b"READY=1"
        assert systemd.recv(100) == b"WATCHDOG=1"
        worker.wait_until_says("ready.")
        assert worker.terminate() == 0
        last = b""
        while last != b"STOPPING=1":
            last = systemd.recv(100)
