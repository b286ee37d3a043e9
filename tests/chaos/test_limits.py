"""The limit of each robot, whatever happens to those who keep it. Real processes, DingTalk counts."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest
import redis

from dingqueue_worker.sandbox.client import Space
from support.figures import Figure
from support.fleet import Fleet
from support.load import (
    arrivals,
    assert_all_delivered,
    assert_books_balance,
    assert_in_order,
    assert_never_over,
    copies,
    lanes,
)
from support.waiting import wait_for

pytestmark = pytest.mark.chaos


def submit(fleet: Fleet, each: dict[str, int]) -> dict[str, list[str]]:
    """So many jobs for each destination, all at once, round the lanes; their ids by destination."""
    rows = sorted((number, name) for name, count in each.items() for number in range(count))
    job_ids = fleet.client.send_many({"destination": name, "text": f"{name} {number}"} for number, name in rows)
    found: dict[str, list[str]] = {name: [] for name in each}
    for (_, name), job_id in zip(rows, job_ids, strict=True):
        found[name].append(job_id)
    return found


@pytest.mark.alone
@pytest.mark.timeout(240)
def test_six_robots_four_workers_six_hundred_jobs(space: Space, figure: Figure) -> None:
    destinations = {"pool": ["p1", "p2"], "a": ["a"], "b": ["b"], "c": ["c"], "d": ["d"]}
    with Fleet(lanes(space, destinations), oapi_url=space.oapi_url) as fleet:
        fleet.workers(4)

        jobs = submit(fleet, {"pool": 200, "a": 100, "b": 100, "c": 100, "d": 100})
        statuses = fleet.wait_for_end(*(job_id for ids in jobs.values() for job_id in ids), within_s=60)

        assert_all_delivered(statuses)
        came = arrivals(space)
        assert_never_over(space)
        assert_in_order(came, jobs)
        assert set(copies(came).values()) == {1}
        assert_books_balance(fleet)
        # A robot's permit comes back 3 s after its answer: the message 80 places later may go 12 s later, at best.
        paces = []
        for name in {one.robot for one in came}:
            times = [one.at_ms / 1000 for one in came if one.robot == name]
            paces += [12 / (later - earlier) for earlier, later in zip(times, times[80:], strict=False)]
        took_s = (came[-1].at_ms - came[0].at_ms) / 1000
        figure(
            f"600 jobs, 6 robots at 20 in 3 s: {statistics.median(paces):.1%} of the lawful pace, "
            f"worst {min(paces):.1%}; {took_s:.2f} s in all, where the limit itself takes 12 s"
        )
        assert statistics.median(paces) >= 0.95


def test_the_permits_are_wiped_three_times(space: Space, figure: Figure) -> None:
    destinations = {"a": ["a"], "b": ["b"], "c": ["c"]}
    with Fleet(lanes(space, destinations), oapi_url=space.oapi_url) as fleet:
        fleet.workers(2)
        jobs = submit(fleet, dict.fromkeys(destinations, 100))
        raw = redis.Redis.from_url(fleet.server.url)

        for wipe in range(1, 4):
            wait_for(lambda wipe=wipe: len(arrivals(space)) >= 60 * wipe, within_s=30)  # type: ignore[misc]
            raw.delete(*raw.scan_iter("dq:{dq}:sender:*:3000"))
        statuses = fleet.wait_for_end(*(job_id for ids in jobs.values() for job_id in ids), within_s=90)

        assert_all_delivered(statuses)
        came, stats = arrivals(space), space.stats()
        refused = {name: robot["refused"] for name, robot in stats["robots"].items()}
        figure(f"300 jobs, 3 lanes, permits wiped 3 times: refused {refused}")
        assert max(refused.values()) <= 3, "at most one refusal for each lane and wipe"
        assert_in_order(came, jobs)
        assert set(copies(came).values()) == {1}


def test_a_server_that_lost_its_memory_rests_one_window(space: Space) -> None:
    with Fleet(lanes(space, {"a": ["a"]}), oapi_url=space.oapi_url) as fleet:
        fleet.workers(2)
        submit(fleet, {"a": 20})
        space.messages(count=20)

        redis.Redis.from_url(fleet.server.url).flushall()
        # The pace comes back within a second, and with it the rest of one window.
        wait_for(lambda: fleet.store.overview()[1], what="the pace")
        jobs = submit(fleet, {"a": 20})
        statuses = fleet.wait_for_end(*jobs["a"], within_s=30)

        assert_all_delivered(statuses)
        assert_never_over(space)


def test_a_worker_whose_clock_is_an_hour_off(space: Space) -> None:
    destinations = {"a": ["a"], "b": ["b"]}
    skewed = {"PYTHONPATH": str(Path(__file__).parents[1] / "support" / "skewed"), "SKEW_S": "3600"}
    with Fleet(lanes(space, destinations), oapi_url=space.oapi_url) as fleet:
        for worker in (fleet.worker(), fleet.worker(env=skewed), fleet.worker(env=skewed | {"SKEW_S": "-3600"})):
            worker.wait_until_says("ready.")

        jobs = submit(fleet, {"a": 60, "b": 60})
        statuses = fleet.wait_for_end(*jobs["a"], *jobs["b"], within_s=40)

        assert_all_delivered(statuses)
        assert_never_over(space)
        assert_in_order(arrivals(space), jobs)
        hours = {line[:13] for worker in fleet.processes for line in worker.log().splitlines() if line.startswith("20")}
        assert len(hours) >= 3, f"their clocks are not the same: {hours}"


def test_all_workers_stopped_then_started(space: Space) -> None:
    with Fleet(lanes(space, {"a": ["a"], "b": ["b"]}), oapi_url=space.oapi_url) as fleet:
        (first,) = fleet.workers(1)
        first.terminate()
        good = submit(fleet, {"a": 50, "b": 50})
        late = fleet.client.send_many(
            {"destination": name, "text": "not worth it later", "expires_s": 0.5}
            for name in ("a", "b")
            for _ in range(50)
        )
        began_s = time.monotonic()
        wait_for(lambda: time.monotonic() - began_s > 0.6)

        fleet.workers(2)
        statuses = fleet.wait_for_end(*good["a"], *good["b"], within_s=40)

        assert_all_delivered(statuses)
        expired = fleet.wait_for_end(*late)
        assert {status.state for status in expired} == {"expired"}
        assert {status.reason for status in expired} == {"not sent in time"}
        assert len(arrivals(space)) == 100
        assert_never_over(space)
        assert_in_order(arrivals(space), good)
        assert_books_balance(fleet)


def test_two_beats_then_none(space: Space) -> None:
    """B19."""
    with Fleet(lanes(space, {"a": ["a"]}), oapi_url=space.oapi_url) as fleet:
        worker = fleet.worker(loglevel="DEBUG")
        worker.wait_until_says("ready.")
        beats = [fleet.beat(loglevel="DEBUG"), fleet.beat(loglevel="DEBUG")]
        wait_for(lambda: worker.log().count("Task dingqueue.prune") >= 4, within_s=30, what="both beats' ticks")
        jobs = submit(fleet, {"a": 40})
        beats[0].kill()
        beats[1].kill()

        more = submit(fleet, {"a": 20})
        statuses = fleet.wait_for_end(*jobs["a"], *more["a"], within_s=30)

        assert_all_delivered(statuses)
        assert set(copies(arrivals(space)).values()) == {1}
        assert_never_over(space)


def test_an_urgent_job_passes_a_hundred_thousand(space: Space, figure: Figure) -> None:
    with Fleet(lanes(space, {"a": ["a"]}, window_s=60.0), oapi_url=space.oapi_url) as fleet:
        (worker,) = fleet.workers(1)
        before = worker.rss_bytes()
        fleet.client.send_many({"destination": "a", "text": f"number {n} of a backlog"} for n in range(20))
        space.messages(count=20)
        raw = redis.Redis.from_url(fleet.server.url)
        empty = raw.info("memory")["used_memory"]

        for part in range(10):
            fleet.client.send_many(
                {"destination": "a", "text": f"number {part * 10_000 + n} of a backlog"} for n in range(10_000)
            )
        each = (raw.info("memory")["used_memory"] - empty) / 100_000
        urgent = fleet.client.send("a", "database down", urgent=True)
        status = fleet.status(urgent)
        grown = worker.rss_bytes() - before

        figure(f"100,000 waiting: {each:.0f} bytes each in the server, the worker grew by {grown / 1e6:.1f} MB")
        assert status.place == 0
        assert each < 1_000
        assert grown < 20e6
