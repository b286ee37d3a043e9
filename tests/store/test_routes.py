"""A lane with an app: each step by its own route, past jobs whose route is full, closed all at once or one by one."""

from __future__ import annotations

from typing import Any

import pytest

from dingqueue.contract import Mention, SendJob, Text
from dingqueue.lanes import Call
from dingqueue_worker.outcome import Accepted, Close, Delivered, Ended, Mark, Retry, Snooze
from dingqueue_worker.store import Settled
from support.state import State, lane, sender

IN_FLIGHT = 4


def routes(**limits: int) -> dict[str, Any]:
    names = {"group": "app.acme.group", "todo": "app.acme.todo", "webhook": "robot.ops"}
    return lane(*names.values(), in_flight=IN_FLIGHT) | {
        "routes": {
            route: {"senders": [name]} | ({"in_flight": limits[route]} if route in limits else {})
            for route, name in names.items()
        },
        "first": {"send": "group", "ring": "webhook", "assign": "todo"},
    }


def app_sender(limit: int = 20, **more: Any) -> dict[str, Any]:
    return sender(limit, 1_000, shared=True) | {"of": "app.acme"} | more


@pytest.fixture
def team(state: State) -> State:
    state.pace(
        {"ops": routes(webhook=1)},
        {
            "app.acme": sender() | {"windows": []},
            "app.acme.group": app_sender(3),
            "app.acme.todo": app_sender(),
            "robot.ops": sender(2, 60_000),
        },
    )
    return state


def ringing(state: State) -> SendJob:
    plain = state.job()
    return SendJob(job_id=plain.job_id, destination="ops", content=Text(text="come"), mention=Mention(user_ids=("u1",)))


def sender_of(state: State, call: Call) -> str:
    return state.start(call).sender


def settle(state: State, call: Call, ended: Ended, *, step: int = 0, wait_s: float = 0.0) -> Settled:
    settled = state.settle(call, ended, step=step, wait_s=wait_s)
    assert isinstance(settled, Settled)
    return settled


def test_a_jobs_need_chooses_the_route_of_its_first_step(team: State) -> None:
    _, plain = team.submit()
    _, ring = team.submit(job=ringing(team))

    assert sender_of(team, plain[0]) == "app.acme.group"
    assert sender_of(team, ring[0]) == "robot.ops"


def test_an_attempt_says_how_the_next_step_goes(team: State) -> None:
    job_id, calls = team.submit()
    team.start(calls[0])

    settled = settle(team, calls[0], Ended(outcome=Delivered(), steps=2, route="webhook"))

    assert [call.job_id for call in settled.calls] == [job_id]
    assert sender_of(team, settled.calls[0]) == "robot.ops"


def test_a_job_that_goes_another_way_spends_no_attempt_and_no_permit(team: State) -> None:
    job_id, calls = team.submit()
    for _ in range(10):  # the route has three permits a second
        team.start(calls[0])
        other = Ended(outcome=Snooze(why="by the robot", cause="route", sent=False), route="group")
        calls = settle(team, calls[0], other).calls

    status = team.lanes.status(job_id)
    assert status is not None
    assert status.attempts == 0
    assert len(calls) == 1


def test_a_route_that_nobody_published_falls_back_to_the_first(team: State) -> None:
    _, calls = team.submit()
    team.start(calls[0])

    settled = settle(team, calls[0], Ended(outcome=Delivered(), steps=2, route="gone"))

    assert sender_of(team, settled.calls[0]) == "app.acme.group"


def test_jobs_go_past_those_whose_own_route_is_full(team: State) -> None:
    rings = [team.submit(job=ringing(team)) for _ in range(3)]
    _, plain = team.submit()

    assert [len(calls) for _, calls in rings] == [1, 0, 0], "the robot speaks one at a time"
    assert len(plain) == 1


def test_the_ones_that_were_passed_go_when_their_route_is_free(team: State) -> None:
    rings = [team.submit(job=ringing(team)) for _ in range(3)]

    first = team.deliver(rings[0][1][0])
    second = team.deliver(first.calls[0])

    assert [call.job_id for call in first.calls] == [rings[1][0]]
    assert second.calls == (), "the robot's window is full"
    team.clock.pass_ms(60_000)
    assert [call.job_id for call in team.release()] == [rings[2][0]]


def test_no_more_are_out_than_the_lane_allows(team: State) -> None:
    team.pace({"ops": routes()}, {"app.acme.group": app_sender(100), "robot.ops": sender(100)})

    called = [calls for calls in (team.submit()[1] for _ in range(IN_FLIGHT + 3)) if calls]

    assert len(called) == IN_FLIGHT


def test_what_closes_the_app_closes_every_interface_until_one_probe_succeeds(team: State) -> None:
    team.pace(
        {"ops": routes(), "other": routes()},
        {
            "app.acme": sender() | {"windows": []},
            "app.acme.group": app_sender(),
            "app.acme.todo": app_sender(),
            "robot.ops": sender(),
        },
    )
    _, calls = team.submit()
    team.start(calls[0])
    fault = Snooze(
        why="wrong secret",
        cause="credentials",
        sent=False,
        close=Close(cause="cooldown", why="wrong secret", sender="app.acme", for_s=30),
    )

    assert settle(team, calls[0], Ended(outcome=fault, route="todo")).calls == ()
    assert team.submit("other")[1] == ()
    team.clock.pass_ms(30_000)
    probe = team.release()
    assert len(probe) == 1, "one job finds out for all"
    assert team.release() == ()
    assert len(team.deliver(probe[0]).calls) + len(team.release()) == 1


def test_an_app_is_broken_once_whichever_interfaces_find_out(team: State) -> None:
    def fault(call: Call) -> Settled:
        team.start(call)
        close = Close(cause="fault", why="wrong secret", sender="app.acme")
        return settle(team, call, Ended(outcome=Snooze(why="x", cause="credentials", sent=False, close=close)))

    _, calls = team.submit()
    told = [*fault(calls[0]).events]
    for _ in range(3):
        team.clock.pass_ms(600_000)
        for call in team.release():
            told += fault(call).events

    assert [(happened.name, happened.subject) for happened in told] == [("broken", "app.acme")]


def test_a_job_in_mid_steps_that_must_wait_leaves_the_lane_to_others(team: State) -> None:
    first, calls = team.submit()
    team.start(calls[0])
    second = settle(team, calls[0], Ended(outcome=Delivered(), steps=2, route="todo"))
    team.start(second.calls[0])
    settle(team, second.calls[0], Ended(outcome=Retry(why="500", cause="server"), steps=2), step=1, wait_s=60)

    assert len(team.submit()[1]) == 1
    team.clock.pass_ms(60_000)
    (again,) = [call for call in team.release() if call.job_id == first]
    started = team.start(again)
    assert (started.step, started.sender) == (1, "app.acme.todo")


def test_a_step_may_rest_before_the_next(team: State) -> None:
    job_id, calls = team.submit()
    team.start(calls[0])

    settled = settle(team, calls[0], Ended(outcome=Accepted(), steps=2, rest_s=5))

    assert settled.calls == ()
    team.clock.pass_ms(4_999)
    assert team.release() == ()
    team.clock.pass_ms(1)
    assert [call.job_id for call in team.release()] == [job_id]


def test_a_months_quota_is_shared_and_keeps_its_reserve_for_urgent_jobs(team: State) -> None:
    quota: dict[str, Any] = {"quota": "organisation.acme.api", "month": 3, "month_reserve": 1}
    team.pace({"ops": routes()}, {"app.acme.group": app_sender(**quota), "app.acme.todo": app_sender(**quota)})
    _, calls = team.submit()
    team.start(calls[0])
    second = settle(team, calls[0], Ended(outcome=Delivered(), steps=2, route="todo"))
    team.deliver(second.calls[0])

    assert team.submit()[1] == (), "two of three are used, and one is for urgent jobs"
    assert len(team.submit(urgent=True)[1]) == 1
    assert team.submit(urgent=True)[1] == ()


def test_what_was_refused_for_its_rate_is_not_counted_in_the_month(team: State) -> None:
    quota: dict[str, Any] = {"quota": "organisation.acme.api", "month": 2}
    team.pace({"ops": routes()}, {"app.acme.group": app_sender(**quota)})
    _, calls = team.submit()
    for _ in range(5):
        team.start(calls[0])
        busy = Snooze(why="90018", cause="qps", close=Close(cause="busy", why="90018", for_s=1))
        settle(team, calls[0], Ended(outcome=busy))
        team.clock.pass_ms(1_000)
        calls = team.release()

    assert len(calls) == 1


def test_a_later_job_marks_the_one_that_it_changed(team: State) -> None:
    first, calls = team.submit()
    team.start(calls[0])
    settle(team, calls[0], Ended(outcome=Accepted(receipt={"process_query_key": "k1"})))
    _, calls = team.submit()
    team.start(calls[0])

    mark = Mark(job_id=first, state="cancelled", why="recalled", receipt={"recalled": "1"})
    settle(team, calls[0], Ended(outcome=Delivered(), mark=mark))

    status = team.lanes.status(first)
    assert status is not None
    assert (status.state, status.reason) == ("cancelled", "recalled")
    assert status.receipt == {"process_query_key": "k1", "recalled": "1"}


def test_a_mark_does_not_end_a_job_that_is_open(team: State) -> None:
    first, calls = team.submit()
    _, others = team.submit()
    team.start(calls[0])
    team.start(others[0])

    settle(team, others[0], Ended(outcome=Delivered(), mark=Mark(job_id=first, state="cancelled", why="recalled")))

    assert team.state_of(first) == "sending"
    settle(team, calls[0], Ended(outcome=Delivered()))
    assert team.state_of(first) == "delivered"


def test_a_mark_on_a_forgotten_job_makes_no_new_record(team: State) -> None:
    _, calls = team.submit()
    team.start(calls[0])

    settle(team, calls[0], Ended(outcome=Delivered(), mark=Mark(job_id="long-gone", state="cancelled")))

    assert team.lanes.status("long-gone") is None


def test_each_persons_entry_in_the_receipt_keeps_its_name_over_the_steps(team: State) -> None:
    job_id, calls = team.submit()
    team.start(calls[0])
    first = Accepted(receipt={"task_id": "1", "person.alice": "accepted"})
    second = settle(team, calls[0], Ended(outcome=first, steps=2))
    team.start(second.calls[0])
    settle(team, second.calls[0], Ended(outcome=Accepted(receipt={"task_id": "2", "person.bob": "x"}), steps=2), step=1)

    status = team.lanes.status(job_id)
    assert status is not None
    assert status.receipt == {"1.task_id": "1", "2.task_id": "2", "person.alice": "accepted", "person.bob": "x"}


def test_a_record_that_is_needed_longer_is_kept_longer(team: State) -> None:
    job_id, calls = team.submit()
    team.start(calls[0])

    settle(team, calls[0], Ended(outcome=Delivered(), keep_s=180 * 86_400))

    assert int(team.redis.ttl(team.key(f"job:{job_id}"))) > 179 * 86_400


def test_who_waits_for_the_webhook_says_so(team: State) -> None:
    team.submit(job=ringing(team))
    waits, _ = team.submit(job=ringing(team))

    status = team.lanes.status(waits)

    assert status is not None
    assert status.expected_at is not None


def test_the_overview_shows_the_main_route_what_is_beside_it_and_the_closing_once(team: State) -> None:
    _, calls = team.submit()
    team.start(calls[0])
    close = Close(cause="cooldown", why="wrong secret", sender="app.acme", for_s=30)
    settle(team, calls[0], Ended(outcome=Snooze(why="x", cause="credentials", sent=False, close=close)))

    _, (view,) = team.store.overview()

    assert [one.name for one in view.senders] == ["app.acme.group"]
    assert {one.name for one in view.beside} == {"app.acme.todo", "robot.ops"}
    assert [(one.closed_as, one.why) for one in view.shut] == [("app.acme", "wrong secret")]


def test_how_long_a_lane_needs_is_told_by_the_route_of_its_messages(team: State) -> None:
    for _ in range(IN_FLIGHT + 30):
        team.submit()

    _, (view,) = team.store.overview()

    assert view.drain_s is not None
    assert view.drain_s == pytest.approx(view.waiting / 3, abs=0.5), "three a second, whatever the other routes allow"


def test_a_job_in_mid_steps_comes_back_before_all_others(team: State) -> None:
    team.pace(
        {"ops": routes() | {"in_flight": 1}},
        {"app.acme.group": app_sender(), "app.acme.todo": app_sender(), "robot.ops": sender()},
    )
    first, calls = team.submit()
    team.start(calls[0])
    second = settle(team, calls[0], Ended(outcome=Delivered(), steps=2, route="todo"))
    team.start(second.calls[0])
    settle(team, second.calls[0], Ended(outcome=Retry(why="500", cause="server"), steps=2), step=1, wait_s=60)
    _, other = team.submit()
    team.start(other[0], lease_ms=600_000)
    team.submit(urgent=True)

    team.clock.pass_ms(60_000)
    assert team.release() == ()
    after = settle(team, other[0], Ended(outcome=Delivered()))

    assert [call.job_id for call in after.calls] == [first]


@pytest.mark.parametrize(
    ("notes", "after_ms", "end"),
    [
        ({"recall": '[["group", "k1", "cid1"]]'}, 86_399_999, "recall"),
        ({"recall": '[["group", "k1", "cid1"]]'}, 86_400_000, "accepted"),
        ({"todo": '{"id": "t1"}'}, 90 * 86_400_000, "recall"),
        ({"recall": '[["group", "k1", "cid1"]]', "todo": '{"id": "t1"}'}, 90 * 86_400_000, "recall"),
        ({}, 0, "accepted"),
    ],
)
def test_messages_can_be_taken_back_for_a_day_and_todos_for_ever(
    team: State, notes: dict[str, str], after_ms: int, end: str
) -> None:
    job_id, calls = team.submit()
    team.start(calls[0])
    settle(team, calls[0], Ended(outcome=Accepted(), notes=notes))

    team.clock.pass_ms(after_ms)

    assert team.lanes.cancel(job_id) == (end, ())


def test_the_overview_tells_of_the_window_that_takes_longest(team: State) -> None:
    team.pace({"ops": routes()}, {"app.acme.group": app_sender() | {"windows": [[20, 1_000], [15, 60_000]]}})

    (view,) = team.store.overview()[1]

    assert [(one.limit, one.window_ms) for one in view.senders] == [(15, 60_000)]
