"""Clients that find their server again: demoted ones are left, Sentinels that are gone hold nobody up."""

from __future__ import annotations

import threading
import time

import pytest
import redis

from dingqueue.connections import Sentinels, redis_client
from dingqueue.servers import refusal
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


def test_what_sentinels_really_say_is_told_from_what_a_server_says() -> None:
    allowed = ("+auth", "+hello", "+client|setinfo", "+client|setname", "+sentinel|masters")
    with Watched(password="planted", own_password="planted") as watched:
        hosts = ",".join(f"127.0.0.1:{port}" for port in watched.ports)
        for port in watched.ports:
            with redis.Redis(port=port, password="planted") as inside:
                for user, rights in (("may", allowed), ("may0not", allowed[:-1])):
                    inside.acl_setuser(user, enabled=True, passwords=["+pw"], commands=["-@all", *rights])

        for address, says in (
            (f"sentinel://:planted@{hosts}/{NAME}?sentinel_password=planted", ""),
            (f"sentinel://:planted@{hosts}/{NAME}?sentinel_username=may&sentinel_password=pw", ""),
            (f"sentinel://{hosts}/{NAME}?sentinel_username=may0not&sentinel_password=pw", "user may not ask them"),
            (f"sentinel://:planted@{hosts}/{NAME}", "its Sentinels refused the user or password"),
            (f"sentinel://{hosts}/{NAME}?sentinel_password=planted2", "its Sentinels refused the user or password"),
            (f"sentinel://:planted2@{hosts}/{NAME}?sentinel_password=planted", "Redis refused the user or password"),
            (f"sentinel://{hosts}/other?sentinel_password=planted", f"know no other, they know only {NAME}"),
            (f"sentinel://127.0.0.1:{watched.servers[0].port}/{NAME}?sentinel_password=planted", "the hosts are no Sentinels"),
            (f"sentinel://127.0.0.1:{free_port()}/{NAME}", "none of its Sentinels could be reached (connection refused)"),
            (f"redis://:planted@127.0.0.1:{watched.ports[0]}", "if it is a Sentinel, its address is sentinel://"),
        ):  # fmt: skip
            client = redis_client(address, timeout_s=2.0)
            try:
                client.time()
                said = ""
            except redis.RedisError as error:
                said = str(refusal(error))
            finally:
                client.close()
            assert (says in said) if says else not said, f"{address}: {said}"
            assert "planted" not in said


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
