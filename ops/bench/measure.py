"""What a run costs: CPU, memory and counts, read from /proc and the stub's file. Nothing here is on anybody's way."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

import stub
from dingqueue_worker import children
from dingqueue_worker.embedded import Server, free_port, program

HERE = Path(__file__).parent
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAUSE = threading.Event()


def pause(seconds: float) -> None:
    """Let time pass."""
    _PAUSE.wait(seconds)


class Stuck(Exception):
    """A run did not come to its end; the text says where it stands."""


def wait_for(condition: Callable[[], object], *, within_s: float = 60.0, what: str, every_s: float = 0.002) -> None:
    """Wait until it is true."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise Stuck(f"not within {within_s:g} s: {what}")
        pause(every_s)


# --- /proc ------------------------------------------------------------------------------------------------------


def _stat(pid: int) -> list[str] | None:
    try:
        # The command's name may hold blanks: all that matters comes after its closing bracket.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    found, new = [], [root]
    while new:
        found += new
        new = [child for pid in new for child in children.get(pid, [])]
    return found


def cpu_s(pids: Sequence[int]) -> float:
    """User and system time of processes, those of their children that ended included; to 10 ms."""
    total = 0
    for pid in pids:
        if stat := _stat(pid):
            total += sum(int(value) for value in stat[11:15])
    return total * _TICK_S


def rss_mb(pids: Sequence[int]) -> float:
    """The most memory that processes held, summed."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return total / 1024


# --- Processes --------------------------------------------------------------------------------------------------


class Process:
    """A process of a run, with what it printed. Ends with the run."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path = HERE) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in stop
        self.child = children.start(list(command), env=env, cwd=cwd, output=self._log)

    @property
    def pids(self) -> list[int]:
        """It and its children."""
        return tree(self.child.pid)

    def said(self) -> str:
        """What it has printed."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def check(self) -> None:
        """Fail if it has ended."""
        if self.child.poll() is not None:
            raise Stuck(f"it ended with {self.child.returncode}: {self.said()[-2000:]}")

    def stop(self) -> None:
        """End the whole tree."""
        pids = self.pids
        self.child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(5)
        for pid in {*pids, *self.pids}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.child.wait()
        self._log.close()


class Stub:
    """The stub in a process of its own."""

    def __init__(
        self, *, delay_ms: float = 0, limit: int = 0, window_s: float = 60, certificate: Path | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dingqueue-bench-")
        ledger = Path(self._folder.name) / "ledger"
        ledger.write_bytes(bytes(stub.SIZE_BYTES))
        with ledger.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), stub.SIZE_BYTES)
        self.port = free_port()
        self.url = f"{'https' if certificate else 'http'}://{'localhost' if certificate else '127.0.0.1'}:{self.port}"
        more = ["--tls-cert", str(certificate)] if certificate else []
        command = [
            *(sys.executable, str(HERE / "stub.py"), "--port", str(self.port), "--ledger", str(ledger)),
            *("--delay-ms", str(delay_ms), "--limit", str(limit), "--window-s", str(window_s), *more),
        ]
        self.process = Process(command, env={})
        wait_for(self._listens, what="the stub listens")

    def _listens(self) -> bool:
        self.process.check()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def answered(self) -> int:
        """Requests answered with yes so far."""
        return int(stub.HEAD.unpack_from(self._map)[0])

    @property
    def refused(self) -> int:
        """Requests refused for their limit so far."""
        return int(stub.HEAD.unpack_from(self._map)[1])

    @property
    def connections(self) -> int:
        """Connections so far."""
        return int(stub.HEAD.unpack_from(self._map)[2])

    def arrived_ns(self, number: int) -> int:
        """When request `number` (from 0) arrived, CLOCK_MONOTONIC."""
        return int(stub.STAMP.unpack_from(self._map, stub.HEAD.size + number * stub.STAMP.size)[0])

    def stop(self) -> None:
        """End it."""
        self.process.stop()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        """Itself, listening."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self.stop()


class Redis(Server):
    """A server of the run's own, its append-only file on as in production."""

    def __init__(self) -> None:
        super().__init__(durable=True)
        self.start()
        self.client = redis.Redis(port=self.port, decode_responses=True)

    def _command(self) -> list[str]:
        return [server_program(), *super()._command()[1:]]

    @property
    def pids(self) -> list[int]:
        """The server."""
        return [int(self.client.info("server")["process_id"])]

    def stop(self) -> None:
        """End it."""
        self.client.close()
        super().stop()


def server_program() -> str:
    """The machine's own server before the one that the demo brings along, which has no jemalloc.

    With libc's allocator a server that holds a million jobs takes three times as long for every command.
    """
    return shutil.which("valkey-server") or shutil.which("redis-server") or program()


def server_facts() -> str:
    """Its name, version and allocator."""
    server = Redis()
    try:
        facts = {**server.client.info("server"), **server.client.info("memory")}
    finally:
        server.stop()
    name = "Valkey" if "valkey_version" in facts else "Redis"
    return f"{name} {facts.get('valkey_version') or facts['redis_version']} with {facts['mem_allocator']}"


# --- A run ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What delivering some jobs took."""

    jobs: int
    wall_s: float
    worker_cpu_s: float
    redis_cpu_s: float
    stub_cpu_s: float
    rss_mb: float

    def figures(self) -> dict[str, float]:
        """Per job, as the tables show them."""
        return {
            "jobs_per_s": self.jobs / self.wall_s,
            "cpu_ms_per_job": self.worker_cpu_s * 1000 / self.jobs,
            "redis_cpu_ms_per_job": self.redis_cpu_s * 1000 / self.jobs,
            "stub_cpu_ms_per_job": self.stub_cpu_s * 1000 / self.jobs,
            "rss_mb": self.rss_mb,
        }


def slope(
    *, stub: Stub, server: Redis, workers: Sequence[Process], first: int, last: int, within_s: float = 120.0
) -> Spent:
    """What it takes from the `first` delivery to the `last`: neither start-up nor the end's idle threads are in it."""
    begun = stub.answered
    server_pids = server.pids

    def wait_until(count: int) -> None:
        wait_for(
            lambda: stub.answered - begun >= count,
            within_s=within_s,
            what=f"{count} deliveries, {stub.answered - begun} seen\n{workers[0].said()[-3000:]}",
        )

    def look() -> tuple[float, int, float, float, float]:
        seen, at_s = stub.answered, time.monotonic()
        pids = [pid for worker in workers for pid in worker.pids]
        return at_s, seen, cpu_s(pids), cpu_s(server_pids), cpu_s(stub.process.pids)

    wait_until(first)
    before = look()
    wait_until(last)
    after = look()
    return Spent(
        jobs=after[1] - before[1],
        wall_s=after[0] - before[0],
        worker_cpu_s=after[2] - before[2],
        redis_cpu_s=after[3] - before[3],
        stub_cpu_s=after[4] - before[4],
        rss_mb=rss_mb([pid for worker in workers for pid in worker.pids]),
    )


def middle(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summary(runs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Each figure of several runs."""
    return {name: middle([run[name] for run in runs]) for name in runs[0]}
