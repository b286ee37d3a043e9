"""Where two rules of the lanes meet: pauses and steps, urgency and turns, probes and cancels, changes of the pace."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from dingqueue.contract import Mention, SendJob, Text
from dingqueue.lanes import Call
from dingqueue_worker.outcome import Close, Dead, Delivered, Ended, Retry, Snooze, Unknown
from dingqueue_worker.store import Fetch, Settled, Stale, Store
from support.state import LEASE_MS, State, lane, sender
from support.waiting import pass_s

TOO_FAST = Ended(outcome=Snooze(why="too fast", cause="too_fast", close=Close(cause="cooldown", why="too fast")))
BUSY = Ended(outcome=Snooze(why="90018", cause="qps", close=Close(cause="busy", why="90018", for_s=1)))
RETRY = Ended(outcome=Retry(why="500", cause="server"), steps=2)
NOT_SENT = Ended(outcome=Retry(why="connection refused", cause="not_sent", sent=False))
UNKNOWN = Ended(outcome=Unknown(why="no answer", cause="unanswered"))
DEAD = Ended(outcome=Dead(why="400402 no title", cause="content"), steps=2)
FIRST_OF_TWO = Ended(outcome=Delivered(), steps=2)


@pytest.fixture
def ops(state: State) -> State:
    state.pace({"ops": lane("robot.ops")}, {"robot.ops": sender(limit=10, window_ms=10_000)})
    return state


def calls_of(settled: Settled | Stale) -> tuple[Call, ...]:
    assert isinstance(settled, Settled)
    return settled.calls


# --- Pauses and steps ---------------------------------------------------------------------------------------------


def test_a_step_that_waits_for_its_retry_does_not_end_a_pause(ops: State) -> None:
    _, calls = ops.submit()
    ops.start(calls[0])
    calls = calls_of(ops.settle(calls[0], FIRST_OF_TWO))
    ops.start(calls[0])
    ops.store.hold("ops", for_s=3_600, why="paused by alice")

    ops.settle(calls[0], RETRY, step=1, wait_s=2)

    ops.clock.pass_ms(3_599_999)
    assert ops.release() == ()
    ops.clock.pass_ms(1)
    assert len(ops.release()) == 1


def test_resuming_a_lane_does_not_shorten_a_back_off(ops: State) -> None:
    _, calls = ops.submit()
    ops.start(calls[0])
    calls = calls_of(ops.settle(calls[0], FIRST_OF_TWO))
    ops.start(calls[0])
    ops.settle(calls[0], RETRY, step=1, wait_s=60)
    ops.store.hold("ops", for_s=3_600, why="paused by alice")

    assert ops.store.hold("ops", for_s=0, why="")[1] == ()

    ops.clock.pass_ms(59_999)
    assert ops.release() == ()
    ops.clock.pass_ms(1)
    assert len(ops.release()) == 1


def test_a_shorter_pause_takes_the_place_of_a_longer_one(ops: State) -> None:
    ops.store.hold("ops", for_s=3_600, why="paused by alice")
    ops.submit()
    ops.release()

    ops.store.hold("ops", for_s=60, why="paused by bob")

    ops.clock.pass_ms(60_000)
    assert len(ops.release()) == 1


def test_jobs_replayed_in_mid_steps_do_not_mix_their_parts(ops: State) -> None:
    for name in ("b", "a"):  # ids against the order of submission
        _, calls = ops.submit(job_id=name)
        ops.start(calls[0])
        calls = calls_of(ops.settle(calls[0], Ended(outcome=Delivered(), steps=3)))
        ops.start(calls[0])
        ops.settle(calls[0], DEAD, step=1)
    calls = ops.store.replay("b", expires_s=60, by="test")[1]
    ops.store.replay("a", expires_s=60, by="test")

    said = []
    while calls:
        started = ops.start(calls[0])
        said.append((calls[0].job_id, started.step))
        calls = calls_of(ops.settle(calls[0], Ended(outcome=Delivered(), steps=3), step=started.step))

    assert said == [("b", 1), ("b", 2), ("a", 1), ("a", 2)]


# --- Urgency and turns --------------------------------------------------------------------------------------------


@pytest.fixture
def shared(state: State) -> State:
    state.pace({name: lane("robot.r") for name in "abcde"}, {"robot.r": sender(limit=3, window_ms=10_000, shared=True)})
    return state


def test_an_urgent_job_passes_the_turns_of_the_lanes_before_its_own(shared: State) -> None:
    for _ in range(3):
        _, calls = shared.submit("a")
        shared.clock.pass_ms(1_000)
        shared.deliver(calls[0])
    for name in "abcde":
        shared.submit(name)
    urgent_id, _ = shared.submit("e", urgent=True)

    shared.clock.pass_ms(8_000)  # one permit is free

    assert [call.job_id for call in shared.release()] == [urgent_id]


def test_who_waits_for_a_shared_robot_is_looked_at_when_an_answer_frees_it_sooner(shared: State) -> None:
    calls = [shared.submit(name)[1][0] for name in "abc"]
    shared.submit("d")
    for call in calls:
        shared.start(call)
    shared.clock.pass_ms(1_000)

    for call in calls:
        shared.settle(call)

    shared.clock.pass_ms(9_999)
    assert shared.release() == ()
    shared.clock.pass_ms(1)
    assert len(shared.release()) == 1


def test_urgent_jobs_of_several_lanes_go_in_the_order_they_came(shared: State) -> None:
    for _ in range(3):
        _, calls = shared.submit("a")
        shared.clock.pass_ms(1_000)
        shared.deliver(calls[0])
    waits, _ = shared.submit("a")
    urgent = [shared.submit(name, urgent=True)[0] for name in "edcb"]

    served: list[str] = []
    for _ in range(20):
        shared.clock.pass_ms(1_000)
        queue = list(shared.release())
        while queue:
            call = queue.pop(0)
            served.append(call.job_id)
            queue += shared.deliver(call).calls

    assert served == [*urgent, waits]


# --- Lanes with routes that share a robot ---------------------------------------------------------------------------


def routed(*, ring: bool = True) -> dict[str, Any]:
    routes: dict[str, Any] = {"group": {"senders": ["app.acme.group"]}}
    if ring:
        routes["webhook"] = {"senders": ["robot.r"], "in_flight": 1}
    return lane(*(one for route in routes.values() for one in route["senders"]), in_flight=4) | {
        "routes": routes,
        "first": {"send": "group", "ring": "webhook" if ring else "group"},
    }


SENDERS: dict[str, Any] = {
    "robot.r": sender(limit=1, window_ms=10_000, shared=True),
    "app.acme.group": sender(limit=1, window_ms=60_000),
}


def ringing(state: State, destination: str) -> SendJob:
    rung = Mention(user_ids=("u1",))
    return SendJob(job_id=state.job().job_id, destination=destination, content=Text(text="come"), mention=rung)


def test_a_lane_with_nothing_left_for_a_shared_robot_gives_up_its_turn(state: State) -> None:
    state.pace({"one": routed(), "two": routed()}, SENDERS)
    _, (first,) = state.submit(job=ringing(state, "one"))
    state.deliver(first)
    for _ in range(2):
        for call in state.submit("one")[1]:  # the app's window is full now, and one more waits for it
            state.deliver(call)
    waits, _ = state.submit(job=ringing(state, "one"))
    state.lanes.cancel(waits)
    state.clock.pass_ms(10_000)
    state.release()

    assert len(state.submit(job=ringing(state, "two"))[1]) == 1


def test_a_destination_that_left_the_configuration_gives_up_its_turn(state: State) -> None:
    robot = {"robot.r": sender(limit=1, window_ms=10_000, shared=True)}
    state.pace({"old": lane("robot.r"), "new": lane("robot.r")}, robot)
    state.deliver(state.submit("new")[1][0])
    state.submit("old")  # waits, and has a turn
    state.pace({"new": lane("robot.r")}, robot)
    state.clock.pass_ms(86_400_000)
    state.release()
    assert state.redis.exists(state.key("lane:old")) == 0

    assert len(state.submit("new")[1]) == 1


def test_a_pace_that_changes_while_a_job_is_out_leaves_no_route_full(state: State) -> None:
    state.pace({"one": routed()}, SENDERS)
    _, (call,) = state.submit(job=ringing(state, "one"))
    state.start(call)
    state.pace({"one": lane("robot.r")}, SENDERS)
    state.settle(call)
    state.pace({"one": routed()}, SENDERS)
    state.clock.pass_ms(LEASE_MS + 60_000)

    assert state.redis.exists(state.key("busy:one/webhook")) == 0
    assert len(state.submit(job=ringing(state, "one"))[1]) == 1


# --- Probes ---------------------------------------------------------------------------------------------------------


def muted(ops: State) -> tuple[Call, ...]:
    """The probe after a mute."""
    _, calls = ops.submit()
    ops.submit()
    ops.start(calls[0])
    ops.settle(calls[0], TOO_FAST)
    ops.clock.pass_ms(600_000)
    return ops.release()


def test_a_probe_that_is_cancelled_leaves_the_next_job_to_be_the_probe(ops: State) -> None:
    (probe,) = muted(ops)

    assert len(ops.lanes.cancel(probe.job_id)[1]) == 1


def test_a_busy_answer_does_not_take_the_probe_from_a_mute(state: State) -> None:
    state.pace({"a": lane("robot.r", in_flight=3)}, {"robot.r": sender(limit=10, window_ms=1_000)})
    calls = [state.submit("a")[1][0] for _ in range(2)]
    for call in calls:
        state.start(call)
    state.settle(calls[0], TOO_FAST)
    state.settle(calls[1], BUSY)
    state.clock.pass_ms(599_999)
    assert state.release() == ()
    state.clock.pass_ms(1)

    assert len(state.release()) == 1, "one job finds out"


# --- Ends that come late --------------------------------------------------------------------------------------------


def test_a_step_that_arrived_after_all_wakes_its_dead_job_for_good(ops: State) -> None:
    job_id, calls = ops.submit(on_unknown="hold")
    ops.start(calls[0])
    ops.clock.pass_ms(LEASE_MS)
    ops.release()
    assert ops.state_of(job_id) == "dead"

    calls = ops.settle(calls[0], FIRST_OF_TWO).calls

    assert [call.job_id for call in calls] == [job_id]
    assert ops.redis.ttl(ops.key(f"job:{job_id}")) == ops.redis.ttl(ops.key(f"body:{job_id}")) == -1
    status = ops.lanes.status(job_id)
    assert status is not None
    assert status.ended_at is None


@pytest.mark.parametrize("most", [1, 5])
def test_a_late_yes_is_news_however_the_job_was_given_up(ops: State, most: int) -> None:
    job_id, calls = ops.submit()
    first = calls[0]
    for _ in range(most):
        ops.start(calls[0])
        ops.clock.pass_ms(LEASE_MS)
        calls = ops.release(max_attempts=most if most == 1 else 8, max_deliveries=5)
    assert ops.state_of(job_id) == "dead"

    ops.settle(first)

    assert ops.state_of(job_id) == "delivered"
    assert ops.store.dead_count() == 0


def test_what_expired_after_an_attempt_nobody_saw_end_may_still_have_arrived(ops: State) -> None:
    job_id, calls = ops.submit(expires_s=10)
    ops.start(calls[0])
    ops.clock.pass_ms(LEASE_MS)
    ops.release()
    assert ops.state_of(job_id) == "expired"

    ops.settle(calls[0])

    assert ops.state_of(job_id) == "delivered"
    counts = ops.store.counts()
    ended = sum(n for field, n in counts.items() if field.startswith("ended:"))
    assert counts["accepted:send:ops"] + counts["replayed"] == ended


def test_what_grew_too_old_while_it_was_out_does_not_wait_for_its_back_off(ops: State) -> None:
    late_id, calls = ops.submit(expires_s=5)
    ops.start(calls[0])
    ops.clock.pass_ms(6_000)
    ops.release()
    ops.settle(calls[0], RETRY, wait_s=300)
    assert ops.state_of(late_id) == "waiting"

    ops.clock.pass_ms(LEASE_MS)
    ops.release()

    assert ops.state_of(late_id) == "expired"


def test_a_death_in_a_forgotten_destination_keeps_all_dead_letters(ops: State) -> None:
    _, calls = ops.submit()
    ops.start(calls[0])
    ops.pace({"other": lane("robot.ops")}, {"robot.ops": sender()})
    _, (other,) = ops.submit("other")
    ops.start(other)
    ops.settle(other, DEAD)

    ops.settle(calls[0], DEAD)

    assert int(ops.redis.pttl(ops.key("dead"))) > 29 * 86_400_000
    assert int(ops.redis.pttl(ops.key(f"job:{calls[0].job_id}"))) > 29 * 86_400_000


# --- Clocks and calendars ---------------------------------------------------------------------------------------------


def test_a_permit_given_back_in_the_next_month_leaves_that_month_alone(state: State) -> None:
    beijing = timezone(timedelta(hours=8))
    state.clock.now_ms = int(datetime(2026, 12, 31, 23, 59, 59, tzinfo=beijing).timestamp() * 1000)
    state.pace({"a": lane("robot.q")}, {"robot.q": sender(month=100)})
    _, (call,) = state.submit("a")
    state.start(call)
    state.clock.pass_ms(2_000)

    state.settle(call, NOT_SENT, wait_s=5)

    assert state.redis.get(state.key("sender:robot.q:202701")) in {None, "0"}
    assert state.redis.get(state.key("sender:robot.q:202612")) == "0"


@pytest.fixture
def ahead(state: State) -> State:
    """A fleet that has worked by a clock an hour ahead; its scripts go by the server's from `set_right` on."""
    state.clock.now_ms = state.store.now_ms() + 3_600_000
    state.pace(
        {"ops": lane("robot.ops"), "muted": lane("robot.muted")},
        {"robot.ops": sender(limit=2, window_ms=2_000), "robot.muted": sender(window_ms=1_000)},
    )
    return state


def set_right(state: State) -> Callable[[float], list[Call]]:
    """The server's clock goes back to the truth; what is called within some seconds from then on."""
    state.redis.set(state.key("clock"), state.clock.now_ms)
    on_time = Store(state.url, prefix=state.prefix)
    began_s = time.monotonic()

    def called_within(seconds: float) -> list[Call]:
        found: list[Call] = []
        while time.monotonic() < began_s + seconds:
            found += on_time.release(most=200, max_deliveries=5, max_attempts=8).calls
            pass_s(0.05)
        return found

    return called_within


def test_a_clock_that_goes_back_an_hour_stops_nothing_and_frees_nothing(ahead: State) -> None:
    for _ in range(2):
        ahead.deliver(ahead.submit()[1][0])
    waits, calls = ahead.submit()
    assert calls == ()

    called_within = set_right(ahead)

    assert called_within(1.5) == [], "the permits count on"
    assert [call.job_id for call in called_within(4.0)] == [waits]


def test_leases_back_offs_and_mutes_last_no_longer_for_a_clock_that_goes_back(ahead: State) -> None:
    lost, _ = ahead.submit()  # its message is lost: a lease of 5 s
    failed, calls = ahead.submit("muted")
    ahead.start(calls[0])
    ahead.settle(calls[0], Ended(outcome=Retry(why="500", cause="server")), wait_s=2)
    mute = Close(cause="cooldown", why="too fast", for_s=3)
    muted, calls = ahead.submit("muted")
    ahead.start(calls[0])
    ahead.settle(calls[0], Ended(outcome=Snooze(why="too fast", cause="too_fast", close=mute)))

    called_within = set_right(ahead)

    assert {call.job_id for call in called_within(8.0)} >= {lost, failed}
    assert ahead.redis.zscore(ahead.key("due"), "muted") is not None  # the other waits for the probe's end
    assert muted


def test_a_token_is_fetched_at_once_where_the_clock_went_back(state: State) -> None:
    fetch = state.store.token_ask("acme", "m1", lease_ms=15_000, eager=False)
    assert isinstance(fetch, Fetch)
    state.clock.pass_ms(-3_600_000)
    again = state.store.token_ask("acme", "m1", lease_ms=15_000, eager=False)
    assert isinstance(again, Fetch), "whoever had the lease has it for an hour by this clock"

    state.store.token_fail("acme", "m1", again.lease, why="wrong secret", bad=False, rest_ms=600_000, jitter=0.5)
    assert not isinstance(state.store.token_ask("acme", "m1", lease_ms=15_000, eager=False), Fetch)
    state.clock.pass_ms(-3_600_000)
    assert isinstance(state.store.token_ask("acme", "m1", lease_ms=15_000, eager=False), Fetch)


def test_permits_outlive_a_lease_of_an_hour(state: State) -> None:
    state.pace({"a": lane("robot.q")}, {"robot.q": sender(window_ms=1_000)})
    _, (call,) = state.submit("a")

    state.start(call, lease_ms=3_600_000)

    assert int(state.redis.ttl(state.key("sender:robot.q:1000"))) >= 3_601
