"""Inputs that broke other systems, end to end; each test is named after what others did wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dingqueue_worker.sandbox.client import Sandbox, Space
from support.fleet import Fleet
from support.load import arrivals, assert_all_delivered, assert_in_order, assert_never_over, copies, lanes
from support.waiting import wait_for


def test_the_rest_over_twenty_does_not_vanish(space: Space) -> None:
    """B07: 45 jobs to one robot, four worker processes."""
    with Fleet(lanes(space, {"a": ["a"]}), oapi_url=space.oapi_url) as fleet:
        fleet.workers(4)

        job_ids = [fleet.client.send("a", f"number {n}") for n in range(45)]

        assert_all_delivered(fleet.wait_for_end(*job_ids))
        assert [one.uuid for one in space.messages(state="any")] == job_ids
        assert_never_over(space)


def test_waiting_for_the_limit_spends_no_attempt(space: Space) -> None:
    """B09: three attempts at most, five windows of waiting."""
    config = lanes(space, {"a": ["a"]}, window_s=1.5) + "max_attempts = 3\n"
    with Fleet(config, oapi_url=space.oapi_url) as fleet:
        fleet.workers(2)

        job_ids = fleet.client.send_many({"destination": "a", "text": f"number {n}"} for n in range(100))

        statuses = fleet.wait_for_end(*job_ids)
        assert_all_delivered(statuses)
        assert {status.attempts for status in statuses} == {1}


def test_a_pool_of_robots_keeps_each_limit_and_the_order(space: Space) -> None:
    """B11: three robots, fifty jobs: none over its own twenty, all in order, no waiting."""
    with Fleet(lanes(space, {"ops": ["r1", "r2", "r3"]}, window_s=60.0), oapi_url=space.oapi_url) as fleet:
        fleet.workers(3)

        job_ids = fleet.client.send_many({"destination": "ops", "text": f"number {n}"} for n in range(50))

        assert_all_delivered(fleet.wait_for_end(*job_ids))
        came = arrivals(space)
        assert_never_over(space)
        assert_in_order(came, {"ops": job_ids})
        assert len(came) == 50
        assert {one.robot for one in came} == {"r1", "r2", "r3"}


def test_a_wait_longer_than_any_visibility_timeout_is_one_message(space: Space) -> None:
    """B13: nothing waits in Celery, so nothing comes back from it; three workers, a quick lease."""
    with Fleet(lanes(space, {"a": ["a"]}), oapi_url=space.oapi_url) as fleet:
        fleet.workers(3)
        at = datetime.now(UTC) + timedelta(seconds=8)  # eight of this fleet's call leases

        job_id = fleet.client.send("a", "once", at=at)

        (status,) = fleet.wait_for_end(job_id)
        assert status.state == "delivered"
        assert [one.uuid for one in space.messages(state="any")] == [job_id]


@pytest.mark.parametrize("doubles", ["suppress", "show"])
def test_an_answer_lost_after_the_message_was_taken(sandbox: Sandbox, doubles: str) -> None:
    """B15: the same msgUuid on each attempt; unknown in between; ``hold`` never sends twice."""
    space = sandbox.namespace(doubles=doubles)
    with Fleet(lanes(space, {"a": ["a"], "b": ["b"]}), oapi_url=space.oapi_url) as fleet:
        fleet.workers(2)
        space.fault("slow", delay_s=3.0, times=2, sender="a")
        space.fault("slow", delay_s=3.0, times=1, sender="b")

        again = fleet.client.send("a", "again")
        held = fleet.client.send("b", "held", on_unknown="hold")

        (resent, dead) = fleet.wait_for_end(again, held, within_s=40)
        assert (resent.state, resent.unknowns) == ("delivered", 2)
        assert (dead.state, dead.unknowns) == ("dead", 1)
        came = space.messages(state="any", robot="a")
        assert {one.uuid for one in came} == {again}
        assert len([one for one in came if one.state == "accepted"]) == (1 if doubles == "suppress" else 3)
        assert len(space.messages(state="any", robot="b")) == 1


def test_a_repeat_is_known_by_destination_and_key_alone(space: Space) -> None:
    """B17: four pairs are four messages; without a key the same text is as many messages as calls."""
    with Fleet(lanes(space, {"a": ["a"], "b": ["b"]}), oapi_url=space.oapi_url) as fleet:
        fleet.workers(1)

        pairs = [fleet.client.send(name, "x", key=key) for name in ("a", "b") for key in ("k1", "k2") for _ in range(3)]
        same = [fleet.client.send("a", "the same text") for _ in range(2)]

        fleet.wait_for_end(*pairs, *same)
        assert len(set(pairs)) == 4
        assert len(set(same)) == 2
        assert sum(copies(arrivals(space)).values()) == 6


def test_five_thousand_for_later_do_not_hold_up_the_one_for_now(space: Space) -> None:
    """B69: and nothing of them is in Celery."""
    with Fleet(lanes(space, {"a": ["a"]}), oapi_url=space.oapi_url) as fleet:
        (worker,) = fleet.workers(1)
        before = worker.rss_bytes()
        later = datetime.now(UTC) + timedelta(hours=1)
        fleet.client.send_many({"destination": "a", "text": f"in an hour {n}", "at": later} for n in range(5000))

        urgent = fleet.client.send("a", "now", urgent=True)

        (status,) = fleet.wait_for_end(urgent, within_s=3)
        assert status.state == "delivered"
        assert worker.rss_bytes() - before < 20e6
        wait_for(lambda: len(space.messages()) == 1)
