"""What a script reads once and writes once, on a real server: the shortcuts of call.lua hold where they are taken."""

from __future__ import annotations

import pytest

from dingqueue_worker.outcome import Close, Delivered, Ended, Retry, Snooze
from dingqueue_worker.store import Settled, Store
from support.state import LEASE_MS, State, lane, sender

BUSY = Ended(outcome=Snooze(why="busy", cause="qps", close=Close(cause="busy", why="busy", for_s=1)))
RETRY = Ended(outcome=Retry(why="500", cause="server"))


@pytest.fixture
def ops(state: State) -> State:
    state.pace({"ops": lane("robot.ops")}, {"robot.ops": sender(limit=3, window_ms=10_000)})
    return state


def test_a_window_never_holds_more_than_its_limit(ops: State) -> None:
    key = ops.key("sender:robot.ops:10000")
    for _ in range(10):
        ops.deliver(ops.submit()[1][0])
        assert ops.redis.zcard(key) <= 3
        ops.clock.pass_ms(4_000)

    assert int(ops.redis.pttl(key)) >= 10_000


def test_a_robot_whose_permits_have_ended_is_the_emptier_one(state: State) -> None:
    state.pace(
        {"pool": lane("robot.a", "robot.b", in_flight=9), "a": lane("robot.a", in_flight=9), "b": lane("robot.b")},
        {name: sender(limit=9, window_ms=10_000) for name in ("robot.a", "robot.b")},
    )
    for _ in range(4):
        state.deliver(state.submit("a")[1][0])
    state.clock.pass_ms(10_000)
    state.deliver(state.submit("b")[1][0])

    _, (call,) = state.submit("pool")

    assert state.start(call).sender == "robot.a"


def test_a_late_yes_for_a_job_that_waits_again_takes_it_from_its_lane(ops: State) -> None:
    _, (first,) = ops.submit()
    second, _ = ops.submit(urgent=True)
    ops.start(first)
    ops.clock.pass_ms(LEASE_MS)
    ops.release()  # the urgent one is called, the other waits
    assert ops.state_of(first.job_id) == "waiting"

    ops.settle(first)

    assert ops.redis.zscore(ops.key("lane:ops"), first.job_id) is None
    assert ops.state_of(second) == "called"


def test_a_late_yes_for_a_job_in_its_back_off_takes_it_from_there(ops: State) -> None:
    _, (first,) = ops.submit()
    ops.start(first)
    ops.clock.pass_ms(LEASE_MS)
    (again,) = ops.release()
    ops.start(again)
    ops.settle(again, RETRY, wait_s=60)
    assert ops.redis.zcard(ops.key("later")) == 1

    ops.settle(first)

    assert ops.redis.zcard(ops.key("later")) == 0
    assert ops.state_of(first.job_id) == "delivered"


def test_a_lane_looks_again_when_the_first_of_all_that_are_out_comes_back(state: State) -> None:
    state.pace({"ops": lane("robot.ops", in_flight=2)}, {"robot.ops": sender(limit=9)})
    (first,), (second,) = state.submit()[1], state.submit()[1]
    state.start(first, lease_ms=2_000)
    state.start(second)
    state.submit(), state.submit()

    settled = state.settle(second)  # one is called in its place, with a lease of five seconds; one waits

    assert len(settled.calls) == 1
    assert state.redis.zscore(state.key("due"), "ops") == state.clock.now_ms + 2_000


def test_the_answer_tells_the_state_that_the_job_came_to(ops: State) -> None:
    def settled(ended: Ended, *, step: int = 0) -> str:
        _, (call,) = ops.submit()
        ops.start(call)
        found = ops.settle(call, ended, step=step, wait_s=5)
        assert isinstance(found, Settled)
        assert found.state == ops.state_of(call.job_id)
        return found.state

    assert settled(Ended(outcome=Delivered())) == "delivered"
    assert settled(RETRY) == "waiting"
    ops.clock.pass_ms(20_000)
    for call in ops.release():
        ops.deliver(call)
    assert settled(Ended(outcome=Delivered(), steps=2)) == "called"


def test_what_closed_for_a_moment_is_forgotten_at_its_end_and_names_no_probe(state: State) -> None:
    state.pace({"a": lane("robot.r", in_flight=3)}, {"robot.r": sender(limit=9)})
    _, (call,) = state.submit("a")
    state.start(call)
    state.settle(call, BUSY)
    state.submit("a")
    state.clock.pass_ms(1_000)

    assert len(state.release()) == 2
    assert not state.redis.exists(state.key("sender:robot.r:closed"))


def test_a_short_step_back_of_the_clock_is_not_seen_nor_forgotten(state: State) -> None:
    ahead_ms = state.store.now_ms() + 30_000
    state.redis.set(state.key("clock"), ahead_ms)
    on_time = Store(state.url, prefix=state.prefix)

    for _ in range(3):
        on_time.sign("worker:here:1")
        assert int(state.redis.get(state.key("clock")) or 0) == ahead_ms
    assert state.redis.zscore(state.key("alive"), "worker:here:1") == ahead_ms
    assert 0 < int(state.redis.pttl(state.key("clock"))) <= 86_400_000
    on_time.close()


def test_counters_grow_by_one_for_each_job_that_arrives(ops: State) -> None:
    for _ in range(3):
        ops.deliver(ops.submit()[1][0])
        ops.clock.pass_ms(10_000)

    counts = ops.store.counts()
    names = ("ended:send:ops:delivered", "attempts:ops:delivered:ok", "latency:ops:500", "own:ops:500")
    assert [counts[name] for name in names] == [3, 3, 3, 3]
    assert counts["latency_ms:ops"] == counts["own_ms:ops"] == 0
