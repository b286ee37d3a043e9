"""Todos and the people behind them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
import requests

from dingqueue_worker.sandbox.client import App, Space
from support.sandbox import app_token, newer, older

TASKS = "/v1.0/todo/users/union-alice/tasks"


@pytest.fixture
def app(space: Space) -> App:
    space.person("alice", mobile="13800000000")
    space.person("bob", union_id="b/o+b==", mobile="+852-91234567")
    return space.app(name="acme")


@pytest.fixture
def token(space: Space, app: App) -> str:
    return app_token(space, app)


def todo(**more: Any) -> dict[str, Any]:
    return {
        "subject": "合同评审",
        "detailUrl": {"appUrl": "https://example.com/m", "pcUrl": "https://example.com"},
        "executorIds": ["b/o+b=="],
        **more,
    }


def test_one_is_made_and_stands_in_the_inbox(space: Space, token: str) -> None:
    body = todo(sourceId="job-1", dueTime=1_800_000_000_000, priority=40, description="第 3 条")

    answer = newer(space, "POST", TASKS, token, body, params={"operatorId": "union-alice"}).json()

    (made,) = space.todos(count=1)
    assert (made.id, made.subject, made.source_id, made.due_ms) == (
        answer["id"],
        "合同评审",
        "job-1",
        1_800_000_000_000,
    )
    assert (made.executors, made.creator, made.app, made.url) == (
        ("b/o+b==",),
        "union-alice",
        "acme",
        "https://example.com",
    )
    page = requests.get(f"{space.url}/", timeout=5).text
    assert "合同评审" in page
    assert "urgent" in page
    assert space.messages() == []


def test_a_source_id_is_unique_and_says_which_todo_has_it(space: Space, app: App, token: str) -> None:
    first = newer(space, "POST", TASKS, token, todo(sourceId="job-1")).json()["id"]

    again = newer(space, "POST", TASKS, token, todo(sourceId="job-1"))

    assert (again.status_code, again.json()["code"]) == (400, "todo.taskCreate.paramError")
    assert again.json()["message"] == f"task exist, taskId: {first}"
    assert newer(space, "GET", f"{TASKS}/sources/job-1", token).json()["id"] == first
    other = app_token(space, space.app(name="other"))
    assert newer(space, "POST", TASKS, other, todo(sourceId="job-1")).status_code == 200
    assert newer(space, "DELETE", f"{TASKS}/{first}", token).json()["result"] is True
    assert newer(space, "POST", TASKS, token, todo(sourceId="job-1")).status_code == 200


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subject": None}, "subject is invalid"),
        ({"subject": " "}, "subject is invalid"),
        ({"subject": "监" * 342}, "subject is oversize"),
        ({"description": "x" * 4_097}, "description is oversize"),
        ({"detailUrl": None}, "detailUrl is required"),
        ({"detailUrl": {}}, "detailUrl is required"),
        ({"detailUrl": "https://example.com"}, "detailUrl is required"),
        ({"detailUrl": {"pcUrl": "https://example.com/" + "x" * 1_024}}, "detailUrl is invalid"),
        ({"dueTime": 1_800_000_000}, "dueTime is invalid"),
        ({"dueTime": "2026-12-01"}, "dueTime is invalid"),
        ({"executorIds": ["bob"]}, "unionId is invalid"),
        ({"executorIds": "b/o+b=="}, "executors is invalid"),
        ({"executorIds": [""]}, "executors is invalid"),
        ({"priority": 15}, "priority is invalid"),
        ({"sourceId": 5}, "sourceId is invalid"),
    ],
)
def test_a_malformed_one_is_refused(space: Space, token: str, changes: dict[str, Any], words: str) -> None:
    body = {k: v for k, v in (todo() | changes).items() if v is not None}

    refused = newer(space, "POST", TASKS, token, body)

    assert (refused.status_code, refused.json()["code"]) == (400, "todo.taskCreate.paramError")
    assert refused.json()["message"] == words
    assert space.todos() == []


def test_a_user_id_in_a_union_id_s_place_is_named(space: Space, token: str) -> None:
    newer(space, "POST", "/v1.0/todo/users/alice/tasks", token, todo())

    (call,) = space.calls(2, path="/v1.0/todo", state="any")
    assert "it is a userId, and todos want unionIds" in call.reason


def test_a_union_id_with_a_slash_arrives_whole(space: Space, token: str) -> None:
    path = f"/v1.0/todo/users/{quote('b/o+b==', safe='')}/tasks"

    assert newer(space, "POST", path, token, todo()).status_code == 200
    assert space.todos(count=1)[0].creator == "b/o+b=="


def test_it_is_changed_finished_and_deleted(space: Space, token: str) -> None:
    task_id = newer(space, "POST", TASKS, token, todo()).json()["id"]

    assert newer(space, "PUT", f"{TASKS}/{task_id}", token, {"subject": "新", "dueTime": 5}).status_code == 400
    assert space.todos()[0].subject == "合同评审"
    assert newer(space, "PUT", f"{TASKS}/{task_id}", token, {"subject": "新"}).json()["result"] is True
    done = {"executorStatusList": [{"id": "b/o+b==", "isDone": True}]}
    assert newer(space, "PUT", f"{TASKS}/{task_id}/executorStatus", token, done).json()["result"] is True
    (one,) = space.todos()
    assert (one.subject, one.done, one.done_by) == ("新", True, ("b/o+b==",))
    assert newer(space, "DELETE", f"{TASKS}/{task_id}", token).json()["result"] is True
    gone = newer(space, "DELETE", f"{TASKS}/{task_id}", token)
    assert (gone.json()["code"], gone.json()["message"]) == ("todo.taskDelete.paramError", "task not exist")
    assert space.todos()[0].deleted


def test_only_its_app_may_change_it(space: Space, token: str) -> None:
    task_id = newer(space, "POST", TASKS, token, todo()).json()["id"]
    other = app_token(space, space.app(name="other"))

    refused = newer(space, "PUT", f"{TASKS}/{task_id}", other, {"done": True})

    assert refused.json()["message"] == "task not belong to bizTag"


def test_a_personal_todo_wants_a_user_s_token(space: Space, token: str) -> None:
    refused = newer(space, "POST", "/v1.0/todo/users/me/personalTasks", token, todo())

    assert refused.json()["code"] == "todo.taskCreate.tokenTypeError"


class TestPeople:
    def test_they_are_found_by_each_of_their_ids(self, space: Space, token: str) -> None:
        assert (
            older(space, "/topapi/v2/user/getbymobile", token, {"mobile": "13800000000"})["result"]["userid"] == "alice"
        )
        assert older(space, "/topapi/v2/user/get", token, {"userid": "bob"})["result"]["unionid"] == "b/o+b=="
        assert older(space, "/topapi/user/getbyunionid", token, {"unionid": "b/o+b=="})["result"]["userid"] == "bob"

    @pytest.mark.parametrize(
        ("path", "body", "errcode"),
        [
            ("/topapi/v2/user/get", {"userid": "nobody"}, 60121),
            ("/topapi/v2/user/get", {}, 400002),
            ("/topapi/v2/user/getbymobile", {"mobile": "13900000000"}, 60121),
            ("/topapi/v2/user/getbymobile", {"mobile": "soon"}, 40104),
            ("/topapi/v2/user/getbymobile", {"mobile": 13800000000}, 40104),
            ("/topapi/user/getbyunionid", {"unionid": "nobody"}, 60121),
        ],
    )
    def test_nobody_is_nobody(self, space: Space, token: str, path: str, body: dict[str, Any], errcode: int) -> None:
        assert older(space, path, token, body)["errcode"] == errcode
