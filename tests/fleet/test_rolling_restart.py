"""Workers that are told to stop, one after the other, while messages flow: as an upgrade does it."""

from __future__ import annotations

import threading
import time
from functools import partial

from dingqueue_worker.sandbox.client import Space
from support.figures import Figure
from support.fleet import Fleet, Process
from support.waiting import wait_for

ROBOTS = [f"r{number}" for number in range(6)]
CONFIG = "".join(
    f'[robots.{name}]\ntoken = "token-{name}"\nlimit = 40\nwindow_s = 2\n[destinations.{name}]\nrobots = ["{name}"]\n'
    for name in ROBOTS
)
WORKERS, ROUNDS = 3, 2
#: What the compose file, Kubernetes and systemd give a worker to come to its end.
GRACE_S = 30.0


def says_more_often(worker: Process, times: int) -> bool:
    return worker.log().count("ready.") > times


def test_it_loses_nothing_doubles_nothing_and_takes_its_time(space: Space, figure: Figure) -> None:
    for name in ROBOTS:
        space.robot(f"token-{name}", name=name, limit=40, window_s=2)
        # Requests are in the air at every moment, and the signal meets some of them.
        space.fault("slow", sender=name, probability=1.0, delay_s=0.15)
    with Fleet(CONFIG, oapi_url=space.oapi_url) as fleet:
        workers = fleet.workers(WORKERS)
        jobs: list[str] = []
        over = threading.Event()

        def keep_sending() -> None:
            while not over.wait(0.04):
                jobs.append(fleet.client.send(ROBOTS[len(jobs) % len(ROBOTS)], f"message {len(jobs)}"))

        sending = threading.Thread(target=keep_sending)
        sending.start()
        took_s = []
        try:
            for _ in range(ROUNDS):
                for worker in workers:
                    began_s = time.monotonic()
                    assert worker.terminate(within_s=GRACE_S) == 0
                    took_s.append(time.monotonic() - began_s)
                    said = worker.log().count("ready.")
                    worker.restart()
                    wait_for(partial(says_more_often, worker, said), within_s=30, what="it is back")
        finally:
            over.set()
            sending.join()
        ends = fleet.wait_for_end(*jobs, within_s=60)

        arrived = [message.uuid for message in space.messages(state="accepted")]
        figure(
            f"{len(jobs)} jobs over {len(took_s)} restarts: none lost, none twice; a worker ended in {max(took_s):.1f} s"
        )
        assert {one.state for one in ends} == {"delivered"}
        assert {one.attempts for one in ends} == {1}
        assert sorted(filter(None, arrived)) == sorted(jobs)
        assert space.stats()["double"] == 0
        assert max(took_s) < GRACE_S / 2
        assert fleet.store.figures().counts.get("lost_calls:r0", 0) <= len(took_s)
