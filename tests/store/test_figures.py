"""The fleet in numbers, as the scripts count it on a real server."""

from __future__ import annotations

import pytest

from dingqueue_worker.outcome import Close, Dead, Delivered, Ended, Retry, Snooze, Unknown
from dingqueue_worker.store import Fetch, Quota, Settled
from support.state import State, lane, sender


@pytest.fixture
def ops(state: State) -> State:
    state.pace({"ops": lane("robot.ops")}, {"robot.ops": sender(2, 60_000)})
    return state


def own_ms(state: State) -> int:
    return state.store.counts()["own_ms:ops"]


def latency_ms(state: State) -> int:
    return state.store.counts()["latency_ms:ops"]


def test_a_job_that_goes_at_once_takes_only_our_own_time(ops: State) -> None:
    _, (call,) = ops.submit()
    ops.clock.pass_ms(40)
    ops.start(call)
    ops.clock.pass_ms(160)

    ops.settle(call)

    assert (latency_ms(ops), own_ms(ops)) == (200, 200)
    assert ops.store.counts()["own:ops:500"] == 1


def test_waiting_for_the_limit_is_not_our_own_time(ops: State) -> None:
    for _ in range(2):
        _, (call,) = ops.submit()
        ops.deliver(call)
    ops.submit()
    ops.clock.pass_ms(60_000)
    (call,) = ops.release()

    ops.deliver(call)

    assert latency_ms(ops) == 60_000
    assert own_ms(ops) == 0


def test_looking_late_is_our_own_time(ops: State) -> None:
    for _ in range(2):
        _, (call,) = ops.submit()
        ops.deliver(call)
    ops.submit()
    ops.clock.pass_ms(60_000 + 700)
    (call,) = ops.release()

    ops.deliver(call)

    assert own_ms(ops) == 700


def test_a_call_that_was_lost_is_our_own_time(ops: State) -> None:
    ops.submit()
    ops.clock.pass_ms(5_001)
    (again,) = ops.release()
    ops.clock.pass_ms(99)

    ops.deliver(again)

    assert (latency_ms(ops), own_ms(ops)) == (5_100, 5_100)


def test_back_off_and_cool_down_are_not_our_own_time(ops: State) -> None:
    _, (call,) = ops.submit()
    ops.start(call)
    ops.clock.pass_ms(300)
    ops.settle(call, Ended(outcome=Retry(why="500", cause="server")), wait_s=20)
    ops.clock.pass_ms(20_000)
    (call,) = ops.release()
    ops.start(call)
    ops.clock.pass_ms(100)
    close = Close(cause="cooldown", why="too fast", for_s=600)
    ops.settle(call, Ended(outcome=Snooze(why="too fast", cause="too_fast", close=close)))
    ops.clock.pass_ms(600_000)
    (call,) = ops.release()
    ops.start(call)
    ops.clock.pass_ms(50)

    ops.settle(call)

    assert own_ms(ops) == 450
    assert latency_ms(ops) == 620_450


def test_steps_of_one_job_are_one_observation(ops: State) -> None:
    _, (call,) = ops.submit()
    for step in (0, 1):
        ops.start(call)
        ops.clock.pass_ms(200)
        settled = ops.settle(call, Ended(outcome=Delivered(), steps=2), step=step)
        assert isinstance(settled, Settled)
        call = settled.calls[0] if settled.calls else call

    assert own_ms(ops) == 400
    assert ops.store.counts()["own:ops:500"] == 1


def test_an_urgent_job_is_not_blamed_for_a_look_that_was_due_before_it_came(ops: State) -> None:
    for _ in range(2):
        _, (call,) = ops.submit()
        ops.deliver(call)
    ops.submit()
    ops.clock.pass_ms(63_000)
    _, (call, *_) = ops.submit(urgent=True)

    ops.deliver(call)

    assert own_ms(ops) == 0


def test_a_replayed_job_is_late_only_since_its_replay(ops: State) -> None:
    job_id, (call,) = ops.submit()
    ops.start(call)
    ops.settle(call, Ended(outcome=Dead(why="bad", cause="content")))
    ops.clock.pass_ms(7_000_000)
    _, (call,) = ops.store.replay(job_id, expires_s=3_600, by="me")
    ops.clock.pass_ms(250)

    ops.deliver(call)

    assert latency_ms(ops) == 250


def test_asking_for_work_is_a_sign_of_life(ops: State) -> None:
    ops.store.release(most=10, max_deliveries=5, max_attempts=8, who="worker:a:1")
    ops.store.sign("beat:a:2")
    began_ms = ops.clock.now_ms
    ops.clock.pass_ms(86_400_001)
    ops.store.sign("beat:a:3")

    assert ops.store.figures().alive == {"beat:a:3": began_ms + 86_400_001}


def test_figures_of_a_fleet_at_work(ops: State) -> None:
    _, (call,) = ops.submit()
    ops.deliver(call)
    _, (call,) = ops.submit()
    ops.start(call)
    ops.settle(call, Ended(outcome=Unknown(why="no answer", cause="unanswered")), wait_s=30)
    ops.submit(at=None)
    ops.submit()

    figures = ops.store.figures()

    assert figures.scheduled == 1
    assert figures.open_jobs == 3
    assert figures.counts["attempts:ops:unknown:unanswered"] == 1
    (found,) = figures.lanes
    assert (found.waiting, found.out) == (2, 0)
    assert figures.senders["robot.ops"].limit == 2
    assert figures.memory.used_bytes > 0


def test_the_oldest_job_is_found_behind_younger_urgent_ones(ops: State) -> None:
    for _ in range(2):
        _, (call,) = ops.submit()
        ops.deliver(call)
    began_ms = ops.clock.now_ms
    ops.submit()
    ops.clock.pass_ms(5_000)
    ops.submit(urgent=True)

    (found,) = ops.store.figures().lanes

    assert found.oldest_ms == began_ms


def test_the_month_of_a_quota_is_beijings(state: State) -> None:
    state.pace({"ops": lane("robot.ops")}, {"robot.ops": sender(20, 60_000, month=5_000)})
    _, (call,) = state.submit()
    state.deliver(call)

    # The server's own clock decides which month `figures` reads; tests of the scripts have their own.
    assert state.store.figures().quotas["robot.ops"].limit == 5_000


def test_a_token_is_seen_without_the_token(state: State) -> None:
    leave = state.store.token_ask("acme", "m1", lease_ms=20_000, eager=False)
    assert isinstance(leave, Fetch)
    state.store.token_keep("acme", "m1", leave.lease, "planted", refresh_ms=1, late_ms=2, usable_ms=7_000)
    figures = state.store.figures()

    assert figures.token_ends_ms == {"acme": state.clock.now_ms + 7_000}
    assert figures.counts["tokens:acme:fetched"] == 1
    assert "planted" not in repr(figures)

    state.store.token_drop("acme", "m1", leave.lease)
    assert state.store.figures().token_ends_ms == {"acme": 0}


def test_an_apps_interfaces_share_a_month(state: State) -> None:
    shared = {"quota": "organisation.acme.api", "month": 10_000}
    state.pace(
        {"ops": lane("app.acme.todo")}, {"app.acme.todo": sender() | shared, "app.acme": sender() | {"windows": []}}
    )

    assert state.store.figures().quotas == {"organisation.acme.api": Quota(used=0, limit=10_000)}


def test_an_empty_server_has_figures_too(state: State) -> None:
    figures = state.store.figures()

    assert (figures.lanes, figures.open_jobs, figures.dead, figures.alive) == ((), 0, 0, {})
    assert state.store.queue_length("dingqueue") == 0


def test_the_queue_is_counted_over_its_priorities(state: State) -> None:
    for name in ("q", "q\x06\x163", "q\x06\x169"):
        state.redis.rpush(f"{state.prefix}{name}", "x")

    assert state.store.queue_length(f"{state.prefix}q") == 3


# How the lanes stand


def test_what_is_not_idle_is_found_among_many_lanes_with_few_questions(state: State) -> None:
    names = [f"lane{number:04d}" for number in range(2_000)]
    robots = [f"robot.{name}" for name in names]
    state.clock.now_ms = int(state.redis.time()[0]) * 1000
    state.pace(
        {name: lane(robot) for name, robot in zip(names, robots, strict=True)},
        {robot: sender(5, 60_000) for robot in robots},
    )
    out, waits, paused, shut = names[70], names[700], names[1_100], names[1_900]
    state.submit(out)
    state.submit(waits)
    state.clock.pass_ms(1_000)
    old_ms = state.clock.now_ms
    state.submit(waits)
    state.clock.pass_ms(1_000)
    state.submit(waits, urgent=True)
    state.store.hold(paused, for_s=600, why="moving house")
    _, (call,) = state.submit(shut)
    state.start(call)
    close = Close(cause="cooldown", why="muted", for_s=600)
    state.settle(call, Ended(outcome=Dead(why="bad", cause="content", close=close)))
    state.redis.config_resetstat()

    _, views = state.store.overview()

    asked = sum(int(one["calls"]) for one in state.redis.info("commandstats").values())
    assert asked < len(names) / 2, f"{asked} commands"
    found = {view.destination: view for view in views}
    assert list(found) == names
    assert {name for name, view in found.items() if view.out} == {out, waits}
    assert {name: view.waiting for name, view in found.items() if view.waiting} == {waits: 2}
    assert found[waits].oldest_ms == old_ms, "the urgent one stands before it, and came later"
    assert {name: view.held_why for name, view in found.items() if view.held_until_ms} == {paused: "moving house"}
    assert {name for name, view in found.items() if view.shut} == {shut}
    assert [view.destination for view in views if view.senders[0].used] == [out, waits, shut]

    assert state.store.overview([waits, "nobody", paused])[1] == [found[waits], found[paused]]
    assert state.store.known() == names


def test_a_lane_that_left_the_configuration_is_shown_by_its_name_too(state: State) -> None:
    state.pace({"old": lane("robot.r")}, {"robot.r": sender(1)})
    for _ in range(2):
        state.submit("old")
    state.pace({"new": lane("robot.r")}, {"robot.r": sender(1)})

    (view,) = state.store.overview(["old"])[1]

    assert (view.destination, view.waiting, view.senders) == ("old", 1, ())
    assert state.store.known() == ["new", "old"]
    assert [one.destination for one in state.store.overview()[1]] == ["new", "old"]
