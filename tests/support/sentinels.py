"""A primary, its replicas and the Sentinels that watch them: real processes on free ports, gone with the test."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import redis

from dingqueue_worker import children
from dingqueue_worker.embedded import Server, free_port, program
from support.front import Authority
from support.ops import tool
from support.waiting import wait_for

NAME = "mymaster"
#: A server that is silent for so long is down, unless told otherwise; a failover that hangs is tried again after the second.
DOWN_AFTER_MS, FAILOVER_MS = 2_000, 10_000


class Sentinels:
    """Servers and three Sentinels.

    Args:
        servers: A primary and its replicas.
        password: Of the servers, for the user ``default``.
        own_password: Of the Sentinels themselves.
        options: More settings of the servers.
        tls: Who vouches for all of them, and for whoever speaks to them. The servers keep a plain port, for the test
            alone: neither a Sentinel nor a replica knows of it. Debian's program is taken, for the wheel's has no TLS.
        down_after_ms: A server that is silent for so long is down.
    """

    def __init__(
        self,
        *,
        servers: int = 2,
        password: str = "",
        own_password: str = "",
        options: dict[str, str] | None = None,
        tls: Authority | None = None,
        down_after_ms: int = DOWN_AFTER_MS,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dingqueue-sentinel-")
        self._password, self._own_password, self._down_after_ms = password, own_password, down_after_ms
        self._tls = tls
        self._binary = tool("redis-server") if tls else Path(program())
        self.servers: list[Server] = []
        #: By the port that the Sentinels know.
        self._known: dict[int, Server] = {}
        for _ in range(servers):
            self._start_server({"repl-diskless-sync-delay": "0", **(options or {})})
        (first_port, first), *others = self._known.items()
        for _, server in others:
            with redis.Redis(port=server.port) as replica:
                replica.replicaof("127.0.0.1", str(first_port))
        wait_for(lambda: self._have_it_from(first, password=""), what="the replicas are in step")
        if password:
            for server in self.servers:
                with redis.Redis(port=server.port) as client:
                    client.config_set("masterauth", password)
                    client.config_set("requirepass", password)
        self.ports = [free_port() for _ in range(3)]
        self.children = [self._sentinel(port, first_port) for port in self.ports]
        wait_for(lambda: all(self._sees_all(port) for port in self.ports), within_s=30, what="Sentinels see each other")

    def _start_server(self, options: dict[str, str]) -> None:
        tls_port = free_port()
        if self._tls:
            options = options | {"tls-port": str(tls_port)} | self._tls_settings(self._tls)
        server = Server(durable=True, options=options, binary=self._binary).start()
        self.servers.append(server)
        self._known[tls_port if self._tls else server.port] = server

    @staticmethod
    def _tls_settings(tls: Authority) -> dict[str, str]:
        return {
            "tls-cert-file": str(tls.server), "tls-key-file": str(tls.server),
            "tls-ca-cert-file": str(tls.certificate), "tls-auth-clients": "yes", "tls-replication": "yes",
        }  # fmt: skip

    def _sentinel(self, port: int, primary_port: int) -> subprocess.Popen[bytes]:
        folder = Path(self._folder.name) / str(port)
        folder.mkdir()
        tls = self._tls_settings(self._tls) if self._tls else {}
        lines = [
            *(["port 0", f"tls-port {port}"] if tls else [f"port {port}"]),
            *(f"{name} {value}" for name, value in tls.items()),
            "bind 127.0.0.1", f"dir {folder}",
            f"sentinel monitor {NAME} 127.0.0.1 {primary_port} 2",
            f"sentinel down-after-milliseconds {NAME} {self._down_after_ms}",
            f"sentinel failover-timeout {NAME} {FAILOVER_MS}",
            *([f"sentinel auth-pass {NAME} {self._password}"] if self._password else []),
            *([f"requirepass {self._own_password}", f"sentinel sentinel-pass {self._own_password}"] if self._own_password else []),
        ]  # fmt: skip
        config = folder / "sentinel.conf"
        config.write_text("\n".join(lines) + "\n")
        with (folder / "log").open("wb") as log:
            return children.start([self._binary, config, "--sentinel"], output=log)

    def _certificates(self) -> dict[str, str]:
        if not self._tls:
            return {}
        pem = str(self._tls.client)
        return {"ssl_ca_certs": str(self._tls.certificate), "ssl_certfile": pem, "ssl_keyfile": pem}

    def ask(self, port: int) -> dict[str, object]:
        """What one Sentinel says about the primary."""
        shown: dict[str, Any] = {"ssl": True, **self._certificates()} if self._tls else {}
        with redis.Redis(host="127.0.0.1", port=port, password=self._own_password or None, **shown) as client:
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
        assert isinstance(port, int)
        return self._known[port]

    @property
    def url(self) -> str:
        """The form of ``DINGQUEUE_BROKER_URL`` and ``DINGQUEUE_STATE_URL``."""
        login = f":{self._password}@" if self._password else ""
        own = {"sentinel_password": self._own_password} if self._own_password else {}
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        query = urlencode(own | self._certificates())
        return f"sentinel{'s' if self._tls else ''}://{login}{hosts}/{NAME}/0{f'?{query}' if query else ''}"

    def in_step(self) -> bool:
        """Have the other servers all that the primary has?"""
        return self._have_it_from(self.primary)

    def wait_until_replicated(self) -> None:
        """Until every other server has what the primary has by now."""
        others = len(self.servers) - 1
        with redis.Redis(port=self.primary.port, password=self._password or None) as client:
            # WAIT knows of this connection's own writes, and of all that were before them.
            client.set("written by the test", 1, ex=60)
            assert client.wait(others, 5_000) == others, "not replicated within 5 s"

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


@contextmanager
def lone_sentinel() -> Iterator[int]:
    """A Sentinel that watches nobody; its port."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="dingqueue-sentinel-") as folder:
        config = Path(folder) / "sentinel.conf"
        config.write_text(f"port {port}\nbind 127.0.0.1\ndir {folder}\n")
        with (Path(folder) / "log").open("wb") as log:
            child = children.start([program(), config, "--sentinel"], output=log)
        try:
            wait_for(lambda: _answers(port), what="the Sentinel answers")
            yield port
        finally:
            children.stop(child, grace_s=5.0)


def _answers(port: int) -> bool:
    try:
        with redis.Redis(port=port) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
