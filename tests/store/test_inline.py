"""Redis in the caller's own thread: bounded whatever it does, and nothing is opened there."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest
import redis

from dingqueue import Client, EnqueueFailed
from dingqueue.inline import Connection, NotOpen, until
from dingqueue_worker.embedded import Server
from support.waiting import wait_for


def connected(server: Server) -> redis.Redis:
    pool = redis.ConnectionPool(
        connection_class=Connection, host="127.0.0.1", port=server.port, socket_timeout=5.0, decode_responses=True
    )
    return redis.Redis.from_pool(pool)


def read_until_end(ours: socket.socket) -> None:
    while ours.recv(16):
        pass


def test_a_bounded_thread_opens_nothing_and_uses_what_is_open(valkey: Server) -> None:
    with connected(valkey) as client:
        with pytest.raises(NotOpen), until(time.monotonic() + 5):
            client.ping()

        client.ping()

        with until(time.monotonic() + 5):
            assert client.ping()


def test_a_connection_that_the_server_closed_counts_as_none(valkey: Server) -> None:
    with connected(valkey) as client, redis.Redis(port=valkey.port) as other:
        ours = client.client_id()
        other.client_kill_filter(_id=str(ours))
        wait_for(lambda: ours not in [int(row["id"]) for row in other.client_list()], what="it is closed")

        with pytest.raises(NotOpen), until(time.monotonic() + 5):
            client.ping()


def test_an_answer_that_drips_ends_at_the_deadline_and_the_next_one_is_not_hurried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made: Any = Connection
        ours = made(host="127.0.0.1", port=listener.getsockname()[1], socket_timeout=5.0)._connect()
        theirs, _ = listener.accept()
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.05):
                theirs.sendall(b"+")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        began_s = time.monotonic()
        with pytest.raises(TimeoutError), until(began_s + 0.5):
            read_until_end(ours)
        took_s = time.monotonic() - began_s
        stop.set()
        thread.join()

        assert 0.4 < took_s < 2.0
        assert ours.gettimeout() == 5.0
        ours.close()
        theirs.close()


def test_a_call_over_an_open_connection_needs_no_other_thread(valkey: Server) -> None:
    free = threading.Event()
    with Client(valkey.url, prefix="inline:", enqueue_timeout_s=5.0) as client:
        client.send("ops", "opens the connection")
        for _ in range(8):
            client._handover.here().hands.later(free.wait)

        job_id = client.send("ops", "while every other thread is stuck")

        free.set()
        status = client.status(job_id)
        assert status is not None
        assert status.state == "waiting"


def test_a_redis_that_freezes_under_an_open_connection_is_bounded() -> None:
    with Server(durable=False) as server, Client(server.url, enqueue_timeout_s=1.0) as client:
        client.send("ops", "opens the connection")
        server.freeze()

        began_s = time.monotonic()
        with pytest.raises(EnqueueFailed) as refused:
            client.send("ops", "to nobody", key="again")
        took_s = time.monotonic() - began_s
        server.thaw()

        assert took_s < 1.5
        (job,) = refused.value.jobs
        assert client.enqueue(job) == job.job_id


def test_a_connection_that_was_closed_under_the_client_costs_no_call(valkey: Server) -> None:
    with Client(valkey.url, prefix="inline:") as client, redis.Redis(port=valkey.port) as other:
        client.send("ops", "opens the connection")
        other.client_kill_filter(_type="normal", skipme=True)

        job_id = client.send("ops", "over a new one")

        status = client.status(job_id)
        assert status is not None
        assert status.state == "waiting"
