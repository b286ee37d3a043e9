"""Alarms: each kind of trouble once, never a loop, never in the way."""

from __future__ import annotations

import pytest

from dingqueue.contract import SendJob, Text
from dingqueue.lanes import Call
from dingqueue_worker.alarms import Alarm, Alarms
from dingqueue_worker.outcome import Dead, Ended
from dingqueue_worker.settings import Fleet
from dingqueue_worker.store import Event, Store
from support.state import State, lane, sender
from support.waiting import wait_for

heard: list[Alarm] = []


def hear(alarm: Alarm) -> None:
    """The hook of these tests."""
    if alarm.subject == "fails":
        raise ValueError("a hook's own fault")
    heard.append(alarm)


@pytest.fixture
def ops(state: State) -> State:
    state.pace(
        {"ops": lane("robot.ops"), "dev": lane("robot.dev"), "admins": lane("robot.admins")},
        {"robot.ops": sender(), "robot.dev": sender(), "robot.admins": sender()},
    )
    return state


@pytest.fixture
def called() -> list[Call]:
    return []


@pytest.fixture
def tell(ops: State, called: list[Call]) -> Alarms:
    return Alarms(store=ops.store, fleet=Fleet(on_dead="admins"), dispatch=called.extend, now_s=lambda: 1_800_000_000.0)


def die(ops: State, tell: Alarms, destination: str, cause: str = "content") -> str:
    job_id, (call,) = ops.submit(destination)
    ops.start(call)
    settled = ops.settle(call, Ended(outcome=Dead(why=f"refused ({cause})", cause=cause, sent=False)))
    for happened in settled.events:
        tell(happened)
    return job_id


def body(ops: State, call: Call) -> SendJob:
    job = ops.start(call).job
    assert isinstance(job, SendJob)
    return job


def test_a_death_is_told_to_the_destination_chosen(ops: State, tell: Alarms, called: list[Call]) -> None:
    job_id = die(ops, tell, "ops")

    (call,) = called
    job = body(ops, call)
    assert call.destination == "admins"
    assert isinstance(job.content, Text)
    assert "a send job to ops could not be delivered" in job.content.text
    assert "refused (content)" in job.content.text
    assert f"dingqueue dead show {job_id}" in job.content.text
    assert job.terms.urgent


def test_a_storm_of_deaths_is_one_message_for_each_kind(ops: State, tell: Alarms, called: list[Call]) -> None:
    for _ in range(20):
        die(ops, tell, "ops")
        die(ops, tell, "dev")
        die(ops, tell, "dev", cause="keyword")

    waiting = ops.redis.zcard(ops.key("lane:admins"))
    assert len(called) + waiting == 3


def test_an_alarm_that_dies_raises_no_alarm(ops: State, tell: Alarms, called: list[Call]) -> None:
    die(ops, tell, "ops")
    (call,) = called
    ops.start(call)

    settled = ops.settle(call, Ended(outcome=Dead(why="robot gone", cause="content")))
    for happened in settled.events:
        tell(happened)

    assert [happened.name for happened in settled.events] == ["dead"]
    assert called == [call]
    assert ops.redis.zcard(ops.key("lane:admins")) == 0


def test_a_job_to_the_alarms_own_destination_may_die_too(ops: State, tell: Alarms, called: list[Call]) -> None:
    die(ops, tell, "admins")

    assert [call.destination for call in called] == ["admins"]


def test_a_broken_sender_is_told(ops: State, tell: Alarms, called: list[Call]) -> None:
    tell(Event(name="broken", subject="robot.ops", why="there is no robot with this token"))

    job = body(ops, called[0])
    assert isinstance(job.content, Text)
    assert "robot.ops is broken" in job.content.text


def test_redis_away_is_no_reason_to_stumble(caplog: pytest.LogCaptureFixture) -> None:
    from dingqueue_worker.embedded import free_port

    store = Store(f"redis://127.0.0.1:{free_port()}/0", prefix="dq:")
    Alarms(store=store, fleet=Fleet(on_dead="admins"), dispatch=lambda _: None)(
        Event(name="dead", subject="job-1", why="refused")
    )

    assert "alarm not raised" in caplog.text


@pytest.fixture
def hooked(ops: State) -> Alarms:
    heard.clear()
    return Alarms(store=ops.store, fleet=Fleet(on_dead_hook=f"{__name__}:hear"), dispatch=lambda _: None)


def test_a_hook_hears_what_died_and_why(ops: State, hooked: Alarms) -> None:
    job_id = die(ops, hooked, "ops")

    (alarm,) = wait_for(lambda: list(heard))
    assert alarm == Alarm(
        name="dead", subject=job_id, destination="ops", kind="send", cause="content", reason="refused (content)"
    )


def test_a_hook_that_fails_is_logged_and_called_again(hooked: Alarms, caplog: pytest.LogCaptureFixture) -> None:
    hooked(Event(name="broken", subject="fails", why=""))
    hooked(Event(name="broken", subject="robot.ops", why=""))

    wait_for(lambda: [alarm.subject for alarm in heard] == ["robot.ops"])
    assert "on_dead_hook" in caplog.text


def test_a_month_that_runs_out_is_told_at_each_mark_once(ops: State, tell: Alarms, called: list[Call]) -> None:
    quota = {"quota": "organisation.acme.webhook", "month": 10}
    ops.pace(
        {"ops": lane("robot.ops"), "admins": lane("robot.admins")},
        {"robot.ops": sender(100) | quota, "robot.admins": sender()},
    )
    for _ in range(7):
        ops.deliver(ops.submit()[1][0])
    assert ops.store.quota("organisation.acme.webhook", most=10, marks_percent=(80, 95)) == (7, ())
    ops.deliver(ops.submit()[1][0])

    for _ in range(3):
        for happened in ops.store.quota("organisation.acme.webhook", most=10, marks_percent=(80, 95))[1]:
            tell(happened)

    (call,) = called
    content = body(ops, call).content
    assert isinstance(content, Text)
    assert content.text == "dingqueue: organisation.acme.webhook: 8 of this month's 10 calls are used (80 %)"
