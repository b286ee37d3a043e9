"""Clients that find their server again: demoted ones are left, Sentinels that are gone hold nobody up."""

from __future__ import annotations

import threading
import time

import pytest
import redis

from dingqueue.connections import Sentinels, redis_client
from dingqueue_worker.embedded import Server, free_port
from support.blackhole import black_hole
from support.front import Front
from support.sentinels import NAME
from support.sentinels import Sentinels as Watched


@pytest.mark.parametrize("why", ["READONLY", "NOREPLICAS"])
def test_a_server_that_may_not_write_is_left_for_where_its_name_leads(why: str) -> None:
    with (
        Server(durable=False) as old,
        Server(durable=False) as new,
        Front(old.port) as front,
        redis.Redis(port=old.port) as inside,
    ):
        client = redis_client(f"redis://127.0.0.1:{front.port}/0", timeout_s=5.0)
        script = client.register_script("return redis.call('SET', KEYS[1], ARGV[1])")
        script(keys=["key"], args=["before"])
        if why == "READONLY":
            inside.replicaof("127.0.0.1", str(free_port()))
        else:
            inside.config_set("min-replicas-to-write", 1)
        front.to_port = new.port

        with pytest.raises(redis.ResponseError, match=r"read only replica|Not enough good replicas"):
            script(keys=["key"], args=["to the old one"])
        script(keys=["key"], args=["after"])

        with redis.Redis(port=new.port) as there:
            assert there.get("key") == b"after"
        client.close()


def test_a_sentinel_that_is_gone_holds_nobody_up_twice() -> None:
    with Watched() as watched, black_hole() as gone:
        (_, rest) = watched.url.split("://")
        client = redis_client(f"sentinel://127.0.0.1:{gone},{rest}", timeout_s=2.0)

        began_s = time.monotonic()
        client.ping()
        first_s, began_s = time.monotonic() - began_s, time.monotonic()
        client.connection_pool.disconnect()
        client.ping()
        second_s = time.monotonic() - began_s
        client.close()

    assert first_s < 1.0
    assert second_s < 0.3


def test_threads_that_ask_at_once_drop_no_sentinel() -> None:
    with Watched() as watched:
        manager = Sentinels([("127.0.0.1", port) for port in (free_port(), free_port(), *watched.ports)])
        before = set(manager.sentinels)
        threads = [threading.Thread(target=manager.discover_master, args=(NAME,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert set(manager.sentinels) == before
        manager.close()
