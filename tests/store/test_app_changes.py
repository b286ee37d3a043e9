"""Changes to what earlier jobs left at DingTalk, over real sockets: which calls they make, and what stays."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from dingqueue.contract import Action, ChangeJob, Mention
from dingqueue_worker.outcome import Dead, Delivered, Retry, Snooze, Unknown
from dingqueue_worker.settings import Destination
from support.acme import Ran, acme, bodies, but, far_side, organisation
from support.answering import Asked, Reply
from support.state import State

TEAM = Destination(name="team", app="acme", conversation="cid1")
BESIDE = Destination(name="team", app="acme", conversation="cid1", robots=("ops",))
TODO = {"id": "t/1", "creator": "un 1", "executors": ["un1"]}
GROUP, PEOPLE = "/v1.0/robot/groupMessages/recall", "/v1.0/robot/otoMessages/batchRecall"
NOTICE, TASK = "/topapi/message/corpconversation/recall", "/v1.0/todo/users/un%201/tasks/t%2F1"


def change(action: Action = "recall", **more: Any) -> ChangeJob:
    left = more.pop("left", {"todo": TODO})
    return ChangeJob(job_id="job-2", destination="team", of="job-1", action=action, left=json.dumps(left), **more)


def sent(*messages: tuple[str, str, str]) -> dict[str, Any]:
    return {"recall": [list(message) for message in messages]}


def taken_back(asked: Asked) -> Reply:
    """Takes everything back."""
    if asked.path in {GROUP, PEOPLE}:
        return 200, {"successResult": asked.body["processQueryKeys"], "failedResult": {}}
    if asked.path == NOTICE:
        return 200, {"errcode": 0, "errmsg": "ok"}
    if asked.path == TASK:
        return 200, {"result": True, "requestId": "r"}
    return far_side(asked)


def dead(ran: Ran) -> Dead:
    assert isinstance(ran.last, Dead), ran.last
    return ran.last


def test_messages_are_taken_back_twenty_a_call_and_each_group_by_itself(state: State) -> None:
    left = sent(*(("group", f"k{at}", "cid1") for at in range(25)), ("group", "x", "cid2"), ("people", "p", ""))
    with acme(organisation(TEAM), state, taken_back) as run:
        ran = run.run(change(left=left))

        asked = bodies(run.far, GROUP)
        assert [(one["openConversationId"], len(one["processQueryKeys"])) for one in asked] == [
            ("cid1", 20), ("cid1", 5), ("cid2", 1),
        ]  # fmt: skip
        assert bodies(run.far, PEOPLE) == [{"robotCode": "code-1", "processQueryKeys": ["p"]}]
        mark = ran.ends[-1][1].mark
        assert mark is not None
        assert (mark.job_id, mark.state, mark.why) == ("job-1", "cancelled", "taken back from DingTalk")
        assert set(ran.senders) == {"app.acme.recall"}


def test_notifications_are_taken_back_one_a_call(state: State) -> None:
    with acme(organisation(TEAM), state, taken_back) as run:
        run.run(change(left=sent(("notice", "11", ""), ("notice", "12", ""))))

        assert bodies(run.far, NOTICE) == [{"agent_id": 7, "msg_task_id": 11}, {"agent_id": 7, "msg_task_id": 12}]


def test_a_todo_goes_by_its_own_call_and_the_webhook_robots_message_stays(state: State) -> None:
    with acme(organisation(BESIDE), state, taken_back) as run:
        ran = run.run(change(left={"todo": TODO}))

        (asked,) = run.far.of("/v1.0/todo/")
        assert (asked.method, asked.path, asked.query) == ("DELETE", TASK, {"operatorId": "un 1"})
        mark = ran.ends[-1][1].mark
        assert mark is not None
        assert mark.why is not None
        assert "the webhook robot's message stays" in mark.why
        assert ran.senders == ["app.acme.todo"]


def test_a_todo_that_is_gone_already_is_what_was_asked_for(state: State) -> None:
    gone = (400, {"code": "todo.taskDelete.paramError", "message": "task not exist"})
    with acme(organisation(TEAM), state, but("/v1.0/todo/", gone)) as run:
        assert isinstance(run.run(change()).last, Delivered)


def test_what_stays_is_told_and_the_rest_is_taken_back_all_the_same(state: State) -> None:
    left = sent(("group", "k1", "cid1"), ("group", "k2", "cid1"), ("people", "p", ""))

    def answer(asked: Asked) -> Reply:
        if asked.path == GROUP:
            return 200, {"successResult": ["k1"], "failedResult": {"k2": "过期"}}
        return taken_back(asked)

    with acme(organisation(TEAM), state, answer) as run:
        ran = run.run(change(left=left))

        assert dead(ran).why == "1 of 3 could not be taken back: 过期"
        assert len(bodies(run.far, PEOPLE)) == 1
        mark = ran.ends[-1][1].mark
        assert mark is not None
        assert (mark.state, mark.why) == (None, "could not be taken back: 1 of 3 could not be taken back: 过期")


@pytest.mark.parametrize(
    "nothing", [{"successResult": [], "failedResult": {}}, {"successResult": [], "failedResult": {"k1": "x"}}, {}]
)
def test_an_answer_that_names_nothing_taken_back_is_no_success(state: State, nothing: dict[str, Any]) -> None:
    with acme(organisation(TEAM), state, but(GROUP, (200, nothing))) as run:
        assert dead(run.run(change(left=sent(("group", "k1", "cid1"))))).cause == "recall"


def test_a_notification_that_is_too_old_stays_with_the_reason(state: State) -> None:
    late = (200, {"errcode": 400002, "errmsg": "参数错误"})
    with acme(organisation(TEAM), state, but(NOTICE, late)) as run:
        assert "400002" in dead(run.run(change(left=sent(("notice", "11", ""))))).why


def test_nothing_is_left_is_told(state: State) -> None:
    with acme(organisation(TEAM), state) as run:
        assert "nothing is left" in dead(run.run(change(left={}))).why


def test_a_recall_that_meets_trouble_is_tried_again(state: State) -> None:
    with acme(organisation(TEAM), state, but(GROUP, (500, {"code": "unknownError"}), None, (403, {"code": "x.QpsLimitForApi"}))) as run:  # fmt: skip
        ran = run.run(change(left=sent(("group", "k1", "cid1"))))

        kinds = [type(ended.outcome) for _, ended in ran.ends]
        assert kinds[:3] == [Retry, Unknown, Snooze]


def test_work_is_closed(state: State) -> None:
    with acme(organisation(TEAM), state, taken_back) as run:
        ran = run.run(change("complete"))

        (asked,) = run.far.of(TASK)
        assert (asked.method, asked.query, asked.body) == ("PUT", {"operatorId": "un 1"}, {"done": True})
        mark = ran.ends[-1][1].mark
        assert mark is not None
        assert (mark.job_id, dict(mark.receipt)) == ("job-1", {"todo": "done"})


def test_work_is_given_to_others_who_are_looked_up(state: State) -> None:
    due = datetime(2026, 12, 1, 9, tzinfo=UTC)
    job = change("reassign", to=Mention(names=("p2",), mobiles=("13800001111",)), subject=" Sign\nit ", due=due)
    with acme(organisation(TEAM), state, taken_back) as run:
        ran = run.run(job)

        assert run.far.of(TASK)[0].body == {
            "executorIds": ["union-of-u2", "union-of-user-of-1111"],
            "subject": "Sign it",
            "dueTime": round(due.timestamp() * 1000),
        }
        assert ran.senders[-1] == "app.acme.todo"
        assert set(ran.senders[:-1]) == {"app.acme.lookup"}
        mark = ran.ends[-1][1].mark
        assert mark is not None
        assert mark.receipt["assigned_to"] == "p2, 138****1111"


@pytest.mark.parametrize(
    ("to", "path", "answer", "says"),
    [
        (Mention(names=("zoe",)), "/none", (200, {}), "zoe is not in the fleet's [people]"),
        (Mention(user_ids=("zz",)), "/topapi/v2/user/get", (200, {"errcode": 60121}), "user:zz (user id zz): there is no such person"),
    ],
)  # fmt: skip
def test_work_for_somebody_unknown_changes_nothing_and_says_so_on_the_job(
    state: State, to: Mention, path: str, answer: Reply, says: str
) -> None:
    with acme(organisation(TEAM), state, but(path, answer)) as run:
        ran = run.run(change("reassign", to=to))

        assert says in dead(ran).why
        assert run.far.of(TASK) == []


def test_a_todo_whose_id_nobody_saw_cannot_be_changed_from_here(state: State) -> None:
    with acme(organisation(TEAM), state) as run:
        ran = run.run(change("complete", left={"todo": TODO | {"id": ""}}))

        assert "close it in DingTalk" in dead(ran).why
        mark = ran.ends[-1][1].mark
        assert mark is not None
        assert mark.why is not None
        assert mark.why.startswith("could not be closed: ")
        assert run.far.asked == []


def test_another_apps_todo_stays_as_it_is(state: State) -> None:
    foreign = (400, {"code": "todo.taskUpdate.paramError", "message": "task not belong to bizTag"})
    with acme(organisation(TEAM), state, but("/v1.0/todo/", foreign)) as run:
        assert "not belong to bizTag" in dead(run.run(change("complete"))).why


# --- Who has read it --------------------------------------------------------------------------------------------------

READ = "/v1.0/robot/groupMessages/query"


def test_who_has_read_a_message_is_counted_over_parts_and_pages(state: State) -> None:
    """B33: a check can be run."""
    pages = [
        (200, {"readUserIds": ["u1", "u2"], "hasMore": True, "nextToken": "n1"}),
        (200, {"readUserIds": ["u3"], "hasMore": False, "nextToken": ""}),
        (200, {"readUserIds": ["u1"], "hasMore": False}),
    ]
    with acme(organisation(TEAM), state, but(READ, *pages)) as run:
        ran = run.run(change("check", left=sent(("group", "k1", "cid1"), ("group", "k2", "cid1"))))

        asked = bodies(run.far, READ)
        assert [(one["processQueryKey"], one.get("nextToken")) for one in asked] == [
            ("k1", None), ("k1", "n1"), ("k2", None),
        ]  # fmt: skip
        mark = ran.ends[-1][1].mark
        assert mark is not None
        assert (mark.job_id, mark.state, mark.receipt["read_by"]) == ("job-1", None, "3")
        assert mark.receipt["checked_at"].endswith("+00:00")


def test_each_route_tells_in_its_own_way(state: State) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path == "/v1.0/robot/oToMessages/readStatus":
            assert asked.query == {"robotCode": "code-1", "processQueryKey": "a+b/="}
            people = [{"userId": "u1", "readStatus": "READ"}, {"userId": "u2", "readStatus": "UNREAD"}]
            return 200, {"sendStatus": "SUCCESS", "messageReadInfoList": people}
        if asked.path == "/topapi/message/corpconversation/getsendresult":
            return 200, {"errcode": 0, "send_result": {"read_user_id_list": ["u3"], "unread_user_id_list": ["u1"]}}
        return far_side(asked)

    with acme(organisation(TEAM), state, answer) as run:
        ran = run.run(change("check", left=sent(("people", "a+b/=", ""), ("notice", "11", ""))))

        assert ran.receipt()["read_by"] == "2"


def test_a_look_that_fails_leaves_no_mark_on_the_job(state: State) -> None:
    old = (400, {"code": "invalidParameter.msgKey", "message": "x"})
    with acme(organisation(TEAM), state, but(READ, None, old)) as run:
        ran = run.run(change("check", left=sent(("group", "k1", "cid1"))))

        assert isinstance(ran.ends[0][1].outcome, Retry), "a question may be asked again whoever holds unknown ends"
        assert dead(ran).sent
        assert ran.ends[-1][1].mark is None
