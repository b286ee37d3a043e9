"""Whatever comes, the sandbox answers, and its pages can show it."""

from __future__ import annotations

import copy
import json
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dingqueue_worker.sandbox import explain, inbox, search, view
from dingqueue_worker.sandbox.model import App, Person, Robot, Rules
from dingqueue_worker.sandbox.organisation import ApiRequest
from dingqueue_worker.sandbox.space import ROUTES, Space
from dingqueue_worker.sandbox.webhook import Request

#: Half surrogate pairs too, which JSON can escape and UTF-8 cannot carry.
WORDS = st.text(st.characters(), max_size=12) | st.sampled_from(
    ["@13800000000", "http://[", "\x00", "<b>", "\ud83d", "1", ""]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
BUTTON = {"title": "t", "actionURL": "https://example.com", "action_url": "https://example.com"}
MESSAGES: list[dict[str, Any]] = [
    {"msgtype": "text", "text": {"content": "@bob"}, "at": {"atUserIds": ["bob"], "isAtAll": True}, "msgUuid": "u"},
    {"msgtype": "markdown", "markdown": {"title": "t", "text": "# x"}},
    {"msgtype": "link", "link": {"title": "t", "text": "x", "messageUrl": "https://example.com", "picUrl": ""}},
    {"msgtype": "actionCard", "actionCard": {"title": "t", "text": "x", "btns": [BUTTON], "btnOrientation": "0"}},
    {
        "msgtype": "feedCard",
        "feedCard": {"links": [{"title": "t", "messageURL": "https://example.com", "picURL": "x"}]},
    },
]
CALLS: list[dict[str, Any]] = [
    {"robotCode": "r", "openConversationId": "cid", "userIds": ["bob"], "msgKey": "sampleFile", "msgParam": '{"mediaId": "@x", "fileName": "a", "fileType": "pdf"}'},
    {"robotCode": "r", "openConversationId": "cid", "userIds": ["bob"], "msgKey": "sampleActionCard2", "msgParam": '{"title": "\\ud83d", "text": "x", "actionTitle1": "a", "actionURL1": "b", "actionTitle2": "c", "actionURL2": "d"}'},
    {"robotCode": "r", "openConversationId": "cid", "processQueryKeys": ["x"], "processQueryKey": "x"},
    {"agent_id": 7, "userid_list": "bob", "msg": {"msgtype": "action_card", "action_card": {"title": "t", "markdown": "x", "btn_json_list": [BUTTON]}}},
    {"agent_id": 7, "userid_list": "bob", "msg": {"msgtype": "oa", "oa": {"body": {"title": "t"}}}, "task_id": 1, "msg_task_id": 1},
    {"subject": "s", "detailUrl": {"pcUrl": "https://example.com"}, "executorIds": ["union-bob"], "dueTime": 1_800_000_000_000, "sourceId": "x", "priority": 10, "executorStatusList": [{"id": "union-bob", "isDone": True}]},
    {"userid": "bob", "mobile": "13800000000", "unionid": "union-bob"},
]  # fmt: skip


GROUP = next(route for route in ROUTES if route.path.endswith("groupMessages/send"))
TODO = next(route for route in ROUTES if route.way == "todo" and "union_id" in route.path)


@st.composite
def bent(draw: st.DrawFn, bodies: list[dict[str, Any]]) -> Any:
    """A good body with something else in up to three of its places."""
    body: Any = copy.deepcopy(draw(st.sampled_from(bodies)))
    for _ in range(draw(st.integers(0, 3))):
        at: Any = body
        while isinstance(at, dict | list) and at:
            key = draw(st.sampled_from(sorted(at))) if isinstance(at, dict) else draw(st.integers(0, len(at) - 1))
            if not isinstance(at[key], dict | list) or not at[key] or draw(st.integers(0, 2)) == 0:
                at[key] = draw(JSON)
                break
            at = at[key]
    return body


def new_space() -> Space:
    space = Space("", Rules())
    space.put_robot(Robot(token="t", name="ops", keywords=("x", "t", "@"), limit=1_000_000))  # nobody's
    space.put_app(App(key="k", secret="s", name="acme", agent_id=7, robot_code="r", per_second=1_000_000))
    space.organisation.put_person(Person(user_id="bob", union_id="union-bob", name="Bob"))
    return space


def look(space: Space) -> None:
    """Everything that the pages and the control API do with a message."""
    one = space.messages[-1]
    json.dumps(view.message(one), ensure_ascii=False).encode()
    str(inbox.card(space, one, pictures=True)).encode(errors="surrogatepass")
    explain.steps(one)
    explain.places(one)
    explain.curl(one, "http://127.0.0.1")
    explain.answer(one)
    search.parse("is:warned kind:text words").fits(one)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(bent(MESSAGES) | JSON, st.booleans())
def test_any_body_to_a_robot_is_answered(body: Any, escaped: bool) -> None:
    space = new_space()
    raw = json.dumps(body, ensure_ascii=escaped).encode(errors="surrogatepass")

    reply = space.robot_send(
        Request(method="POST", query="access_token=t", content_type="application/json", body=raw, ip="127.0.0.1"), "x:1"
    )

    assert "errcode" in json.loads(reply.body)
    look(space)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.text(max_size=30), st.text(max_size=30), st.sampled_from(["GET", "POST", "PUT"]))
def test_any_request_to_a_robot_is_answered(body: bytes, query: str, content_type: str, method: str) -> None:
    space = new_space()

    space.robot_send(
        Request(method=method, query=quote(query, safe="&=+%"), content_type=content_type, body=body, ip="?"), "x:1"
    )

    look(space)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(ROUTES), bent(CALLS) | JSON, st.booleans())
@example(GROUP, CALLS[1], True)
@example(TODO, CALLS[5] | {"subject": "\ud83d"}, True)
@example(TODO, CALLS[5] | {"subject": "\ud83d"}, False)
def test_any_body_to_any_call_is_answered(route: Any, body: Any, escaped: bool) -> None:
    space = new_space()
    token, _ = space.organisation._token_for("k", "s", space.rules, space.clock.now_ms(), AssertionError())  # type: ignore[arg-type]  # not to be raised
    raw = json.dumps(body, ensure_ascii=escaped).encode(errors="surrogatepass")
    request = ApiRequest(
        method=route.method,
        path=route.path.format(union_id="union-bob", task_id="x", source_id="x"),
        query=f"access_token={token}&processQueryKey=x",
        content_type="application/json",
        header_token=token,
        body=raw,
    )

    for _ in range(2):
        assert isinstance(json.loads(space.api(request, "x:1").body), dict)
        look(space)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["b", "", '"b"', "--"]))
def test_any_upload_is_answered(body: bytes, boundary: str) -> None:
    space = new_space()
    token, _ = space.organisation._token_for("k", "s", space.rules, space.clock.now_ms(), AssertionError())  # type: ignore[arg-type]  # not to be raised
    head = b'--b\r\nContent-Disposition: form-data; name="media"; filename="a.pdf"\r\n'
    for raw in (body, head + body, head + b"\r\n" + body + b"\r\n--b--\r\n"):
        request = ApiRequest(
            method="POST",
            path="/media/upload",
            query=f"access_token={token}&type=file",
            content_type=f"multipart/form-data; boundary={boundary}",
            header_token="",
            body=raw,
        )
        assert "errcode" in json.loads(space.api(request, "x:1").body)
        look(space)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_search_can_be_typed(text: str) -> None:
    space = new_space()
    request = Request(method="POST", query="access_token=t", content_type="application/json", body=b"{}", ip="?")
    space.robot_send(request, "x:1")

    search.parse(text).fits(space.messages[-1])
