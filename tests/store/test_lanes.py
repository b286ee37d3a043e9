"""The scripts on a real server: windows, order, grants, leases, closings, steps."""

from __future__ import annotations

import itertools

import pytest

from dingqueue.lanes import Call, Full, Repeat, UnknownDestination
from dingqueue_worker.outcome import (
    EVERY_SENDER,
    Close,
    Dead,
    Delivered,
    Ended,
    Retry,
    Snooze,
    Unknown,
)
from dingqueue_worker.store import Settled, Stale
from support.state import CALL_LEASE_MS, LEASE_MS, State, lane, sender

TOO_FAST = Ended(
    outcome=Snooze(
        why="130101 send too fast", cause="too_fast", close=Close(cause="cooldown", why="130101 send too fast")
    )
)
RETRY = Ended(outcome=Retry(why="500", cause="server"))
NOT_SENT = Ended(outcome=Retry(why="connection refused", cause="not_sent", sent=False))
UNKNOWN = Ended(outcome=Unknown(why="no answer", cause="unanswered"))
DEAD = Ended(outcome=Dead(why="400402 no title", cause="content"))
FAULT = Ended(
    outcome=Snooze(why="300005 token", cause="robot_gone", close=Close(cause="fault", why="300005 token is not exist"))
)


@pytest.fixture
def ops(state: State) -> State:
    state.pace({"ops": lane("robot.ops")}, {"robot.ops": sender(limit=3, window_ms=10_000)})
    return state


def test_a_job_that_may_go_is_called_at_the_door(ops: State) -> None:
    job_id, calls = ops.submit()

    assert [call.job_id for call in calls] == [job_id]
    assert ops.state_of(job_id) == "called"


def test_a_lane_sends_one_at_a_time_and_keeps_the_order(ops: State) -> None:
    ids = []
    first_id, calls = ops.submit()
    ids = [first_id] + [ops.submit()[0] for _ in range(2)]

    seen = []
    while calls:
        assert len(calls) == 1
        seen.append(calls[0].job_id)
        calls = ops.deliver(calls[0]).calls

    assert seen == ids


def test_a_full_window_sends_nothing_until_the_first_permit_ends(ops: State) -> None:
    _, calls = ops.submit()
    rest = [ops.submit()[0] for _ in range(4)]
    for _ in range(2):
        calls = ops.deliver(calls[0]).calls
    settled = ops.deliver(calls[0])

    assert settled.calls == ()
    assert settled.next_look_ms == 10_000
    ops.clock.pass_ms(9_999)
    assert ops.release() == ()
    ops.clock.pass_ms(1)
    assert [call.job_id for call in ops.release()] == [rest[2]]


def test_a_permit_counts_from_the_answer_not_from_the_question(ops: State) -> None:
    _, calls = ops.submit()
    ops.submit(), ops.submit(), ops.submit()
    ops.start(calls[0])
    ops.clock.pass_ms(8_000)  # DingTalk is slow
    calls = ops.settle(calls[0]).calls
    calls = ops.deliver(calls[0]).calls
    ops.deliver(calls[0])

    ops.clock.pass_ms(9_999)
    assert ops.release() == ()
    ops.clock.pass_ms(1)
    assert len(ops.release()) == 1


def test_a_request_that_never_left_gives_its_permit_back(ops: State) -> None:
    _, calls = ops.submit()
    for _ in range(10):
        ops.start(calls[0])
        assert isinstance(ops.settle(calls[0], NOT_SENT, wait_s=1, most=100), Settled)
        ops.clock.pass_ms(1_000)
        calls = ops.release()
        assert len(calls) == 1


def test_the_same_id_twice_is_one_job(ops: State) -> None:
    job = ops.job(job_id="same")
    ops.submit(job=job)

    assert ops.lanes.submit(job) == Repeat(state="called")
    assert ops.store.counts()["accepted:send:ops"] == 1


def test_the_door_says_full(state: State) -> None:
    state.pace({"ops": lane("robot.ops", max_waiting=2)}, {"robot.ops": sender(limit=1)})
    for _ in range(3):
        state.submit()  # one is called, two wait

    assert state.lanes.submit(state.job()) == Full(waiting=2)


def test_an_unknown_destination_is_refused_with_the_known_ones(ops: State) -> None:
    assert ops.lanes.submit(ops.job("opps")) == UnknownDestination(known=("ops",))


def test_before_any_worker_jobs_are_accepted_and_wait(state: State) -> None:
    job_id, calls = state.submit("ops")
    assert calls == ()
    assert state.state_of(job_id) == "waiting"

    state.pace({"ops": lane("robot.ops")}, {"robot.ops": sender()})
    assert [call.job_id for call in state.release()] == [job_id]


def test_urgent_passes_all_that_wait(ops: State) -> None:
    _, calls = ops.submit()
    for _ in range(5):
        ops.submit()
    urgent_id, _ = ops.submit(urgent=True)

    assert [call.job_id for call in ops.deliver(calls[0]).calls] == [urgent_id]


def test_a_reserve_is_for_urgent_jobs_alone(state: State) -> None:
    state.pace({"ops": lane("robot.ops")}, {"robot.ops": sender(limit=3, reserve=1)})
    _, calls = state.submit()
    for _ in range(4):
        state.submit()
    calls = state.deliver(calls[0]).calls
    assert state.deliver(calls[0]).calls == ()

    urgent_id, calls = state.submit(urgent=True)
    assert [call.job_id for call in calls] == [urgent_id]


def test_a_grant_that_is_not_the_current_one_starts_nothing(ops: State) -> None:
    _, calls = ops.submit()
    ops.clock.pass_ms(CALL_LEASE_MS)
    again = ops.release()
    assert again[0].grant == calls[0].grant + 1

    assert isinstance(ops.store.start(calls[0].job_id, calls[0].grant, lease_ms=LEASE_MS), Stale)
    ops.start(again[0])
    assert isinstance(ops.store.start(again[0].job_id, again[0].grant, lease_ms=LEASE_MS), Stale)


def test_a_lost_call_is_made_again_later_and_later(ops: State) -> None:
    ops.submit()

    for wait_ms in (5_000, 10_000, 20_000, 40_000):
        ops.clock.pass_ms(wait_ms - 1)
        assert ops.release() == ()
        ops.clock.pass_ms(1)
        assert len(ops.release()) == 1
    assert ops.redis.zcard(ops.key("sender:robot.ops:10000")) == 1  # the lost calls hold no permits


def test_a_worker_lost_in_mid_attempt_makes_it_unknown_and_its_permit_counts(ops: State) -> None:
    job_id, calls = ops.submit()
    ops.start(calls[0])
    ops.clock.pass_ms(LEASE_MS)

    again = ops.release()

    assert [call.job_id for call in again] == [job_id]
    status = ops.lanes.status(job_id)
    assert status is not None
    assert (status.unknowns, status.attempts) == (1, 1)
    assert ops.redis.zcard(ops.key("sender:robot.ops:10000")) == 2


def test_hold_keeps_an_unknown_attempt_for_a_person(ops: State) -> None:
    job_id, calls = ops.submit(on_unknown="hold")
    ops.start(calls[0])
    ops.settle(calls[0], UNKNOWN)

    assert ops.state_of(job_id) == "dead"
    letter = ops.store.dead_letter(job_id)
    assert letter is not None
    assert (letter.cause, letter.reason) == ("unknown", "no answer")
    assert letter.job is not None


def test_a_lost_worker_obeys_hold_too(ops: State) -> None:
    job_id, calls = ops.submit(on_unknown="hold")
    ops.start(calls[0])
    ops.clock.pass_ms(LEASE_MS)
    ops.release()

    assert ops.state_of(job_id) == "dead"


def test_a_poison_job_is_dead_after_max_deliveries(ops: State) -> None:
    job_id, calls = ops.submit()
    for _ in range(5):
        ops.start(calls[0])
        ops.clock.pass_ms(LEASE_MS + 10_000)
        calls = ops.release(max_deliveries=5, max_attempts=100)

    letter = ops.store.dead_letter(job_id)
    assert letter is not None
    assert letter.cause == "poison"
    assert "5 times" in letter.reason


def test_a_late_delivered_is_news_and_ends_the_job(ops: State) -> None:
    job_id, calls = ops.submit()
    ops.start(calls[0])
    ops.clock.pass_ms(LEASE_MS)
    again = ops.release()

    ops.settle(calls[0])  # the old attempt wakes up: DingTalk had said yes

    assert ops.state_of(job_id) == "delivered"
    assert isinstance(ops.store.start(job_id, again[0].grant, lease_ms=LEASE_MS), Stale)


@pytest.mark.parametrize("late", [TOO_FAST, RETRY, UNKNOWN, DEAD])
def test_any_other_late_answer_changes_nothing(ops: State, late: Ended) -> None:
    job_id, calls = ops.submit()
    ops.start(calls[0])
    ops.clock.pass_ms(LEASE_MS)
    again = ops.release()

    assert isinstance(ops.settle(calls[0], late), Stale)

    assert ops.state_of(job_id) == "called"
    ops.deliver(again[0])
    assert ops.state_of(job_id) == "delivered"


def test_a_retry_waits_its_back_off_and_lets_others_pass(ops: State) -> None:
    first_id, calls = ops.submit()
    second_id, _ = ops.submit()
    ops.start(calls[0])

    settled = ops.settle(calls[0], RETRY, wait_s=4)
    assert [call.job_id for call in settled.calls] == [second_id]
    ops.deliver(settled.calls[0])
    ops.clock.pass_ms(3_999)
    assert ops.release() == ()
    ops.clock.pass_ms(1)
    assert [call.job_id for call in ops.release()] == [first_id]


def test_attempts_end_in_a_dead_letter(ops: State) -> None:
    job_id, calls = ops.submit()
    for _ in range(3):
        ops.start(calls[0])
        ops.settle(calls[0], RETRY, wait_s=20, most=3)
        ops.clock.pass_ms(20_000)
        calls = ops.release()

    letter = ops.store.dead_letter(job_id)
    assert letter is not None
    assert letter.attempts == 3


def test_waiting_for_the_limit_spends_no_attempt(ops: State) -> None:
    _, calls = ops.submit()
    ids = [ops.submit()[0] for _ in range(20)]
    while ops.state_of(ids[-1]) != "delivered":
        for call in calls:
            calls = ops.deliver(call).calls
        if not calls:
            ops.clock.pass_ms(1_000)
            calls = ops.release()

    status = ops.lanes.status(ids[-1])
    assert status is not None
    assert status.attempts == 1


def test_too_fast_rests_the_robot_for_everybody_and_the_first_after_it_is_a_probe(ops: State) -> None:
    first_id, calls = ops.submit()
    ops.submit(), ops.submit()
    ops.start(calls[0])
    assert ops.settle(calls[0], TOO_FAST).calls == ()
    ops.clock.pass_ms(599_999)
    assert ops.release() == ()

    ops.clock.pass_ms(1)
    probe = ops.release()
    assert [call.job_id for call in probe] == [first_id]  # its place is kept
    assert len(ops.deliver(probe[0]).calls) == 1


def test_beside_a_probe_nothing_leaves(state: State) -> None:
    state.pace(
        {name: lane("robot.r", in_flight=4) for name in ("a", "b")},
        {"robot.r": sender(limit=10, window_ms=1_000, shared=True)},
    )
    _, calls = state.submit("a")
    state.start(calls[0])
    state.settle(calls[0], TOO_FAST)
    others = [state.submit(name)[0] for name in "abab"]
    state.clock.pass_ms(600_000)

    probe = state.release()
    assert len(probe) == 1
    state.start(probe[0])
    assert state.release() == ()
    settled = state.settle(probe[0])
    rest = [*settled.calls, *state.release()]
    assert {call.job_id for call in rest} == {*others, calls[0].job_id} - {probe[0].job_id}


def test_a_probe_that_is_refused_closes_again(ops: State) -> None:
    _, calls = ops.submit()
    ops.start(calls[0])
    ops.settle(calls[0], TOO_FAST)
    ops.clock.pass_ms(600_000)
    probe = ops.release()
    ops.start(probe[0])
    ops.settle(probe[0], TOO_FAST)

    ops.clock.pass_ms(599_999)
    assert ops.release() == ()
    ops.clock.pass_ms(1)
    assert len(ops.release()) == 1


def test_a_job_called_before_the_mute_is_not_sent_into_it(state: State) -> None:
    state.pace({"a": lane("robot.r", in_flight=2)}, {"robot.r": sender(limit=10)})
    _, first = state.submit("a")
    _, second = state.submit("a")
    state.start(first[0])
    state.settle(first[0], TOO_FAST)

    stale = state.store.start(second[0].job_id, second[0].grant, lease_ms=LEASE_MS)

    assert isinstance(stale, Stale)
    assert stale.state == "closed"
    assert state.state_of(second[0].job_id) == "waiting"


def test_a_ban_rests_every_sender(state: State) -> None:
    state.pace({"a": lane("robot.a"), "b": lane("robot.b")}, {"robot.a": sender(), "robot.b": sender()})
    _, calls = state.submit("a")
    state.start(calls[0])
    ban = Close(cause="ban", why="our address is blocked", for_s=300, sender=EVERY_SENDER)
    state.settle(calls[0], Ended(outcome=Snooze(why="blocked", cause="ban", close=ban)))

    assert state.submit("b")[1] == ()
    state.clock.pass_ms(299_999)
    assert state.release() == ()
    state.clock.pass_ms(1)
    assert {call.destination for call in state.release()} == {"a", "b"}


def test_busy_closes_for_a_second_without_a_probe(state: State) -> None:
    state.pace({"a": lane("robot.r", in_flight=3)}, {"robot.r": sender(limit=10)})
    _, calls = state.submit("a")
    state.start(calls[0])
    busy = Ended(outcome=Snooze(why="90018", cause="qps", close=Close(cause="busy", why="90018", for_s=1)))
    state.settle(calls[0], busy)
    state.submit("a"), state.submit("a")
    state.clock.pass_ms(1_000)

    assert len(state.release()) == 3


def test_two_faults_break_a_sender_and_tell_it_once(ops: State) -> None:
    job_id, calls = ops.submit()
    events = []
    for _ in range(4):
        ops.start(calls[0])
        events.append([happened.name for happened in ops.settle(calls[0], FAULT).events])
        ops.clock.pass_ms(600_000)
        calls = ops.release()

    assert events == [[], ["broken"], [], []]
    assert ops.state_of(job_id) == "called"  # the job waits, it is not dead


def test_a_changed_configuration_earns_a_broken_sender_its_probe_at_once(ops: State) -> None:
    _, calls = ops.submit()
    for pause_ms in (2_000, 0):
        ops.start(calls[0])
        ops.settle(calls[0], FAULT)
        ops.clock.pass_ms(pause_ms)
        calls = ops.release() or calls
    assert ops.release() == ()

    ops.pace({"ops": lane("robot.ops")}, {"robot.ops": sender(limit=3, window_ms=10_000, mark="m2")})
    ops.clock.pass_ms(1)

    assert len(ops.release()) == 1


def test_a_scheduled_job_waits_for_its_time(ops: State) -> None:
    from datetime import UTC, datetime

    at = datetime.fromtimestamp((ops.clock.now_ms + 3 * 86_400_000) / 1000, UTC)
    job_id, calls = ops.submit(at=at)
    assert calls == ()

    ops.clock.pass_ms(3 * 86_400_000 - 1)
    assert ops.release() == ()
    ops.clock.pass_ms(1)
    assert [call.job_id for call in ops.release()] == [job_id]


def test_what_is_too_old_is_not_sent_and_says_so(ops: State) -> None:
    first_id, calls = ops.submit()
    late_id, _ = ops.submit(expires_s=5)
    good_id, _ = ops.submit()
    ops.start(calls[0])
    ops.clock.pass_ms(5_000)

    assert [call.job_id for call in ops.settle(calls[0]).calls] == [good_id]
    assert ops.state_of(late_id) == "expired"
    assert ops.state_of(first_id) == "delivered"


def test_expiry_does_not_wait_for_a_closed_sender(ops: State) -> None:
    _, calls = ops.submit()
    late_id, _ = ops.submit(expires_s=5)
    ops.start(calls[0])
    ops.settle(calls[0], TOO_FAST)
    ops.clock.pass_ms(5_000)
    ops.release()

    assert ops.state_of(late_id) == "expired"


def test_a_job_called_in_time_and_started_too_late_is_not_sent(ops: State) -> None:
    job_id, calls = ops.submit(expires_s=2)
    ops.clock.pass_ms(2_000)

    stale = ops.store.start(job_id, calls[0].grant, lease_ms=LEASE_MS)

    assert isinstance(stale, Stale)
    assert ops.state_of(job_id) == "expired"
    assert ops.redis.zcard(ops.key("sender:robot.ops:10000")) == 0


def test_steps_take_a_permit_each_and_stay_first_in_their_lane(ops: State) -> None:
    first_id, calls = ops.submit()
    ops.submit(urgent=True)
    steps = []
    for step in range(3):
        started = ops.start(calls[0])
        steps.append((calls[0].job_id, started.step))
        receipt = {"request_id": f"r{step}"}
        settled = ops.settle(calls[0], Ended(outcome=Delivered(receipt=receipt), steps=3), step=step)
        calls = settled.calls

    assert steps == [(first_id, 0), (first_id, 1), (first_id, 2)]
    status = ops.lanes.status(first_id)
    assert status is not None
    assert status.receipt == {"1.request_id": "r0", "2.request_id": "r1", "3.request_id": "r2"}
    assert ops.state_of(first_id) == "delivered"
    assert calls == ()  # three permits are spent
    assert ops.redis.zcard(ops.key("sender:robot.ops:10000")) == 3


def test_a_failed_step_keeps_the_lane_to_itself_until_its_retry(ops: State) -> None:
    first_id, calls = ops.submit()
    ops.submit(urgent=True)
    ops.start(calls[0])
    calls = ops.settle(calls[0], Ended(outcome=Delivered(), steps=2)).calls
    ops.start(calls[0])

    assert ops.settle(calls[0], Ended(outcome=Retry(why="500", cause="server"), steps=2), step=1, wait_s=4).calls == ()
    ops.clock.pass_ms(3_999)
    assert ops.release() == ()
    ops.clock.pass_ms(1)
    calls = ops.release()
    assert [call.job_id for call in calls] == [first_id]
    assert ops.start(calls[0]).step == 1


def test_a_pool_uses_each_of_its_robots_to_its_own_limit(state: State) -> None:
    state.pace({"ops": lane("robot.a", "robot.b", "robot.c")}, {f"robot.{name}": sender(limit=20) for name in "abc"})
    _, calls = state.submit()
    for _ in range(79):
        state.submit()
    used: list[str] = []
    while calls:
        used.append(state.start(calls[0]).sender)
        calls = state.settle(calls[0]).calls

    assert {name: used.count(name) for name in set(used)} == {"robot.a": 20, "robot.b": 20, "robot.c": 20}


def test_lanes_that_share_a_robot_take_turns(state: State) -> None:
    state.pace(
        {name: lane("robot.r") for name in ("a", "b", "c")}, {"robot.r": sender(limit=4, window_ms=10_000, shared=True)}
    )
    queue: list[Call] = []
    for name in "aaaaaaaaaaaabbbbccccc":
        queue += state.submit(name)[1]
    served: list[str] = []
    for _ in range(120):
        while queue:
            call = queue.pop(0)
            served.append(call.destination)
            queue += state.deliver(call).calls
        state.clock.pass_ms(500)
        queue += state.release()

    assert len(served) == 21
    first = served[:12]
    assert all(first.count(name) >= 3 for name in "abc"), served


def test_several_windows_hold_together(state: State) -> None:
    pace = sender(limit=100, window_ms=60_000)
    pace["windows"] = [[100, 60_000], [2, 1_000]]
    state.pace({"a": lane("app.x", in_flight=50)}, {"app.x": pace})
    calls = [call for _ in range(6) for call in state.submit("a")[1]]
    assert len(calls) == 2
    for call in calls:
        state.deliver(call)

    state.clock.pass_ms(1_000)
    assert len(state.release()) == 2


def test_a_monthly_quota_waits_for_the_next_month_in_beijing(state: State) -> None:
    from datetime import datetime, timedelta, timezone

    beijing = timezone(timedelta(hours=8))
    state.clock.now_ms = int(datetime(2026, 12, 31, 23, 59, tzinfo=beijing).timestamp() * 1000)
    state.pace({"a": lane("robot.q")}, {"robot.q": sender(limit=100, window_ms=1_000, month=2)})
    _, calls = state.submit("a")
    last_id = [state.submit("a")[0] for _ in range(2)][-1]
    while calls:
        calls = state.deliver(calls[0]).calls
    assert state.state_of(last_id) == "waiting"

    state.clock.pass_ms(59_999)
    assert state.release() == ()
    state.clock.pass_ms(1)
    assert [call.job_id for call in state.release()] == [last_id]


def test_cancel_ends_what_is_not_at_dingtalk_yet(ops: State) -> None:
    called_id, calls = ops.submit()
    waiting_id, _ = ops.submit()

    assert ops.lanes.cancel(waiting_id)[0] == "cancelled"
    assert ops.lanes.cancel(called_id)[0] == "cancelled"
    assert isinstance(ops.store.start(called_id, calls[0].grant, lease_ms=LEASE_MS), Stale)
    assert ops.redis.zcard(ops.key("sender:robot.ops:10000")) == 0
    assert ops.lanes.cancel("nobody")[0] == "gone"


def test_cancel_is_too_late_once_it_is_being_sent(ops: State) -> None:
    job_id, calls = ops.submit()
    ops.start(calls[0])

    assert ops.lanes.cancel(job_id)[0] == "sending"


def test_cancelling_a_called_job_calls_the_next(ops: State) -> None:
    called_id, _ = ops.submit()
    next_id, _ = ops.submit()

    assert [call.job_id for call in ops.lanes.cancel(called_id)[1]] == [next_id]


def test_replay_puts_a_dead_job_back_at_its_place(ops: State) -> None:
    dead_id, calls = ops.submit()
    ops.start(calls[0])
    ops.settle(calls[0], DEAD)
    _, calls = ops.submit()
    ops.submit()

    assert ops.store.replay(dead_id, expires_s=3600, by="test") == ("waiting", ())
    assert list(ops.store.dead()) == []
    assert [call.job_id for call in ops.deliver(calls[0]).calls] == [dead_id]  # its number is older


def test_drop_forgets_a_dead_job(ops: State) -> None:
    dead_id, calls = ops.submit()
    ops.start(calls[0])
    ops.settle(calls[0], DEAD)

    assert ops.store.drop(dead_id) == "dropped"
    assert ops.lanes.status(dead_id) is None
    assert ops.store.drop(dead_id) == "gone"


def test_when_redis_lost_its_memory_lanes_rest_one_window(ops: State) -> None:
    ops.submit()
    for key in ops.redis.scan_iter(f"{ops.prefix}*"):
        ops.redis.delete(key)

    assert ops.store.release(most=10, max_deliveries=5, max_attempts=8).memory == ""
    assert ops.pace({"ops": lane("robot.ops")}, {"robot.ops": sender(limit=3, window_ms=10_000)})
    job_id, calls = ops.submit()
    assert calls == ()
    ops.clock.pass_ms(9_999)
    assert ops.release() == ()
    ops.clock.pass_ms(1)
    assert [call.job_id for call in ops.release()] == [job_id]


def test_status_tells_the_place_and_about_when(ops: State) -> None:
    _, calls = ops.submit()
    ids = [ops.submit()[0] for _ in range(8)]
    while calls:
        calls = ops.deliver(calls[0]).calls

    status = ops.lanes.status(ids[-1])

    assert status is not None
    assert status.place == 5
    assert status.expected_at is not None
    # three at 10 s, three at 20 s
    assert status.expected_at.timestamp() * 1000 == pytest.approx(ops.clock.now_ms + 20_000)


def test_every_key_that_is_not_a_waiting_job_expires(ops: State) -> None:
    _, calls = ops.submit()
    ops.start(calls[0])
    ops.settle(calls[0], TOO_FAST)
    ops.clock.pass_ms(600_000)
    for call in ops.release():
        ops.deliver(call)
    dead_id, calls = ops.submit()
    ops.start(calls[0])
    ops.settle(calls[0], DEAD)
    ops.release()

    lasting = {key for key in ops.redis.scan_iter(f"{ops.prefix}*") if ops.redis.ttl(key) == -1}

    assert lasting == set()
    assert ops.state_of(dead_id) == "dead"


def test_the_server_clock_never_goes_back(state: State, valkey: object) -> None:
    state.redis.set(state.key("clock"), str(2_000_000_000_000))  # 2033: far ahead, a new truth
    state.pace({"ops": lane("robot.ops")}, {"robot.ops": sender()})
    now_s, _ = state.redis.time()
    near_ms = now_s * 1000 + 30_000
    state.redis.set(state.key("clock"), str(near_ms))
    unfrozen = State(f"redis://127.0.0.1:{valkey.port}/0", state.prefix)  # type: ignore[attr-defined]  # a fixture's type

    script = unfrozen.lanes
    script._status._clock_ms = None  # the server's own clock
    script._submit._clock_ms = None
    job_id, _ = unfrozen.submit()

    status = script.status(job_id)
    assert status is not None
    assert status.submitted_at.timestamp() * 1000 == near_ms


def test_ids_of_many_lanes_do_not_meet(state: State) -> None:
    names = [f"lane-{number}" for number in range(50)]
    state.pace({name: lane(f"robot.{name}") for name in names}, {f"robot.{name}": sender(limit=1) for name in names})
    for name, _ in itertools.product(names, range(2)):
        state.submit(name)

    assert state.redis.zcard(state.key("due")) == 50


def test_a_replayed_job_has_all_its_attempts_again(ops: State) -> None:
    job_id, calls = ops.submit()
    ops.start(calls[0])
    assert ops.settle(calls[0], Ended(outcome=Retry(why="500", cause="server")), most=1).state == "dead"

    _, (call,) = ops.store.replay(job_id, expires_s=60, by="me")
    ops.start(call)

    assert ops.settle(call, Ended(outcome=Retry(why="500", cause="server")), most=2, wait_s=1).state == "waiting"


def test_what_has_begun_is_brought_to_its_end_however_late(ops: State) -> None:
    job_id, calls = ops.submit(expires_s=60)
    ops.start(calls[0])
    rest = Retry(why="500", cause="server")
    calls = ops.settle(calls[0], Ended(outcome=Delivered(), steps=2), step=0).calls
    ops.start(calls[0])
    ops.settle(calls[0], Ended(outcome=rest, steps=2), step=1, wait_s=30)

    ops.clock.pass_ms(120_000)
    (call,) = ops.release()

    assert call.job_id == job_id
    assert ops.start(call).step == 1
