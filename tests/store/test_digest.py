"""A lane that folds: rests between messages, one digest for what came in a rest; the books balance."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dingqueue.contract import AssignJob, Markdown, Mention, SendJob
from dingqueue.lanes import Call
from dingqueue_worker import digests
from support.state import State, lane, sender

REST_MS = 6_000


@pytest.fixture
def ops(state: State) -> State:
    state.pace({"ops": lane("robot.ops", digest_ms=REST_MS)}, {"robot.ops": sender()})
    return state


def digest(ops: State, members: Sequence[str], job_id: str = "digest-1") -> SendJob:
    return SendJob(job_id=job_id, destination="ops", content=Markdown(title="digest", text=f"{len(members)} messages"))


def asked(ops: State) -> list[str]:
    """The lanes that `release` wants to be folded."""
    released = ops.store.release(most=200, max_deliveries=5, max_attempts=8)
    assert not released.calls
    return [happened.subject for happened in released.events if happened.name == "digest"]


def fold(ops: State, job_id: str = "digest-1") -> tuple[str, tuple[Call, ...]]:
    members = [job.job_id for job, _ in ops.store.foldable("ops", most=500)]
    return ops.store.fold("ops", digest(ops, members, job_id), members)


def storm(ops: State, count: int = 24) -> tuple[str, list[str]]:
    """One message that goes at once, and those that come in its rest."""
    first_id, (call,) = ops.submit()
    ops.deliver(call)
    rest = []
    for _ in range(count):
        job_id, calls = ops.submit()
        assert calls == ()
        rest.append(job_id)
        ops.clock.pass_ms(200)
    return first_id, rest


def test_twenty_five_alarms_are_two_messages(ops: State) -> None:
    _, members = storm(ops)
    ops.clock.pass_ms(REST_MS)

    assert asked(ops) == ["ops"]
    outcome, (call,) = fold(ops)

    assert outcome == "folded"
    assert call.job_id == "digest-1"
    assert {ops.state_of(job_id) for job_id in members} == {"merged"}
    status = ops.lanes.status(members[7])
    assert status is not None
    assert status.reason == "merged into digest-1"
    assert ops.deliver(call).state == "delivered"
    counts = ops.store.counts()
    ended = sum(number for name, number in counts.items() if name.startswith("ended:"))
    assert counts["accepted:send:ops"] == ended == 26


def test_nothing_is_asked_before_the_rest_is_over(ops: State) -> None:
    storm(ops, 3)

    assert asked(ops) == []


def test_a_single_message_after_a_rest_goes_as_it_is(ops: State) -> None:
    _, (job_id,) = storm(ops, 1)
    ops.clock.pass_ms(REST_MS)

    (call,) = ops.release()

    assert call.job_id == job_id


def test_an_urgent_one_is_not_held_back(ops: State) -> None:
    storm(ops, 3)

    job_id, (call,) = ops.submit(urgent=True)

    assert call.job_id == job_id


def test_who_was_asked_and_is_gone_is_replaced(ops: State) -> None:
    storm(ops, 3)
    ops.clock.pass_ms(REST_MS)
    assert asked(ops) == ["ops"]
    assert asked(ops) == []

    ops.clock.pass_ms(5_001)

    assert asked(ops) == ["ops"]


def test_a_digest_is_all_or_nothing(ops: State) -> None:
    _, members = storm(ops, 3)
    ops.clock.pass_ms(REST_MS)
    asked(ops)
    ops.lanes.cancel(members[1])

    outcome, calls = ops.store.fold("ops", digest(ops, members), members)

    assert (outcome, calls) == ("changed", ())
    assert [ops.state_of(job_id) for job_id in members] == ["waiting", "cancelled", "waiting"]


def test_what_cannot_be_folded_goes_alone(ops: State) -> None:
    storm(ops, 0)
    for number in range(2):
        job = AssignJob(job_id=f"work-{number}", destination="ops", subject="Review", to=Mention(names=("alice",)))
        ops.lanes.submit(job)
    ops.clock.pass_ms(REST_MS)
    assert asked(ops) == ["ops"]
    assert ops.store.foldable("ops", most=500) == []

    outcome, (call,) = ops.store.fold("ops", None, ())

    assert outcome == "single"
    assert call.job_id == "work-0"


def test_a_digest_that_cannot_be_written_holds_up_nobody(ops: State, caplog: pytest.LogCaptureFixture) -> None:
    def fail(waiting: Sequence[object]) -> SendJob:
        raise ValueError("the words")

    _, members = storm(ops, 3)
    ops.clock.pass_ms(REST_MS)
    asked(ops)

    (call,) = digests.fold(ops.store, "ops", write=fail)

    assert call.job_id == members[0]
    assert "no digest could be written" in caplog.text
    assert "the words" not in caplog.text


def test_any_worker_may_fold_and_the_digest_expires_as_its_lane_says(ops: State) -> None:
    storm(ops, 3)
    ops.clock.pass_ms(REST_MS)
    asked(ops)

    (call,) = digests.fold(ops.store, "ops")

    status = ops.lanes.status(call.job_id)
    assert status is not None
    assert status.expires_at.timestamp() * 1000 == ops.clock.now_ms + 86_400_000


def test_a_digest_is_not_folded_again(ops: State) -> None:
    storm(ops, 3)
    ops.clock.pass_ms(REST_MS)
    asked(ops)
    _, (call,) = fold(ops)
    for _ in range(3):
        ops.submit()

    # Its message was lost: it is called again, as it is.
    ops.clock.pass_ms(REST_MS + 5_001)
    (again,) = ops.release()

    assert again.job_id == call.job_id
    assert all(job.job_id != "digest-1" for job, _ in ops.store.foldable("ops", most=500))


def test_while_the_robot_is_closed_all_becomes_one_digest(ops: State) -> None:
    ops.redis.hset(ops.key("sender:robot.ops:closed"), mapping={"until": ops.clock() + 600_000, "cause": "cooldown"})
    members = [ops.submit()[0] for _ in range(300)]
    assert asked(ops) == []
    ops.clock.pass_ms(600_001)

    assert asked(ops) == ["ops"]
    outcome, (call,) = fold(ops)

    assert (outcome, call.job_id) == ("folded", "digest-1")
    assert {ops.state_of(job_id) for job_id in members} == {"merged"}
