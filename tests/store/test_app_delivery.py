"""Jobs in an app's name over real sockets: which calls they make, in which order, and what each answer leads to."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from dingqueue.contract import AssignJob, Feed, FeedItem, Link, Markdown, Mention, SendJob, ShareJob, Text
from dingqueue_worker.outcome import Accepted, Dead, Delivered, Retry, Snooze, Unknown
from dingqueue_worker.settings import Destination, Person
from support.acme import GROUP, NOTICE, PEOPLE, ROBOT, TODOS, TOKEN, Acme, acme, bodies, but, far_side, organisation
from support.answering import Asked, Reply
from support.state import State

TEAM = Destination(name="team", app="acme", conversation="cid1")
BESIDE = Destination(name="team", app="acme", conversation="cid1", robots=("ops",))
URL = "https://a.cn/work"
EXPIRED: Reply = (400, {"code": "InvalidAuthentication", "message": "不合法的access_token", "requestid": "r"})


def staff(count: int, **more: Any) -> Destination:
    return Destination(name="team", app="acme", users=tuple(f"p{at}" for at in range(1, count + 1)), **more)


def send(text: str = "hi", **more: Any) -> SendJob:
    return SendJob(job_id="job-1", destination="team", content=Text(text=text), **more)


def assign(**more: Any) -> AssignJob:
    given: dict[str, Any] = {"subject": "Review", "to": Mention(names=("p1", "p2")), "url": URL} | more
    return AssignJob(job_id="job-1", destination="team", **given)


def last_dead(ran: Any) -> Dead:
    assert isinstance(ran.last, Dead), ran.last
    return ran.last


# --- Tokens on the way ----------------------------------------------------------------------------------------------


def test_a_message_to_a_group_carries_the_apps_token_in_the_header(state: State) -> None:
    with acme(organisation(TEAM), state) as run:
        ran = run.run(send("你好"))

        (asked,) = run.far.of(GROUP)
        assert asked.headers["x-acs-dingtalk-access-token"].startswith("planted-token-")
        assert asked.query == {}
        assert asked.body == {
            "robotCode": "code-1",
            "openConversationId": "cid1",
            "msgKey": "sampleText",
            "msgParam": '{"content":"你好"}',
        }
        assert isinstance(ran.last, Accepted)
        assert ran.last.receipt["process_query_key"].startswith("key-")


REFUSED_TOKENS: list[Reply] = [
    EXPIRED,
    (401, {"code": "whatever", "message": "token missing or invalid"}),
    (200, {"errcode": 88, "sub_code": "40014", "errmsg": "ding talk error[subcode=40014,…]"}),
    (200, {"errcode": 40014, "errmsg": "不合法的access_token"}),
    (200, {"errcode": 42001, "errmsg": "access_token超时"}),
    (200, {"errcode": "40001", "errmsg": "x"}),
]


@pytest.mark.parametrize("refusal", REFUSED_TOKENS)
@pytest.mark.parametrize(("destination", "path"), [(TEAM, GROUP), (staff(1, via="notice"), NOTICE)])
def test_a_token_that_is_refused_is_fetched_anew_once_and_spends_no_attempt(
    state: State, refusal: Reply, destination: Destination, path: str
) -> None:
    with acme(organisation(destination), state, but(path, refusal)) as run:
        ran = run.run(send())

        first, second = run.far.of(path)
        assert len(run.far.of(TOKEN)) == 2
        assert {**first.headers, **first.query} != {**second.headers, **second.query}
        assert isinstance(ran.ends[0][1].outcome, Snooze)
        assert isinstance(ran.last, Accepted)


def test_a_second_refusal_with_a_new_token_is_a_fault_of_the_app(state: State) -> None:
    with acme(organisation(TEAM), state, but(GROUP, EXPIRED, EXPIRED)) as run:
        ran = run.run(send(), closing=True)

        closes = [ended.outcome.close for _, ended in ran.ends]
        assert closes[0] is None
        assert closes[1] is not None
        assert (closes[1].cause, closes[1].sender) == ("fault", "app.acme")


def test_a_good_answer_forgives_the_refusal_before_it(state: State) -> None:
    answers = [EXPIRED, far_side(Asked("POST", GROUP, {}, {}, b"")), EXPIRED]

    def answer(asked: Asked) -> Reply:
        state.clock.pass_ms(61_000)
        return answers.pop(0) if asked.path == GROUP and answers else far_side(asked)

    with acme(organisation(TEAM), state, answer) as run:
        ran = run.run(send("x" * 20_000))  # two parts

        assert all(ended.outcome.close is None for _, ended in ran.ends)


def test_wrong_credentials_close_the_app_and_nothing_is_sent(state: State) -> None:
    wrong = (400, {"code": "invalidClientIdOrSecret", "message": "x"})
    with acme(organisation(TEAM), state, but(TOKEN, wrong)) as run:
        ran = run.run(send(), stop_at=Snooze)

        assert isinstance(ran.last, Snooze)
        assert ran.last.close is not None
        assert (ran.last.sent, ran.last.close.cause, ran.last.close.sender) == (False, "fault", "app.acme")
        assert run.far.of(GROUP) == []


@pytest.mark.parametrize(
    ("answer", "cause", "sender"),
    [
        ((403, {"code": "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"}), "busy", None),
        ((403, {"code": "Forbidden.AccessDenied.QpmLimitForAppkeyAndApi"}), "busy", None),
        ((403, {"code": "Forbidden.AccessDenied.ApiCountLimitForOrg"}), "quota", "app.acme"),
        ((403, {"code": "Forbidden.AccessDenied.IpNotInWhiteList"}), "fault", "app.acme"),
        ((403, {"code": "Forbidden.AccessDenied.AccessTokenPermissionDenied"}), "fault", None),
        ((400, {"code": "invalidParameter.robotCode.notExsit"}), "fault", None),
        ((400, {"code": "send.too.fast"}), "busy", None),
    ],
)
def test_what_a_refusal_closes_is_no_more_than_it_concerns(
    state: State, answer: Reply, cause: str, sender: str | None
) -> None:
    with acme(organisation(TEAM), state, but(GROUP, answer)) as run:
        ran = run.run(send(), stop_at=Snooze)

        assert isinstance(ran.last, Snooze)
        assert ran.last.close is not None
        assert (ran.last.close.cause, ran.last.close.sender) == (cause, sender)


# --- Groups ---------------------------------------------------------------------------------------------------------


def test_success_of_an_apps_robot_is_accepted_and_never_delivered(state: State) -> None:
    """B33: the group may show nothing though the answer is a yes."""
    job = SendJob(job_id="job-1", destination="team", content=Markdown(text="x" * 900, title="t"))
    with acme(organisation(TEAM), state) as run:
        ran = run.run(job)

        assert isinstance(ran.last, Accepted)
        assert json.loads(ran.notes["recall"]) == [["group", ran.last.receipt["process_query_key"], "cid1"]]


def test_a_long_text_takes_a_step_for_each_part(state: State) -> None:
    with acme(organisation(TEAM), state) as run:
        ran = run.run(send("line\n" * 8_000))

        parts = [json.loads(body["msgParam"])["content"] for body in bodies(run.far, GROUP)]
        assert [part.split("\n")[0] for part in parts] == [f"({at}/{len(parts)})" for at in range(1, len(parts) + 1)]
        assert len(json.loads(ran.notes["recall"])) == len(parts) > 2


def test_a_message_that_rings_goes_through_the_webhook_robot_beside_the_app(state: State) -> None:
    with acme(organisation(BESIDE), state) as run:
        ran = run.run(send(mention=Mention(user_ids=("u1",))))

        assert ran.senders == ["robot.ops"]
        assert bodies(run.far, ROBOT)[0]["at"] == {"atUserIds": ["u1"]}
        assert run.far.of(GROUP) == run.far.of(TOKEN) == []
        assert isinstance(ran.last, Delivered)


def test_so_does_a_feed(state: State) -> None:
    feed = Feed(items=(FeedItem(title="t", url=URL, picture_url=URL),))
    with acme(organisation(BESIDE), state) as run:
        ran = run.run(SendJob(job_id="job-1", destination="team", content=feed))

        assert ran.senders == ["robot.ops"]


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (
            send(mention=Mention(user_ids=("u1",))),
            "an app's robot rings nobody in a group; give the destination a webhook",
        ),
        (
            SendJob(
                job_id="j", destination="team", content=Feed(items=(FeedItem(title="t", url=URL, picture_url=URL),))
            ),
            "no feed cards",
        ),
        (SendJob(job_id="j", destination="team", content=Link(title="t", text="x" * 15_000, url=URL)), "cannot be cut"),
    ],
)
def test_what_the_route_cannot_do_is_refused_with_the_reason_and_without_a_call(
    state: State, job: SendJob, says: str
) -> None:
    with acme(organisation(TEAM), state) as run:
        dead = last_dead(run.run(job))

        assert says in dead.why
        assert not dead.sent
        assert run.far.asked == []


def test_an_answer_that_does_not_come_is_unknown(state: State) -> None:
    with acme(organisation(TEAM), state, but(GROUP, None)) as run:
        assert isinstance(run.run(send(), stop_at=Unknown).last, Unknown)


def test_a_file_by_its_url_is_a_link_where_nothing_is_uploaded(state: State) -> None:
    job = ShareJob(job_id="job-1", destination="team", url="https://a.cn/r.pdf", name="r.pdf")
    with acme(organisation(TEAM), state) as run:
        run.run(job)

        (body,) = bodies(run.far, GROUP)
        assert body["msgKey"] == "sampleLink"


# --- People ---------------------------------------------------------------------------------------------------------


def test_people_are_written_to_twenty_at_a_time(state: State) -> None:
    with acme(organisation(staff(45), people=45), state) as run:
        ran = run.run(send())

        assert [len(body["userIds"]) for body in bodies(run.far, PEOPLE)] == [20, 20, 5]
        assert len(ran.ends) == 3
        assert isinstance(ran.last, Accepted)


def test_only_the_call_that_failed_is_repeated(state: State) -> None:
    """B83: 20 + 20 + 5, the second fails once."""
    yes = far_side(Asked("POST", PEOPLE, {}, {}, b""))
    with acme(organisation(staff(45), people=45), state, but(PEOPLE, yes, (500, {"code": "unknownError"}))) as run:
        ran = run.run(send())

        asked = [tuple(body["userIds"]) for body in bodies(run.far, PEOPLE)]
        assert [len(ids) for ids in asked] == [20, 20, 20, 5]
        assert asked[1] == asked[2] != asked[0]
        assert isinstance(ran.ends[1][1].outcome, Retry)


def test_who_is_throttled_is_sent_to_again_after_a_rest_and_the_others_are_not(state: State) -> None:
    held = (200, {"processQueryKey": "k", "flowControlledStaffIdList": ["u2", "u5"]})
    with acme(organisation(staff(6), people=6), state, but(PEOPLE, held, held)) as run:
        ran = run.run(send())

        assert [body["userIds"] for body in bodies(run.far, PEOPLE)] == [
            ["u1", "u2", "u3", "u4", "u5", "u6"], ["u2", "u5"], ["u2", "u5"],
        ]  # fmt: skip
        assert len(ran.rests_s) == 2
        assert isinstance(ran.last, Accepted)
        assert ran.last.why == ""


def test_who_is_throttled_for_ever_is_given_up_and_told(state: State) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path == PEOPLE:
            return 200, {"processQueryKey": "k", "flowControlledStaffIdList": ["u2"]}
        return far_side(asked)

    with acme(organisation(staff(2)), state, answer) as run:
        ran = run.run(send())

        assert isinstance(ran.last, Accepted)
        assert ran.last.why == "not reached: p2 (DingTalk held them back again and again)"
        assert len(run.far.of(PEOPLE)) == 8


def test_who_does_not_exist_is_told_and_the_others_get_it(state: State) -> None:
    partly = (200, {"processQueryKey": "k", "invalidStaffIdList": ["u2"], "filteredStaffIdList": ["u3"]})
    with acme(organisation(staff(3)), state, but(PEOPLE, partly)) as run:
        ran = run.run(send())

        assert isinstance(ran.last, Accepted)
        assert ran.last.why == "not reached: p2 (DingTalk does not know this user id), p3 (filtered by DingTalk)"
        assert ran.last.receipt["person.p2"] == "DingTalk does not know this user id"


def test_a_message_that_reaches_nobody_is_dead(state: State) -> None:
    nobody = (200, {"processQueryKey": "k", "invalidStaffIdList": ["u1", "u2"]})
    with acme(organisation(staff(2)), state, but(PEOPLE, nobody)) as run:
        assert last_dead(run.run(send())).cause == "recipients"


def test_the_second_part_goes_to_those_whom_the_first_reached(state: State) -> None:
    partly = (200, {"processQueryKey": "k", "invalidStaffIdList": ["u1"]})
    with acme(organisation(staff(3)), state, but(PEOPLE, partly)) as run:
        run.run(send("x" * 20_000))

        assert [body["userIds"] for body in bodies(run.far, PEOPLE)] == [["u1", "u2", "u3"], ["u2", "u3"]]


def test_people_known_by_their_mobile_are_looked_up_once(state: State) -> None:
    told = organisation(staff(2))
    told = dataclasses.replace(
        told,
        people={"p1": Person(name="p1", mobile="13800001111"), "p2": Person(name="p2", union_id="union-2")},
    )
    with acme(told, state) as run:
        ran = run.run(send())
        run.run(send())

        assert ran.senders == ["app.acme.lookup", "app.acme.lookup", "app.acme.people"]
        assert bodies(run.far, PEOPLE)[0]["userIds"] == ["user-of-1111", "user-of-union-2"]
        assert len(run.far.of("/topapi/")) == 2


def test_who_cannot_be_looked_up_does_not_hold_up_the_others(state: State) -> None:
    told = organisation(staff(2))
    told = dataclasses.replace(told, people={**told.people, "p1": Person(name="p1", mobile="13800001111")})
    gone = (200, {"errcode": 60121, "errmsg": "找不到该用户"})
    with acme(told, state, but("/topapi/v2/user/getbymobile", gone)) as run:
        ran = run.run(send())

        assert bodies(run.far, PEOPLE)[0]["userIds"] == ["u2"]
        assert isinstance(ran.last, Accepted)
        assert "p1 (mobile 138****1111)" in ran.last.why
        assert "13800001111" not in repr([ended for _, ended in ran.ends])


def test_a_mention_of_somebody_who_gets_the_message_is_fulfilled_by_it(state: State) -> None:
    with acme(organisation(staff(2)), state) as run:
        assert isinstance(run.run(send(mention=Mention(names=("p1",), everyone=True))).last, Accepted)


def test_a_mention_of_somebody_else_is_refused(state: State) -> None:
    with acme(organisation(staff(2)), state) as run:
        assert (
            "names people who do not get this message (p3)"
            in last_dead(run.run(send(mention=Mention(names=("p3",))))).why
        )


# --- Work notifications -----------------------------------------------------------------------------------------------


def test_notifications_go_to_a_hundred_people_a_call_and_await_their_result(state: State) -> None:
    with acme(organisation(staff(230, via="notice"), people=230), state) as run:
        ran = run.run(send())

        asked = run.far.of(NOTICE)
        assert [len(one.body["userid_list"].split(",")) for one in asked] == [100, 100, 30]
        assert asked[0].body["agent_id"] == 7
        assert asked[0].body["msg"] == {"msgtype": "text", "text": {"content": "hi"}}
        assert asked[0].query["access_token"].startswith("planted-token-")
        assert [task["people"]["u101"] for task in json.loads(ran.notes["tasks"]) if "u101" in task["people"]] == [
            "p101"
        ]
        assert ran.ends[-1][1].look_up_s is not None
        assert ran.receipt()["person.p230"] == "accepted"


def test_departments_go_twenty_a_call(state: State) -> None:
    everyone = Destination(name="team", app="acme", departments=tuple(range(1, 46)), via="notice")
    with acme(organisation(everyone), state) as run:
        run.run(send())

        assert [len(one.body["dept_id_list"].split(",")) for one in run.far.of(NOTICE)] == [20, 20, 5]


def test_the_same_text_may_be_made_another_one_and_is_the_same_at_each_attempt(state: State) -> None:
    with acme(organisation(staff(1, via="notice", unique=True)), state) as run:
        run.run(send())
        run.run(send())
        run.run(dataclasses.replace(send(), job_id="job-2"))

        texts = [one.body["msg"]["text"]["content"] for one in run.far.of(NOTICE)]
        assert texts[0] == texts[1] != texts[2]


# --- Todos ------------------------------------------------------------------------------------------------------------


def todo_of(run: Acme) -> dict[str, Any]:
    return dict(next(one.body for one in run.far.of(TODOS) if one.method == "POST"))


def test_work_becomes_a_todo_and_a_message_that_rings(state: State) -> None:
    due = datetime(2026, 12, 1, 9, tzinfo=UTC)
    with acme(organisation(BESIDE), state) as run:
        ran = run.run(assign(due=due, description="soon", priority="high"))

        assert ran.senders == ["app.acme.lookup", "app.acme.lookup", "app.acme.todo", "robot.ops"]
        (asked,) = run.far.of(TODOS)
        assert asked.path == "/v1.0/todo/users/union-of-u1/tasks"
        assert asked.query == {"operatorId": "union-of-u1"}
        assert asked.body == {
            "sourceId": "job-1",
            "subject": "Review",
            "description": "soon",
            "creatorId": "union-of-u1",
            "executorIds": ["union-of-u1", "union-of-u2"],
            "detailUrl": {"appUrl": URL, "pcUrl": URL},
            "dueTime": round(due.timestamp() * 1000),
            "priority": 30,
            "notifyConfigs": {"dingNotify": "0"},
        }
        (message,) = bodies(run.far, ROBOT)
        assert message["at"] == {"atUserIds": ["u1", "u2"]}
        assert URL in message["markdown"]["text"]
        assert isinstance(ran.last, Delivered)
        assert ran.ends[-1][1].keep_s == 180 * 86_400


def test_union_ids_are_looked_up_once(state: State) -> None:
    with acme(organisation(BESIDE), state) as run:
        run.run(assign())
        again = run.run(dataclasses.replace(assign(), job_id="job-2"))

        assert again.senders == ["app.acme.todo", "robot.ops"]


def test_a_mobile_is_resolved_in_two_steps(state: State) -> None:
    with acme(organisation(TEAM), state) as run:
        run.run(assign(to=Mention(mobiles=("13800001111",))))

        assert todo_of(run)["executorIds"] == ["union-of-user-of-1111"]


def test_without_a_webhook_robot_the_apps_own_tells_the_group_and_dingtalk_rings(state: State) -> None:
    with acme(organisation(TEAM), state) as run:
        ran = run.run(assign())

        assert ran.senders[-1] == "app.acme.group"
        assert todo_of(run)["notifyConfigs"] == {"dingNotify": "1"}
        assert "p1, p2" in json.loads(bodies(run.far, GROUP)[0]["msgParam"])["text"]


def test_where_there_is_no_group_the_todo_is_all(state: State) -> None:
    with acme(organisation(staff(2)), state) as run:
        ran = run.run(assign())

        assert ran.senders[-1] == "app.acme.todo"
        assert isinstance(ran.last, Delivered)


@pytest.mark.parametrize("url", ["", URL])
def test_the_address_is_the_jobs_or_the_configured_page(state: State, url: str) -> None:
    with acme(organisation(BESIDE, todo_url="https://a.cn/all"), state) as run:
        run.run(assign(url=url))

        assert todo_of(run)["detailUrl"]["pcUrl"] == url or "https://a.cn/all"
        assert (url or "https://a.cn/all") in bodies(run.far, ROBOT)[0]["markdown"]["text"]


def test_work_without_an_address_is_refused_before_anything_is_made(state: State) -> None:
    with acme(organisation(BESIDE), state) as run:
        dead = last_dead(run.run(assign(url="")))

        assert "set todo_url of apps.acme" in dead.why
        assert run.far.asked == []


def test_somebody_else_may_give_the_work(state: State) -> None:
    with acme(organisation(BESIDE, todo_creator="p3"), state) as run:
        run.run(assign())

        todo = todo_of(run)
        assert todo["creatorId"] == "union-of-u3"
        assert todo["executorIds"] == ["union-of-u1", "union-of-u2"]


def test_a_todo_that_an_earlier_attempt_made_is_found_and_the_job_goes_on(state: State) -> None:
    there = (400, {"code": "todo.taskCreate.paramError", "message": "task exist, taskId: x"})
    with acme(organisation(BESIDE), state, but("/v1.0/todo/users/union-of-u1/tasks", None, there)) as run:
        ran = run.run(assign())

        found = run.far.of("/v1.0/todo/users/union-of-u1/tasks/sources/job-1")
        assert [one.method for one in found] == ["GET"]
        assert json.loads(ran.notes["todo"])["id"].startswith("todo-")
        assert len(bodies(run.far, ROBOT)) == 1
        assert isinstance(ran.last, Delivered)


def test_a_todo_whose_id_cannot_be_asked_for_is_still_done(state: State) -> None:
    def answer(asked: Asked) -> Reply:
        if "/sources/" in asked.path:
            return 404, {"code": "InvalidAction.NotFound", "message": "x"}
        if asked.path.endswith("/tasks"):
            return 400, {"code": "todo.taskCreate.paramError", "message": "task exist"}
        return far_side(asked)

    with acme(organisation(BESIDE), state, answer) as run:
        ran = run.run(assign())

        assert json.loads(ran.notes["todo"])["id"] == ""
        assert isinstance(ran.last, Delivered)


def test_two_attempts_at_once_wait_for_each_other(state: State) -> None:
    busy = (400, {"code": "todo.taskCreate.lockError", "message": "x"})
    with acme(organisation(BESIDE), state, but("/v1.0/todo/users/union-of-u1/tasks", busy)) as run:
        ran = run.run(assign())

        assert any(isinstance(ended.outcome, Retry) for _, ended in ran.ends)
        assert isinstance(ran.last, Delivered)


@pytest.mark.parametrize(
    ("to", "path", "answer", "says"),
    [
        (Mention(mobiles=("13800001111",)), "/topapi/v2/user/getbymobile", (200, {"errcode": 60121, "errmsg": "x"}), "to: 138****1111 (mobile 138****1111): there is no such person"),
        (Mention(mobiles=("13800001111",)), "/topapi/v2/user/getbymobile", (200, {"errcode": 40104, "errmsg": "x"}), "it is no mobile number"),
        (Mention(names=("p1",)), "/topapi/v2/user/get", (200, {"errcode": 33012, "errmsg": "x"}), "to: p1 (user id u1): there is no such person"),
        (Mention(user_ids=("zz",)), "/topapi/v2/user/get", (200, {"errcode": "50002", "errmsg": "x"}), "to: user:zz (user id zz): these people are outside"),
        (Mention(user_ids=("zz",)), "/topapi/v2/user/get", (200, {"errcode": 0, "result": {"unionid": ""}}), "to: user:zz (user id zz): "),
        (Mention(names=("zoe",)), "/none", (200, {}), "to: 'zoe' is not in the fleet's [people]"),
        (Mention(names=("p4",)), "/none", (200, {}), "p4 of [people] has neither a mobile nor a user_id"),
    ],
)  # fmt: skip
def test_somebody_who_cannot_be_found_is_named_with_the_kind_of_id(
    state: State, to: Mention, path: str, answer: Reply, says: str
) -> None:
    told = organisation(BESIDE)
    told = dataclasses.replace(told, people={**told.people, "p4": Person(name="p4")})
    with acme(told, state, but(path, answer)) as run:
        dead = last_dead(run.run(assign(to=to)))

        assert says in dead.why
        assert dead.cause in {"recipients", "content"}
        assert run.far.of(TODOS) == []


def test_an_id_that_dingtalk_does_not_know_any_more_is_looked_up_anew(state: State) -> None:
    gone = (400, {"code": "staffId.notExisted", "message": "x"})
    with acme(organisation(BESIDE), state, but("/v1.0/todo/", gone)) as run:
        assert last_dead(run.run(assign())).cause == "recipients"
        lookups = len(run.far.of("/topapi/"))

        run.run(dataclasses.replace(assign(), job_id="job-2"))

        assert len(run.far.of("/topapi/")) == 2 * lookups


def test_a_lookup_that_nobody_answers_is_asked_again_and_not_held_for_a_person(state: State) -> None:
    with acme(organisation(BESIDE), state, but("/topapi/v2/user/get", None)) as run:
        ran = run.run(assign())

        assert isinstance(ran.ends[1][1].outcome, Retry)


def test_people_by_user_id_union_id_mobile_and_name_are_one_todo_and_all_are_rung(state: State) -> None:
    """B81: three kinds of id, mixed."""
    told = organisation(BESIDE)
    told = dataclasses.replace(told, people={**told.people, "p4": Person(name="p4", union_id="un4")})
    to = Mention(names=("p1", "p4"), mobiles=("13800001111",), user_ids=("u9",), union_ids=("un/5",))
    with acme(told, state) as run:
        ran = run.run(assign(to=to))

        assert todo_of(run)["executorIds"] == [
            "union-of-u1", "un4", "union-of-u9", "un/5", "union-of-user-of-1111",
        ]  # fmt: skip
        (message,) = bodies(run.far, ROBOT)
        assert message["at"] == {
            "atMobiles": ["13800001111"],
            "atUserIds": ["u9", "u1", "user-of-un4", "user-of-un/5"],
        }
        assert ran.senders[-2:] == ["app.acme.todo", "robot.ops"]
        again = run.run(dataclasses.replace(assign(to=to), job_id="job-2"))
        assert again.senders == ["app.acme.todo", "robot.ops"]


def test_somebody_whom_nothing_rings_stops_the_work_before_a_todo_is_made(state: State) -> None:
    gone = (200, {"errcode": 60121, "errmsg": "x"})
    with acme(organisation(BESIDE), state, but("/topapi/user/getbyunionid", gone)) as run:
        dead = last_dead(run.run(assign(to=Mention(union_ids=("un5",)))))

        assert "to: union:un5 (union id un5): there is no such person" in dead.why
        assert run.far.of(TODOS) == []


def test_an_id_forgotten_between_todo_and_message_is_looked_up_again_and_the_message_is_whole(state: State) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path.startswith(TODOS):
            for key in state.redis.scan_iter(state.key("person:*")):
                state.redis.delete(key)
        return far_side(asked)

    with acme(organisation(BESIDE), state, answer) as run:
        ran = run.run(assign(to=Mention(union_ids=("un5",))))

        assert len(bodies(run.far, ROBOT)) == 1
        assert isinstance(ran.last, Delivered)


def test_a_long_subject_and_description_are_cut_and_a_character_is_never(state: State) -> None:
    with acme(organisation(staff(2)), state) as run:
        run.run(assign(subject="审" * 400, description="漢" * 2_000))

        todo = todo_of(run)
        assert len(todo["subject"].encode()) <= 1_024
        assert todo["subject"].endswith("审…")
        assert len(todo["description"].encode()) <= 4_096


# --- Who reads which file -----------------------------------------------------------------------------------------------


def test_a_sender_of_another_route_sends_the_job_on_and_then_complains(state: State) -> None:
    with acme(organisation(BESIDE), state) as run:
        first = run.delivery.attempt(send(), sender="robot.ops", step=0, notes={})
        again = run.delivery.attempt(send(), sender="robot.ops", step=0, notes=first.notes)

        assert isinstance(first.outcome, Snooze)
        assert (first.route, first.outcome.sent) == ("group", False)
        assert isinstance(again.outcome, Retry)
        assert again.outcome.cause == "configuration"
        assert run.far.asked == []


def test_a_sender_that_this_worker_does_not_know_is_sent_on_too(state: State) -> None:
    with acme(organisation(BESIDE), state) as run:
        ended = run.delivery.attempt(send(), sender="app.other.group", step=0, notes={})

        assert ended.route == "group"


def test_redis_away_before_a_call_costs_nothing(state: State) -> None:
    with acme(organisation(TEAM), state) as run:
        run.tokens._store = type(state.store)("redis://127.0.0.1:1/0", prefix="x:")  # a store of its own that is away

        ended = run.delivery.attempt(send(), sender="app.acme.group", step=0, notes={})

        assert isinstance(ended.outcome, Snooze)
        assert (ended.outcome.sent, ended.outcome.cause) == (False, "state")


def test_no_secret_and_no_text_is_in_what_attempts_leave(state: State) -> None:
    refusal = (400, {"code": "contain.notAllowed.text", "message": "salary 123 is not allowed, token planted-token-1"})
    with acme(organisation(TEAM), state, but(GROUP, refusal)) as run:
        ran = run.run(send("salary 123"))

        shown = repr([ended for _, ended in ran.ends]) + json.dumps(ran.notes)
        assert "planted" not in shown
        assert "salary 123" not in shown
