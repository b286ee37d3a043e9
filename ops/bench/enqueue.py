"""How fast an application can hand jobs over, one process and one thread: run by the bench, prints JSON.

usage: enqueue.py apply_async|send_free|send_waiting|send_many COUNT
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from contenders import post
from fleets import texts


def apply_async(count: int) -> Callable[[], None]:
    """Celery's own, one by one, over the app's pool: what an application writes."""
    from contenders.celery_app import session

    def run() -> None:
        for text in texts(count):
            session.apply_async((text,))

    session.apply_async(("warm",))
    return run


def send_free(count: int) -> Callable[[], None]:
    """`Client.send`, each into a lane with nothing waiting: it is called, and published to Celery."""
    from dingqueue import Client

    client = Client(post.REDIS_URL)

    def run() -> None:
        for number, text in enumerate(texts(count)):
            client.send(f"d{number}", text)

    client.send("w0", "warm")
    return run


def send_waiting(count: int) -> Callable[[], None]:
    """`Client.send` into a lane where jobs wait: it is stored, and nothing is published."""
    from dingqueue import Client

    client = Client(post.REDIS_URL)

    def run() -> None:
        for text in texts(count):
            client.send("d0", text)

    client.send_many([{"destination": "d0", "text": f"before {number}"} for number in range(10)])
    return run


def send_many(count: int) -> Callable[[], None]:
    """`Client.send_many` over a hundred lanes, all in one call."""
    from dingqueue import Client

    client = Client(post.REDIS_URL)

    def run() -> None:
        client.send_many(
            [{"destination": f"d{number % 100}", "text": text} for number, text in enumerate(texts(count))]
        )

    client.send("w0", "warm")
    return run


WAYS = {way.__name__: way for way in (apply_async, send_free, send_waiting, send_many)}


def main() -> None:
    """Measure one way."""
    way, count = sys.argv[1], int(sys.argv[2])
    run = WAYS[way](count)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    run()
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    print(json.dumps({"jobs_per_s": count / wall_s, "cpu_ms_per_job": cpu_s * 1000 / count}))


if __name__ == "__main__":
    main()
