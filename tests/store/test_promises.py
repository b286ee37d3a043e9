"""What `status` promises, and what then happens: each job is called about when it was told, each lane gets its share."""

from __future__ import annotations

import heapq
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from dingqueue.lanes import Call
from support.state import State, lane, sender

#: An answer takes so long here.
ANSWERS_MS = 100


def slow(*windows: tuple[int, int], **more: Any) -> dict[str, Any]:
    return sender(shared=True) | {"windows": [list(window) for window in windows]} | more


class Fleet:
    """Workers whose every answer takes ``ANSWERS_MS``; remembers when each job was called."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.called_ms: dict[str, int] = {}
        self._out: list[tuple[int, int, Call]] = []

    def hear(self, calls: tuple[Call, ...]) -> None:
        for call in calls:
            self.called_ms[call.job_id] = self.state.clock.now_ms
            self.state.start(call)
            heapq.heappush(self._out, (self.state.clock.now_ms + ANSWERS_MS, len(self.called_ms), call))

    def work(self, for_ms: int) -> None:
        """Let time pass, from one thing that happens to the next."""
        clock = self.state.clock
        end_ms = clock.now_ms + for_ms
        while clock.now_ms < end_ms:
            released = self.state.store.release(most=200, max_deliveries=5, max_attempts=8)
            self.hear(released.calls)
            looks_ms = end_ms if released.next_look_ms is None else clock.now_ms + released.next_look_ms
            clock.now_ms = min(looks_ms, end_ms, *(at_ms for at_ms, *_ in self._out))
            while self._out and self._out[0][0] <= clock.now_ms:
                self.hear(self.state.settle(heapq.heappop(self._out)[2]).calls)


SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one robot": ({"a": lane("robot.r")}, {"robot.r": sender(5, 10_000)}),
    "a pool of unequal robots": (
        {"a": lane("robot.r", "robot.s")},
        {"robot.r": sender(2, 5_000), "robot.s": sender(3, 7_000)},
    ),
    "a reserve for urgent jobs": ({"a": lane("robot.r")}, {"robot.r": sender(5, 10_000, reserve=3)}),
    "three lanes at one robot": (
        {name: lane("robot.r") for name in "abc"},
        {"robot.r": sender(5, 10_000, shared=True)},
    ),
    "two windows": ({"a": lane("app.x", in_flight=8)}, {"app.x": slow((20, 1_000), (15, 60_000))}),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_job_goes_about_when_it_was_told(state: State, setting: str) -> None:
    lanes, senders = SETTINGS[setting]
    state.pace(lanes, senders)
    fleet = Fleet(state)
    for _ in range(40):
        for name in lanes:
            fleet.hear(state.submit(name)[1])
    fleet.work(15_000)
    told: dict[str, float] = {}
    for name in lanes:
        for job_id in map(str, state.redis.zrange(state.key(f"lane:{name}"), 0, -1)):
            status = state.lanes.status(job_id)
            assert status is not None
            assert status.expected_at is not None
            told[job_id] = status.expected_at.timestamp() * 1000
    began_ms = state.clock.now_ms

    fleet.work(600_000)

    # The forecast knows nothing of how long answers take; whose turn it is may shift a job by a window.
    slack_ms = 10_000 if len(lanes) > 1 else 2_000
    assert len(told) > 15
    for job_id, expected_ms in told.items():
        waited_ms = fleet.called_ms[job_id] - began_ms
        assert abs(fleet.called_ms[job_id] - expected_ms) <= 0.15 * waited_ms + slack_ms, (job_id, waited_ms)


def test_lanes_at_one_robot_get_the_same_share(state: State) -> None:
    lanes = {name: lane("robot.r") for name in "abc"}
    state.pace(lanes, {"robot.r": sender(5, 10_000, shared=True)})
    fleet = Fleet(state)
    for _ in range(60):
        for name in lanes:
            fleet.hear(state.submit(name)[1])

    fleet.work(200_000)

    waiting = [state.redis.zcard(state.key(f"lane:{name}")) for name in lanes]
    assert 60 < sum(waiting) < 85
    assert max(waiting) - min(waiting) <= 2, waiting


def test_a_months_quota_that_is_used_up_is_told(state: State) -> None:
    beijing = timezone(timedelta(hours=8))
    state.clock.now_ms = int(datetime(2026, 12, 20, tzinfo=beijing).timestamp() * 1000)
    state.pace({"a": lane("robot.q")}, {"robot.q": sender(month=1)})
    state.deliver(state.submit("a")[1][0])
    waits, _ = state.submit("a", expires_s=30 * 86_400)

    status = state.lanes.status(waits)

    assert status is not None
    assert status.expected_at == datetime(2027, 1, 1, tzinfo=beijing)
    assert status.reason == "robot.q is closed: the month's quota is used up"


def test_a_lane_that_collects_sends_all_at_the_end_of_its_rest(state: State) -> None:
    state.pace({"a": lane("robot.q", digest_ms=6_000)}, {"robot.q": sender()})
    state.deliver(state.submit("a")[1][0])
    waits = [state.submit("a")[0] for _ in range(100)][-1]

    status = state.lanes.status(waits)

    assert status is not None
    assert status.expected_at == datetime.fromtimestamp((state.clock.now_ms + 6_000) / 1000, UTC)
