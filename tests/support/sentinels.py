"""A primary, its replicas and the Sentinels that watch them: real processes on free ports, gone with the test."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from dingqueue_worker import children
from dingqueue_worker.embedded import Server, free_port, program
from support.waiting import wait_for

NAME = "mymaster"
#: A server that is silent for so long is down; a failover that hangs is tried again after the second.
DOWN_AFTER_MS, FAILOVER_MS = 2_000, 10_000


class Sentinels:
    """Servers and three Sentinels.

    Args:
        servers: A primary and its replicas.
        password: Of the servers, for the user ``default``.
        own_password: Of the Sentinels themselves.
        options: More settings of the servers.
    """

    def __init__(
        self, *, servers: int = 2, password: str = "", own_password: str = "", options: dict[str, str] | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dingqueue-sentinel-")
        self._password, self._own_password = password, own_password
        self.servers = [
            Server(durable=True, options={"repl-diskless-sync-delay": "0", **(options or {})}).start()
            for _ in range(servers)
        ]
        first, *others = self.servers
        for server in others:
            with redis.Redis(port=server.port) as replica:
                replica.replicaof("127.0.0.1", str(first.port))
        wait_for(lambda: self._have_it_from(first, password=""), what="the replicas are in step")
        if password:
            for server in self.servers:
                with redis.Redis(port=server.port) as client:
                    client.config_set("masterauth", password)
                    client.config_set("requirepass", password)
        self.ports = [free_port() for _ in range(3)]
        self.children = [self._sentinel(port) for port in self.ports]
        wait_for(lambda: all(self._sees_all(port) for port in self.ports), within_s=30, what="Sentinels see each other")

    def _sentinel(self, port: int) -> subprocess.Popen[bytes]:
        folder = Path(self._folder.name) / str(port)
        folder.mkdir()
        lines = [
            f"port {port}", "bind 127.0.0.1", f"dir {folder}",
            f"sentinel monitor {NAME} 127.0.0.1 {self.servers[0].port} 2",
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {NAME} {FAILOVER_MS}",
            *([f"sentinel auth-pass {NAME} {self._password}"] if self._password else []),
            *([f"requirepass {self._own_password}", f"sentinel sentinel-pass {self._own_password}"] if self._own_password else []),
        ]  # fmt: skip
        config = folder / "sentinel.conf"
        config.write_text("\n".join(lines) + "\n")
        with (folder / "log").open("wb") as log:
            return children.start([program(), config, "--sentinel"], output=log)

    def ask(self, port: int) -> dict[str, object]:
        """What one Sentinel says about the primary."""
        with redis.Redis(port=port, password=self._own_password or None) as client:
            found: dict[str, object] = client.sentinel_master(NAME)
        return found

    def _sees_all(self, port: int) -> bool:
        try:
            said = self.ask(port)
        except redis.RedisError:
            return False
        return said["num-other-sentinels"] == 2 and said["num-slaves"] == len(self.servers) - 1

    @property
    def primary(self) -> Server:
        """Who is primary, as a Sentinel says."""
        port = self.ask(self.ports[0])["port"]
        return next(server for server in self.servers if server.port == port)

    @property
    def url(self) -> str:
        """The form of ``DINGQUEUE_BROKER_URL`` and ``DINGQUEUE_STATE_URL``."""
        login = f":{self._password}@" if self._password else ""
        own = f"?sentinel_password={self._own_password}" if self._own_password else ""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"sentinel://{login}{hosts}/{NAME}/0{own}"

    def in_step(self) -> bool:
        """Have the other servers all that the primary has?"""
        return self._have_it_from(self.primary)

    def _have_it_from(self, primary: Server, *, password: str | None = None) -> bool:
        with redis.Redis(
            port=primary.port, password=(self._password if password is None else password) or None
        ) as client:
            said = client.info("replication")
        others = len(self.servers) - 1
        online = [said.get(f"slave{number}", {}).get("state") == "online" for number in range(others)]
        return bool(said["role"] == "master" and all(online))

    def stop(self) -> None:
        for child in self.children:
            children.stop(child, grace_s=5.0)
        for server in self.servers:
            server.stop()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
