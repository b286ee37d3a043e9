"""Workers that are killed, frozen, stopped and poisoned: every job ends, and what arrived twice is known."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from dingqueue_worker.sandbox.client import Space
from support.figures import Figure
from support.fleet import Fleet, Process
from support.load import (
    LEASE_S,
    arrivals,
    assert_all_delivered,
    assert_books_balance,
    assert_in_order,
    assert_never_over,
    copies,
    lanes,
)
from support.pressure import Pressure
from support.waiting import pass_s

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

LANES = [f"lane{number}" for number in range(10)]
#: What the compose file, Kubernetes and systemd give a worker to come to its end.
GRACE_S = 30.0


def test_a_random_worker_is_killed_every_second(space: Space, figure: Figure) -> None:
    chance = random.Random(7)
    with Fleet(lanes(space, {name: [name] for name in LANES}, limit=1000), oapi_url=space.oapi_url) as fleet:
        workers = fleet.workers(3)
        space.fault("slow", delay_s=0.15, probability=0.7, seed=7)
        kills = 0
        with Pressure(fleet, LANES, count=500, every_s=0.02) as pressure:
            while not pressure.done:
                pass_s(1.0)
                victim = chance.choice(workers)
                victim.kill()
                victim.restart()
                kills += 1
        statuses = fleet.wait_for_end(*pressure.accepted, within_s=90)

        came = arrivals(space)
        often = copies(came)
        doubles = {job_id for job_id, times in often.items() if times > 1}
        unknown = {status.job_id for status in statuses if status.unknowns}
        figure(
            f"500 jobs, {kills} kills: lost {len(set(pressure.accepted) - set(often))}, "
            f"arrived twice {len(doubles)}, unknown in between {len(unknown)}"
        )
        assert kills >= 8
        assert len(pressure.accepted) == 500
        assert_all_delivered(statuses)
        assert set(often) == set(pressure.accepted)
        assert doubles <= unknown, "who arrived twice was in mid-request, and was reported"
        assert {one.state for one in came if one.uuid in doubles} == {"accepted", "double"}, "the same msgUuid"
        assert_books_balance(fleet)


def test_a_worker_frozen_past_its_lease(space: Space, figure: Figure) -> None:
    with Fleet(lanes(space, {name: [name] for name in LANES}), oapi_url=space.oapi_url) as fleet:
        workers = fleet.workers(2, concurrency=1)
        space.fault("slow", delay_s=0.1, probability=0.8, seed=5)
        stops = 4
        with Pressure(fleet, LANES, count=400, every_s=0.07) as pressure:
            for number in range(stops):
                frozen = workers[number % 2]
                frozen.freeze()
                pass_s(LEASE_S + 1.0)
                frozen.thaw()
        statuses = fleet.wait_for_end(*pressure.accepted, within_s=60)

        often = copies(arrivals(space))
        doubles = sum(times - 1 for times in often.values())
        figure(f"400 jobs, a worker frozen past its lease {stops} times: arrived twice {doubles}")
        assert_all_delivered(statuses)
        assert set(often) == set(pressure.accepted)
        assert_never_over(space)
        assert doubles <= stops, "at most what it had in hand"
        assert {status.job_id for status in statuses if status.unknowns} >= {
            job_id for job_id, times in often.items() if times > 1
        }


def test_rolling_restarts_lose_and_double_nothing(space: Space, figure: Figure) -> None:
    """As an upgrade does it: one worker after the other, while messages flow."""
    with Fleet(lanes(space, {name: [name] for name in LANES}, limit=1000), oapi_url=space.oapi_url) as fleet:
        workers = fleet.workers(2)
        # Requests are in the air at every moment, and the signal meets some of them.
        space.fault("slow", delay_s=0.2, probability=1.0)
        took_s = []
        with Pressure(fleet, LANES, count=500, every_s=0.04) as pressure:
            for _ in range(5):
                for worker in workers:
                    began_s = time.monotonic()
                    assert worker.terminate(within_s=GRACE_S) == 0
                    took_s.append(time.monotonic() - began_s)
                    worker.restart()
                    worker.wait_until_says("ready.")
        statuses = fleet.wait_for_end(*pressure.accepted, within_s=60)

        lost_calls = {name: fleet.store.counts().get(f"lost_calls:{name}", 0) for name in LANES}
        figure(
            f"500 jobs, {len(took_s)} restarts in turn: none lost, none twice, {sum(lost_calls.values())} calls made again; "
            f"the longest took {max(took_s):.1f} s"
        )
        assert_all_delivered(statuses)
        came = arrivals(space)
        assert copies(came) == dict.fromkeys(pressure.accepted, 1)
        assert {(status.attempts, status.unknowns) for status in statuses} == {(1, 0)}
        assert_in_order(came, {name: [s.job_id for s in statuses if s.destination == name] for name in LANES})
        assert max(took_s) < GRACE_S / 2
        assert max(lost_calls.values()) <= len(took_s), "a lane has one call out: a restart loses no more"
        assert_books_balance(fleet)


def test_a_job_that_kills_its_worker_ends_as_dead(space: Space, figure: Figure) -> None:
    """B67."""
    config = lanes(space, {"ops": ["ops"], "dev": ["dev"]}, limit=1000) + "max_deliveries = 3\n"
    poisoned = {"PYTHONPATH": str(Path(__file__).parents[1])}

    def worker(fleet: Fleet) -> Process:
        return fleet.worker(app="support.poison", env=poisoned)

    with Fleet(config, oapi_url=space.oapi_url) as fleet:
        workers = [worker(fleet), worker(fleet)]
        for one in workers:
            one.wait_until_says("ready.")
        over = threading.Event()
        deaths = 0

        def supervise() -> None:
            nonlocal deaths
            while not over.wait(0.1):
                for one in workers:
                    if not one.alive:
                        deaths += 1
                        one.restart()

        thread = threading.Thread(target=supervise, daemon=True)
        thread.start()
        try:
            poison = fleet.client.send("ops", "poison")
            others = [fleet.client.send(name, f"number {n}") for n in range(20) for name in ("ops", "dev")]
            (dead,) = fleet.wait_for_end(poison, within_s=60)
            statuses = fleet.wait_for_end(*others, within_s=60)
        finally:
            over.set()
            thread.join()

        figure(f"a poison job took {deaths} workers down, then it was dead")
        assert dead.state == "dead"
        assert dead.reason == "took its worker down 3 times"
        assert deaths == 3
        assert_all_delivered(statuses)


def test_five_hundred_cancels_race_with_sends(space: Space, figure: Figure) -> None:
    with Fleet(lanes(space, {name: [name] for name in LANES}, limit=1000), oapi_url=space.oapi_url) as fleet:
        fleet.workers(2)
        space.fault("slow", delay_s=0.02, probability=1.0)
        job_ids = fleet.client.send_many(
            {"destination": LANES[number % 10], "text": f"number {number}"} for number in range(500)
        )
        order = random.Random(1).sample(job_ids, 500)

        answers = {}
        for job_id in order:
            answers[job_id] = fleet.client.cancel(job_id)
            pass_s(0.003)  # about as fast as they are sent
        statuses = {status.job_id: status.state for status in fleet.wait_for_end(*job_ids, within_s=60)}

        arrived = set(copies(arrivals(space)))
        cancelled = {job_id for job_id, answer in answers.items() if answer == "cancelled"}
        figure(f"500 cancels racing: {len(cancelled)} cancelled, {len(arrived)} delivered")
        assert len(cancelled) + len(arrived) == 500
        assert not cancelled & arrived
        assert all(statuses[job_id] == ("cancelled" if job_id in cancelled else "delivered") for job_id in job_ids)
        assert cancelled
        assert arrived
        assert_books_balance(fleet)
