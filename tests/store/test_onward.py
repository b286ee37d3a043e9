"""Whoever settles a job goes on with the next one of its lane, on a real server: what begins, with which lease, for whom."""

from __future__ import annotations

import pytest

from dingqueue.contract import AssignJob, Mention
from dingqueue.lanes import Call
from dingqueue_worker.outcome import Close, Delivered, Ended, Snooze
from dingqueue_worker.store import Settled, Stale
from support.state import CALL_LEASE_MS, LEASE_MS, State, lane, sender

ON_MS = 2 * LEASE_MS


@pytest.fixture
def ops(state: State) -> State:
    state.pace({"ops": lane("robot.ops")}, {"robot.ops": sender(limit=3, window_ms=10_000)})
    return state


def begun(state: State) -> Call:
    """The lane's first job, started; two more wait."""
    _, calls = state.submit()
    state.submit()
    state.submit()
    state.start(calls[0])
    return calls[0]


def test_the_next_job_begins_instead_of_being_called(ops: State) -> None:
    settled = ops.settle(begun(ops), on_ms=ON_MS)

    assert isinstance(settled, Settled)
    assert settled.ahead
    assert settled.calls == ()
    call, started = settled.ahead.call, settled.ahead.started()
    assert ops.state_of(call.job_id) == "sending"
    assert (started.job.job_id, started.sender, started.step) == (call.job_id, "robot.ops", 0)
    assert isinstance(ops.settle(call), Settled)


def test_it_holds_the_lease_of_an_attempt_and_not_of_a_call(ops: State) -> None:
    settled = ops.settle(begun(ops), on_ms=ON_MS)
    assert settled.ahead

    ops.clock.pass_ms(CALL_LEASE_MS + 1)
    assert ops.release() == ()
    assert ops.state_of(settled.ahead.call.job_id) == "sending"
    ops.clock.pass_ms(ON_MS - CALL_LEASE_MS)
    ops.release()
    assert ops.state_of(settled.ahead.call.job_id) != "sending"


def test_without_a_lease_to_give_the_next_job_is_called_as_ever(ops: State) -> None:
    settled = ops.settle(begun(ops))

    assert settled.ahead is None
    assert len(settled.calls) == 1


def test_an_answer_that_was_lost_is_given_again(ops: State) -> None:
    first = begun(ops)
    settled = ops.settle(first, on_ms=ON_MS)
    again = ops.settle(first, on_ms=ON_MS)

    assert isinstance(again, Stale)
    assert again.ahead == settled.ahead
    assert settled.ahead

    ops.settle(settled.ahead.call)
    assert ops.settle(first, on_ms=ON_MS).ahead is None


def test_what_began_for_one_is_given_to_nobody_else_when_it_is_called_later(ops: State) -> None:
    first = begun(ops)
    settled = ops.settle(first, on_ms=ON_MS)
    assert settled.ahead
    ops.clock.pass_ms(ON_MS + 1)  # whoever went on with it is gone
    (call,) = [call for call in ops.release() if call.job_id == settled.ahead.call.job_id]
    ops.start(call)

    assert ops.settle(first, on_ms=ON_MS).ahead is None


def test_nothing_begins_while_the_window_is_full(ops: State) -> None:
    call = begun(ops)
    ops.submit()
    for _ in range(2):
        settled = ops.settle(call, on_ms=ON_MS)
        assert settled.ahead
        call = settled.ahead.call

    last = ops.settle(call, on_ms=ON_MS)
    assert isinstance(last, Settled)
    assert (last.ahead, last.calls, last.next_look_ms) == (None, (), 10_000)


def test_nothing_begins_through_a_sender_that_was_just_closed(ops: State) -> None:
    muted = Ended(
        outcome=Snooze(why="too fast", cause="too_fast", close=Close(cause="cooldown", why="too fast", for_s=600))
    )

    settled = ops.settle(begun(ops), muted, on_ms=ON_MS)

    assert (settled.ahead, settled.calls) == (None, ())


def test_another_kind_of_job_is_called(state: State) -> None:
    state.pace({"ops": lane("robot.ops")}, {"robot.ops": sender(limit=3, window_ms=10_000)})
    _, calls = state.submit()
    state.submit(job=AssignJob(job_id="work", destination="ops", subject="work", to=Mention(names=("alice",))))
    state.start(calls[0])

    settled = state.settle(calls[0], on_ms=ON_MS)

    assert settled.ahead is None
    assert [call.job_id for call in settled.calls] == ["work"]


def test_only_the_first_of_several_begins_and_the_others_are_called(state: State) -> None:
    state.pace({"ops": lane("robot.ops", in_flight=3)}, {"robot.ops": sender(limit=9, window_ms=10_000)})
    first, _, last = (state.submit()[1][0] for _ in range(3))
    ids = [state.submit()[0] for _ in range(3)]
    state.start(first)
    state.pace({"ops": lane("robot.ops", in_flight=4)}, {"robot.ops": sender(limit=9, window_ms=10_000)})

    settled = state.settle(first, on_ms=ON_MS)

    assert settled.ahead
    assert [settled.ahead.call.job_id, *(call.job_id for call in settled.calls)] == ids[:2]
    assert last.job_id not in ids


def test_the_next_part_of_a_message_follows_at_once(ops: State) -> None:
    first = begun(ops)

    settled = ops.settle(first, Ended(outcome=Delivered(), steps=2), on_ms=ON_MS)
    again = ops.settle(first, Ended(outcome=Delivered(), steps=2), on_ms=ON_MS)

    assert settled.ahead
    assert (settled.ahead.call.job_id, settled.ahead.started().step) == (first.job_id, 1)
    assert again.ahead == settled.ahead


def test_the_probe_after_a_mute_begins_alone(ops: State) -> None:
    first = begun(ops)
    busy = Ended(outcome=Snooze(why="busy", cause="busy", close=Close(cause="cooldown", why="muted", for_s=1)))
    ops.settle(first, busy)
    ops.clock.pass_ms(1_001)
    (probe,) = ops.release()
    ops.start(probe)

    settled = ops.settle(probe, on_ms=ON_MS)

    assert settled.ahead
    assert ops.redis.exists(ops.key("sender:robot.ops:closed")) == 0


def test_a_job_that_may_not_wonder_is_called(ops: State) -> None:
    _, calls = ops.submit()
    careful = ops.submit(on_unknown="hold")[0]
    ops.start(calls[0])

    settled = ops.settle(calls[0], on_ms=ON_MS)

    assert settled.ahead is None
    assert [call.job_id for call in settled.calls] == [careful]
