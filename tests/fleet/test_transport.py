"""The workers' transport on a real server: many messages at once, never more than there is room for, no account."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer, Message, Producer, Queue
from kombu.asynchronous import Hub, set_event_loop

from dingqueue_worker.embedded import Server
from dingqueue_worker.transport import Transport
from support.waiting import wait_for

QUEUE = "calls"


class Taker:
    """One consumer with a prefetch limit, and what it took."""

    def __init__(self, url: str, *, prefetch: int) -> None:
        self.connection = Connection(url, transport=Transport)
        self.taken: list[Message] = []
        self.consumer = Consumer(self.connection, [Queue(QUEUE)], on_message=self.taken.append)
        self.consumer.qos(prefetch_count=prefetch)
        self.consumer.consume()

    def turn(self, *, timeout_s: float = 5.0) -> None:
        self.connection.drain_events(timeout=timeout_s)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(durable=False) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with redis.Redis(port=server.port, decode_responses=True) as client:
        client.flushall()
        client.config_resetstat()
        yield client


def publish(server: Server, count: int) -> None:
    # By kombu's own transport, as a producer does.
    with Connection(server.url) as connection:
        producer = Producer(connection.default_channel)
        for number in range(count):
            producer.publish({"number": number}, routing_key=QUEUE, declare=[Queue(QUEUE)])


def taker(server: Server, *, prefetch: int) -> Taker:
    return Taker(server.url, prefetch=prefetch)


def numbers(taken: list[Message]) -> list[int]:
    return [message.decode()["number"] for message in taken]


def test_what_waits_is_taken_in_order_in_one_round_trip(server: Server, client: redis.Redis) -> None:
    publish(server, 9)
    one = taker(server, prefetch=32)

    one.turn()

    assert numbers(one.taken) == list(range(9))
    assert client.info("commandstats")["cmdstat_brpop"]["calls"] == 1
    one.connection.release()


def test_no_more_is_taken_than_there_is_room_for(server: Server, client: redis.Redis) -> None:
    publish(server, 10)
    one = taker(server, prefetch=4)

    one.turn()
    assert (len(one.taken), client.llen(QUEUE)) == (4, 6)
    with pytest.raises(TimeoutError):
        one.turn(timeout_s=0.1)
    one.taken[0].ack()
    one.turn()

    assert numbers(one.taken) == [0, 1, 2, 3, 4]
    assert client.llen(QUEUE) == 5
    one.connection.release()


def test_redis_hears_nothing_of_acknowledgements(server: Server, client: redis.Redis) -> None:
    publish(server, 3)
    one = taker(server, prefetch=32)

    one.turn()
    one.taken[0].ack()
    one.taken[1].reject()

    assert not client.exists("unacked", "unacked_index")
    one.connection.release()


def test_what_was_taken_and_not_begun_goes_back_when_the_worker_ends(server: Server, client: redis.Redis) -> None:
    publish(server, 3)
    one = taker(server, prefetch=32)

    one.turn()
    one.taken[0].ack()
    one.connection.release()

    assert client.llen(QUEUE) == 2


def test_a_refusal_leaves_no_answer_behind_for_the_next_question(server: Server, client: redis.Redis) -> None:
    one = taker(server, prefetch=32)
    client.set(QUEUE, "not a list")

    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        one.turn()
    client.delete(QUEUE)
    publish(server, 2)
    one.turn()

    assert numbers(one.taken) == [0, 1]
    one.connection.release()


def test_a_loop_that_sleeps_for_want_of_room_is_woken_by_room(server: Server, client: redis.Redis) -> None:
    hub = Hub()
    set_event_loop(hub)
    try:
        publish(server, 15)
        one = taker(server, prefetch=1)
        transport: Any = one.connection.transport
        transport.register_with_event_loop(one.connection.connection, hub)
        # Without timers the loop comes round by itself only once a second.
        hub.timer.clear()
        stopping = threading.Event()

        def run() -> None:
            while not stopping.is_set():
                hub.run_once()

        def all_taken() -> bool:
            if one.taken and not one.taken[-1].acknowledged:
                one.taken[-1].ack()
            return len(one.taken) == 15

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        wait_for(all_taken, within_s=7, what="15 messages, one at a time")

        stopping.set()
        hub.call_soon(stopping.is_set)
        thread.join(10)
        one.connection.release()
    finally:
        set_event_loop(None)
        hub.close()


@pytest.mark.parametrize("prefetch", [1, 32])
def test_what_is_no_message_is_dropped_and_the_next_one_taken(
    server: Server, client: redis.Redis, prefetch: int, caplog: pytest.LogCaptureFixture
) -> None:
    for garbage in ("SECRETPLANTED", "3", "[]", "{}", '{"properties": []}', '{"properties": {}}', "\ufffd"):
        client.lpush(QUEUE, garbage)
    publish(server, 1)
    one = taker(server, prefetch=prefetch)

    while not one.taken:
        one.turn()

    assert numbers(one.taken) == [0]
    assert len([record for record in caplog.records if "dropped from the queue" in record.message]) == 7
    assert "PLANTED" not in caplog.text
    one.taken[0].ack()
    one.connection.release()
