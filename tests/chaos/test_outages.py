"""Redis and the broker killed, frozen, cut off, flushed, full: consuming goes on by itself, and all jobs end."""

from __future__ import annotations

import time

import pytest
import redis

from dingqueue import EnqueueFailed
from dingqueue_worker.embedded import Server
from dingqueue_worker.sandbox.client import Space
from support.figures import Figure
from support.fleet import Fleet
from support.load import arrivals, assert_all_delivered, assert_books_balance, assert_never_over, copies, lanes
from support.pressure import Pressure
from support.waiting import pass_s, wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

LANES = [f"lane{number}" for number in range(6)]


def config(space: Space, *, limit: int = 1000) -> str:
    return lanes(space, {name: [name] for name in LANES}, limit=limit)


def test_redis_is_killed_cut_off_and_frozen(space: Space, figure: Figure) -> None:
    """B63: nobody is left alive but deaf."""
    # Every write on disk before its answer: then an accepted job survives even the server's -9.
    server = Server(durable=True, options={"appendfsync": "always"}).start()
    try:
        with Fleet(config(space), oapi_url=space.oapi_url, server=server) as fleet:
            workers = fleet.workers(2)
            silences: list[float] = []

            def back_after(trouble: str) -> None:
                """How long until the first message after Redis is there again."""
                came, began_s = len(arrivals(space)), time.monotonic()
                fleet.wait_until(lambda: len(arrivals(space)) > came, within_s=30, what=trouble)
                silences.append(time.monotonic() - began_s)

            with Pressure(fleet, LANES, count=600, every_s=0.05) as pressure:
                for _ in range(3):
                    pass_s(1.0)
                    server.kill()
                    pass_s(1.0)
                    server.start()
                    back_after("a kill")
                for _ in range(3):
                    pass_s(0.5)
                    redis.Redis.from_url(server.url).client_kill_filter(_type="normal", skipme=True)
                    back_after("connections cut")
                server.freeze()
                pass_s(10.0)
                server.thaw()
                back_after("frozen for 10 s")
            statuses = fleet.wait_for_end(*pressure.accepted, within_s=60)

            often = copies(arrivals(space))
            doubles = {job_id for job_id, times in often.items() if times > 1}
            figure(
                f"600 jobs, Redis killed 3 times, cut 3 times, frozen once: first message {max(silences):.1f} s after "
                f"at most, arrived twice {len(doubles)}, the door refused {pressure.refusals} times"
            )
            assert len(pressure.accepted) == 600
            assert all(worker.alive for worker in workers), "nobody restarted them"
            assert_all_delivered(statuses)
            assert set(often) == set(pressure.accepted)
            assert doubles <= {status.job_id for status in statuses if status.unknowns}
            assert_books_balance(fleet)
    finally:
        server.stop()


def test_the_broker_is_flushed_and_away_while_the_state_is_kept(space: Space, figure: Figure) -> None:
    broker = Server(durable=False).start()
    try:
        with Fleet(config(space, limit=20), oapi_url=space.oapi_url, broker_url=broker.url) as fleet:
            fleet.workers(2)
            first = fleet.client.send_many({"destination": name, "text": f"{n}"} for n in range(20) for name in LANES)
            fleet.wait_for_end(*first)

            broker.kill()
            job_ids = fleet.client.send_many({"destination": LANES[n % 6], "text": f"number {n}"} for n in range(200))
            pass_s(20.0)
            assert not [one for one in arrivals(space) if one.uuid in set(job_ids)]
            broker.start()
            began_s = time.monotonic()
            fleet.wait_until(lambda: len(arrivals(space)) > len(first), within_s=30, what="the first message")
            took_s = time.monotonic() - began_s
            redis.Redis.from_url(broker.url).flushall()
            statuses = fleet.wait_for_end(*job_ids, within_s=60)

            figure(f"200 jobs, broker away for 20 s, then flushed: first message {took_s:.1f} s after its return")
            assert_all_delivered(statuses)
            assert took_s < 10
            assert set(copies(arrivals(space)).values()) == {1}
            assert_never_over(space)
            assert_books_balance(fleet)
    finally:
        broker.stop()


def test_redis_is_full_for_a_while(space: Space, figure: Figure) -> None:
    """B65: refused loudly at the door, and nobody hangs."""
    with Fleet(config(space), oapi_url=space.oapi_url) as fleet:
        workers = fleet.workers(2)
        raw = redis.Redis.from_url(fleet.server.url)
        before = fleet.client.send_many({"destination": name, "text": "before"} for name in LANES)
        fleet.wait_for_end(*before)

        raw.config_set("maxmemory", "1mb")
        with pytest.raises(EnqueueFailed, match="used memory"):
            fleet.client.send("lane0", "while it is full")
        pass_s(5.0)
        assert all(worker.alive for worker in workers)
        raw.config_set("maxmemory", "0")
        began_s = time.monotonic()
        job_ids = fleet.client.send_many({"destination": name, "text": "after"} for name in LANES)
        statuses = fleet.wait_for_end(*job_ids, within_s=30)

        figure(f"Redis full for 5 s: refused loudly, delivered again {time.monotonic() - began_s:.1f} s after")
        assert_all_delivered(statuses)


def test_rabbitmq_carries_the_calls(space: Space) -> None:
    url = "amqp://guest:guest@127.0.0.1:5672//"
    if not _reachable(5672):
        pytest.skip("no RabbitMQ on 127.0.0.1:5672")
    prefix = f"t{time.time_ns()}:"
    with Fleet(config(space, limit=20), oapi_url=space.oapi_url, broker_url=url, prefix=prefix) as fleet:
        workers = fleet.workers(2)

        job_ids = fleet.client.send_many({"destination": LANES[n % 6], "text": f"number {n}"} for n in range(180))
        workers[0].kill()
        statuses = fleet.wait_for_end(*job_ids, within_s=60)

        assert_all_delivered(statuses)
        assert_never_over(space)
        assert set(copies(arrivals(space))) == set(job_ids)


def _reachable(port: int) -> bool:
    import socket

    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def test_the_networks_blink_at_dingtalk_loses_nothing(space: Space) -> None:
    """B85: connections reset before and after the message was taken."""
    with Fleet(config(space), oapi_url=space.oapi_url) as fleet:
        fleet.workers(1)
        space.fault("reset", times=3, sender="lane0")
        space.fault("lost", times=2, sender="lane1")

        job_ids = [fleet.client.send(name, f"number {n}") for n in range(5) for name in ("lane0", "lane1", "lane2")]
        statuses = fleet.wait_for_end(*job_ids, within_s=40)

        assert_all_delivered(statuses)
        often = copies(arrivals(space))
        assert {job_id for job_id, times in often.items() if times > 1} <= {
            status.job_id for status in statuses if status.unknowns
        }
        assert sum(status.unknowns for status in statuses if status.destination == "lane2") == 0
        wait_for(lambda: len(arrivals(space)) == 17)
