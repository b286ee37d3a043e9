"""ops/redis.conf, read by the servers themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from dingqueue_worker import children
from dingqueue_worker.embedded import free_port, program
from support.ops import OPS, make_secrets, tool
from support.waiting import wait_for


@contextmanager
def served(server: str, folder: Path) -> Iterator[redis.Redis]:
    """A server with our file; what a container or host brings is put in its place."""
    secrets = make_secrets(folder / "secrets")
    text = (OPS / "redis.conf").read_text()
    text = text.replace("/run/secrets/redis.acl", str(secrets / "redis.acl")).replace("dir /data", f"dir {folder}")
    conf, port = folder / "redis.conf", free_port()
    conf.write_text(text)
    with (folder / "log").open("wb") as log:
        child = children.start([server, conf, "--port", str(port), "--bind", "127.0.0.1"], output=log)
    try:
        url = (secrets / "redis_admin").read_text().strip().replace("127.0.0.1:6379", f"127.0.0.1:{port}")
        client = redis.Redis.from_url(url, decode_responses=True)

        def answers() -> bool:
            assert child.poll() is None, (folder / "log").read_text()
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

        wait_for(answers, what="the server answers")
        yield client
        client.close()
    finally:
        children.stop(child)


@pytest.mark.parametrize("which", ["valkey", "redis-server"])
def test_it_keeps_everything_and_evicts_nothing(which: str, tmp_path: Path) -> None:
    server = program() if which == "valkey" else str(tool("redis-server"))

    with served(server, tmp_path) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("save") == {"save": ""}
        assert client.info("persistence")["aof_enabled"] == 1


def test_nobody_gets_in_without_a_password_and_the_probe_only_pings(tmp_path: Path) -> None:
    with served(program(), tmp_path) as client:
        port = client.connection_pool.connection_kwargs["port"]
        with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with redis.Redis(port=port, username="probe", password="probe", protocol=2) as probe:
            assert probe.ping()
            with pytest.raises(redis.exceptions.NoPermissionError):
                probe.get("x")
