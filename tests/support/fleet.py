"""A fleet of real processes: its own server, its configuration file, workers and beats that tests may kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from dingqueue import Client
from dingqueue.status import ENDED, Status
from dingqueue_worker import children
from dingqueue_worker.embedded import Server
from dingqueue_worker.store import Store
from support.waiting import wait_for

_READY_WITHIN_S = 30.0


class Process:
    """One process of the fleet and what it has printed."""

    def __init__(self, command: list[str], *, env: Mapping[str, str], log: Path) -> None:
        self._command, self._env, self._log = command, env, log
        self._life_from = 0
        self.child = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as output:
            return children.start(self._command, env=self._env, output=output)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_until_says(self, words: str, *, within_s: float = _READY_WITHIN_S) -> None:
        """Wait for words that it prints after its last start."""

        def said() -> bool:
            life = self._log.read_bytes()[self._life_from :].decode(errors="replace")
            assert self.child.poll() is None or words in life, f"it ended:\n{life[-3000:]}"
            return words in life

        wait_for(said, within_s=within_s, what=f"{words!r} in the log:\n{self.log()[-2000:]}")

    def kill(self) -> None:
        """-9, and not in order."""
        self.child.kill()
        self.child.wait()

    def freeze(self) -> None:
        self.child.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.child.send_signal(signal.SIGCONT)

    def terminate(self, *, within_s: float = 20.0) -> int:
        """SIGTERM; it must end by itself."""
        self.child.terminate()
        return self.child.wait(within_s)

    def restart(self) -> None:
        """Start it again after its end."""
        assert self.child.poll() is not None
        self._life_from = self._log.stat().st_size
        self.child = self._start()

    @property
    def alive(self) -> bool:
        return self.child.poll() is None

    def rss_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.child.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


class Fleet:
    """Started on a free port, gone with the test.

    Args:
        config: The text of ``dingqueue.toml``.
        oapi_url: Where DingTalk's older host is.
        api_url: And its newer one; default the same.
        server: A server of the test's own; default a new one with its append-only file on.
        broker_url: Celery's broker, when it is not that server.
        state_url: Where the lanes are, when that server is to be spoken to by another address.
        env: More variables for every process.
        prefix: What its keys start with; a broker that others use too needs one of its own.
    """

    def __init__(
        self,
        config: str,
        *,
        oapi_url: str,
        api_url: str | None = None,
        server: Server | None = None,
        broker_url: str | None = None,
        state_url: str | None = None,
        env: Mapping[str, str] | None = None,
        prefix: str = "dq:",
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dingqueue-fleet-")
        self.folder = Path(self._folder.name)
        self.server = server or Server(durable=True).start()
        self._own_server = server is None
        self.state_url = state_url or self.server.url
        self.broker_url = broker_url or self.state_url
        self.config = self.folder / "dingqueue.toml"
        self.config.write_text(config, encoding="utf-8")
        self.env = {
            "DINGQUEUE_CONFIG": str(self.config),
            "DINGQUEUE_BROKER_URL": self.broker_url,
            "DINGQUEUE_STATE_URL": self.state_url,
            "DINGQUEUE_OAPI_URL": oapi_url,
            "DINGQUEUE_API_URL": api_url or oapi_url,
            "PYTHONWARNINGS": "default",
            "PYTHONUNBUFFERED": "1",
            "DINGQUEUE_PREFIX": prefix,
            **(env or {}),
        }
        self.client = Client(self.broker_url, state_url=self.state_url, prefix=prefix)
        self.store = Store(self.state_url, prefix=prefix)
        self.processes: list[Process] = []

    def worker(
        self,
        *options: str,
        concurrency: int = 8,
        loglevel: str = "INFO",
        env: Mapping[str, str] | None = None,
        app: str = "dingqueue_worker.main",
    ) -> Process:
        """A worker that has not yet said that it is ready."""
        name = f"w{len(self.processes)}"
        command = [
            *("-m", "celery", "-A", app, "worker", "-n", f"{name}@%h", "-l", loglevel),
            *("-c", str(concurrency), "--without-gossip", "--without-mingle", *options),
        ]
        return self._process(name, [sys.executable, *command], env)

    def workers(self, count: int, *, concurrency: int = 8) -> list[Process]:
        """Workers that are ready."""
        started = [self.worker(concurrency=concurrency) for _ in range(count)]
        for one in started:
            one.wait_until_says("ready.")
        return started

    def beat(self, *, loglevel: str = "INFO", env: Mapping[str, str] | None = None) -> Process:
        """A beat with a schedule file of its own, and a calendar that is quick."""
        name = f"b{len(self.processes)}"
        command = ["-m", "celery", "-A", "support.quick_beat", "beat", "-l", loglevel]
        env = {"PYTHONPATH": str(Path(__file__).parents[1]), **(env or {})}
        return self._process(name, [sys.executable, *command, "-s", str(self.folder / name)], env)

    def _process(self, name: str, command: list[str], env: Mapping[str, str] | None) -> Process:
        one = Process(command, env={**self.env, **(env or {})}, log=self.folder / f"{name}.log")
        self.processes.append(one)
        return one

    def command(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """The ``dingqueue`` command, as a user types it."""
        return subprocess.run(  # noqa: S603
            [sys.executable, "-m", "dingqueue_worker", *words],
            env={**os.environ, **self.env},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def status(self, job_id: str) -> Status:
        status = self.client.status(job_id)
        assert status is not None, job_id
        return status

    def wait_for_end(self, *job_ids: str, within_s: float = 30.0) -> list[Status]:
        """The jobs' last status, in order; fails with what is still open."""
        found: dict[str, Status] = {}

        def all_ended() -> bool:
            # One question at a time: hundreds of them in each round would be a load of their own.
            for job_id in job_ids:
                if job_id not in found:
                    status = self.status(job_id)
                    if status.state not in ENDED:
                        return False
                    found[job_id] = status
            return True

        try:
            wait_for(all_ended, within_s=within_s, every_s=0.05)
        except AssertionError as error:
            left = [job_id for job_id in job_ids if job_id not in found]
            raise AssertionError(
                f"{len(left)} jobs may still be open, the first: {self.status(left[0])}\n{self.logs()[-4000:]}"
            ) from error
        return [found[job_id] for job_id in job_ids]

    def wait_until(self, condition: Callable[[], object], *, within_s: float = 30.0, what: str = "") -> None:
        """Wait, and show the logs when it does not come."""
        try:
            wait_for(condition, within_s=within_s, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()[-6000:]}") from error

    def logs(self) -> str:
        """All that the processes have printed."""
        return "\n".join(one.log() for one in self.processes)

    def stop(self) -> None:
        """End every process."""
        for one in self.processes:
            one.child.send_signal(signal.SIGCONT) if one.alive else None
        for one in self.processes:
            one.kill()
        self.client.close()
        self.store.close()
        if self._own_server:
            self.server.stop()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
