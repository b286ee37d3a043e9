"""What became of work notifications: asked for until it is known, each person told apart, on a real server and real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from dingqueue_worker.delivery.app import Door
from dingqueue_worker.dingtalk.api import Api
from dingqueue_worker.dingtalk.apps import AppCalls
from dingqueue_worker.outcome import Accepted, Ended, Mark
from dingqueue_worker.pace import pace_of
from dingqueue_worker.results import KNOWN_FOR_S, Results
from dingqueue_worker.settings import Destination
from dingqueue_worker.store import Event, Settled
from dingqueue_worker.tokens import Tokens
from support.acme import far_side, organisation
from support.answering import Answering, Asked, Reply, answering
from support.state import State

RESULT = "/topapi/message/corpconversation/getsendresult"
TEAM = Destination(name="ops", app="acme", users=("p1", "p2", "p3"), via="notice")
SETTINGS = organisation(TEAM)
PEOPLE = {"u1": "p1", "u2": "p2", "u3": "p3"}


def result(**lists: Any) -> Reply:
    empty: dict[str, Any] = {
        f"{name}_user_id_list": [] for name in ("invalid", "forbidden", "failed", "read", "unread")
    }
    return 200, {"errcode": 0, "send_result": empty | {"forbidden_list": []} | lists}


class Looking:
    """Looks up, tells what a person would hear, and keeps DingTalk's answers in order."""

    def __init__(self, state: State, far: Answering, api: Api) -> None:
        self.state, self.far, self.told = state, far, list[Event]()
        tokens = Tokens(store=state.store, api=api, lease_s=20)
        self.results = Results(
            SETTINGS, store=state.store, door=Door(tokens), calls=AppCalls(api), tell=self.told.append
        )  # fmt: skip

    def after(self, seconds: float) -> int:
        self.state.clock.pass_ms(round(seconds * 1000))
        return self.results.look()


@contextmanager
def looking(state: State, *answers: Reply | None, then: Reply | None = None) -> Iterator[Looking]:
    left = list(answers)

    def answer(asked: Asked) -> Reply | None:
        if asked.path != RESULT:
            return far_side(asked)
        return left.pop(0) if left else then

    with (
        answering(answer) as far,
        Api(
            oapi_url=far.url, api_url=far.url, connect_timeout_s=2, read_timeout_s=2, total_timeout_s=4, pool_size=4
        ) as api,
    ):
        yield Looking(state, far, api)


@pytest.fixture
def notices(state: State) -> State:
    pace = pace_of(SETTINGS)
    state.pace(pace.lanes, pace.senders)
    return state


def accepted(state: State, *tasks: tuple[str, Mapping[str, str]]) -> str:
    job_id, calls = state.submit()
    state.start(calls[0])
    listed = [{"id": task_id, "people": dict(people)} for task_id, people in tasks or (("11", PEOPLE),)]
    receipt = {"task_id": str(listed[0]["id"])} | {f"person.{name}": "accepted" for name in PEOPLE.values()}
    settled = state.settle(
        calls[0],
        Ended(
            outcome=Accepted(receipt=receipt),
            notes={"tasks": json.dumps(listed), "progress": "x", "recall": '[["notice", "11", ""]]'},
            look_up_s=3.0,
        ),
    )
    assert isinstance(settled, Settled)
    return job_id


def status(state: State, job_id: str) -> Any:
    found = state.lanes.status(job_id)
    assert found is not None
    return found


def test_nothing_is_asked_before_it_can_be_known(notices: State) -> None:
    job_id = accepted(notices)
    with looking(notices, then=result(unread_user_id_list=["u1", "u2", "u3"])) as look:
        assert (look.after(2.9), look.after(0.1)) == (0, 1)

        assert status(notices, job_id).state == "delivered"
        assert look.far.of(RESULT)[0].body == {"agent_id": 7, "task_id": 11}


def test_a_result_that_is_not_whole_is_asked_for_again_ever_less_often(notices: State) -> None:
    job_id = accepted(notices)
    part = result(read_user_id_list=["u1"])
    with looking(
        notices, part, (500, {"errcode": -1}), None, then=result(unread_user_id_list=["u1", "u2", "u3"])
    ) as look:
        assert look.after(3) == 1
        assert [look.after(wait_s) for wait_s in (4.9, 0.1)] == [0, 1]
        assert [look.after(wait_s) for wait_s in (14.9, 0.1)] == [0, 1]
        assert status(notices, job_id).state == "accepted"
        assert look.after(60) == 1

        assert status(notices, job_id).state == "delivered"
        assert look.after(100_000) == 0, "it is known"


def test_each_persons_end_is_told_and_the_job_says_who_was_missed(notices: State) -> None:
    job_id = accepted(notices)
    mixed = result(
        read_user_id_list=["u1"], invalid_user_id_list=["u2"], forbidden_user_id_list=["u3"],
        forbidden_list=[{"code": "143105", "count": 1, "userid": "u3"}],
    )  # fmt: skip
    with looking(notices, then=mixed) as look:
        look.after(3)

        found = status(notices, job_id)
        assert found.state == "delivered"
        assert found.receipt["person.p1"] == "delivered"
        assert found.receipt["person.p2"] == "DingTalk does not know this user id"
        assert found.receipt["person.p3"] == "the people's quota of today is used up (code 143105)"
        assert found.reason.startswith("not reached: p2 (DingTalk does not know this user id), p3 (")
        assert look.told == []


def test_the_same_message_again_on_the_same_day_has_reached_them(notices: State) -> None:
    job_id = accepted(notices)
    again = [{"code": 143106, "count": 3, "userid": user_id} for user_id in PEOPLE]
    with looking(notices, then=result(forbidden_user_id_list=list(PEOPLE), forbidden_list=again)) as look:
        look.after(3)

        assert status(notices, job_id).state == "delivered"


def test_a_notification_that_reached_nobody_is_dead_and_can_be_replayed(notices: State) -> None:
    job_id = accepted(notices)
    with looking(notices, then=result(failed_user_id_list=["u1", "u2", "u3"])) as look:
        look.after(3)

        found = status(notices, job_id)
        assert found.state == "dead"
        assert found.reason.startswith("not reached: p1 (DingTalk could not send it)")
        assert [(happened.name, happened.subject) for happened in look.told] == [("dead", job_id)]
        letter = notices.store.dead_letter(job_id)
        assert letter is not None
        assert letter.job is not None
        state, calls = notices.store.replay(job_id, expires_s=60, by="test")
        assert state == "waiting"
        started = notices.start(calls[0])
        assert (started.step, started.notes) == (0, {})


def test_a_message_of_two_parts_reached_who_got_both(notices: State) -> None:
    job_id = accepted(notices, ("11", PEOPLE), ("12", PEOPLE))
    first = result(unread_user_id_list=["u1", "u2"], failed_user_id_list=["u3"])
    second = result(unread_user_id_list=["u1", "u3"], failed_user_id_list=["u2"])
    with looking(notices, first, second) as look:
        look.after(3)

        receipt = status(notices, job_id).receipt
        assert [receipt[f"person.p{at}"] == "delivered" for at in (1, 2, 3)] == [True, False, False]


def test_a_call_whose_result_is_known_is_not_asked_for_again(notices: State) -> None:
    accepted(notices, ("11", {"u1": "p1"}), ("12", {"u2": "p2", "u3": "p3"}))
    with looking(
        notices, result(read_user_id_list=["u1"]), result(), then=result(read_user_id_list=["u2", "u3"])
    ) as look:
        look.after(3)
        look.after(5)

        assert [asked.body["task_id"] for asked in look.far.of(RESULT)] == [11, 12, 12]


def test_departments_are_told_in_numbers(notices: State) -> None:
    job_id = accepted(notices, ("11", {}))
    with looking(notices, then=result(read_user_id_list=["x", "y"], failed_user_id_list=["z"])) as look:
        look.after(3)

        found = status(notices, job_id)
        assert (found.state, found.receipt["task.11"]) == ("delivered", "reached 2, not 1")
        assert found.reason == "not reached: 1 people"


@pytest.mark.parametrize("silence", [result(), None, (200, {"errcode": 0})])
def test_what_is_not_known_after_a_day_stays_accepted(notices: State, silence: Reply | None) -> None:
    job_id = accepted(notices)
    with looking(notices, then=silence) as look:
        for _ in range(40):
            look.after(KNOWN_FOR_S / 30)

        found = status(notices, job_id)
        assert (found.state, found.reason) == ("accepted", "DingTalk told no result within a day")
        assert notices.redis.zcard(notices.key("results")) == 0
        assert not notices.redis.exists(notices.key(f"body:{job_id}"))


def test_a_result_that_dingtalk_cannot_give_is_not_asked_for_for_ever(notices: State) -> None:
    job_id = accepted(notices)
    with looking(notices, then=(200, {"errcode": 400002, "errmsg": "参数错误"})) as look:
        look.after(3)

        assert status(notices, job_id).state == "accepted"
        assert len(look.far.of(RESULT)) == 1
        assert look.after(100_000) == 0


def test_what_was_taken_back_is_not_asked_for(notices: State) -> None:
    job_id = accepted(notices)
    _, calls = notices.submit()
    notices.start(calls[0])
    notices.settle(calls[0], Ended(outcome=Accepted(), mark=Mark(job_id=job_id, state="cancelled", why="taken back")))
    with looking(notices) as look:
        assert look.after(3) == 0

        assert look.far.of(RESULT) == []
        assert status(notices, job_id).state == "cancelled"


def test_two_beats_ask_once(notices: State) -> None:
    accepted(notices)
    with looking(notices, then=result()) as look:
        look.after(3)

        assert look.results.look() == 0
        assert len(look.far.of(RESULT)) == 1


def test_looking_keeps_to_the_limit_of_the_call(notices: State) -> None:
    for _ in range(50):
        accepted(notices, (str(100 + _), {"u1": "p1"}))
        notices.clock.pass_ms(5_000)
    with looking(notices, then=result(read_user_id_list=["u1"])) as look:
        look.after(3)

        assert len(look.far.of(RESULT)) == 20, "a second's worth; the test's clock stands"


def test_redis_is_told_nothing_that_it_may_not_keep(notices: State) -> None:
    accepted(notices)

    for key in notices.redis.scan_iter(notices.key("*")):
        if ":job:" in key or ":body:" in key or key.endswith("results"):
            assert notices.redis.ttl(key) > 0, key
