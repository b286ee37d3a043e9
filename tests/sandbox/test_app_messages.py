"""What apps send: robot messages to groups and people, work notifications, files."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import requests

from dingqueue_worker.sandbox.client import App, Space
from support.sandbox import app_token, newer, older

GROUP = "/v1.0/robot/groupMessages/send"
PEOPLE = "/v1.0/robot/oToMessages/batchSend"
NOTICES = "/topapi/message/corpconversation"


@pytest.fixture
def app(space: Space) -> App:
    for name in ("alice", "bob", "carol"):
        space.person(name)
    return space.app(name="acme", agent_id=77, robot_code="dingrobot", conversations=["cidProject"])


@pytest.fixture
def token(space: Space, app: App) -> str:
    return app_token(space, app)


def template(key: str, /, **param: Any) -> dict[str, Any]:
    return {"robotCode": "dingrobot", "msgKey": key, "msgParam": json.dumps(param, ensure_ascii=False)}


def to_group(key: str, /, **param: Any) -> dict[str, Any]:
    return template(key, **param) | {"openConversationId": "cidProject"}


def upload(space: Space, token: str, name: str, content: bytes, kind: str = "file") -> dict[str, Any]:
    return older(space, "/media/upload", token, files={"media": (name, content)}, query={"type": kind})


class TestGroups:
    @pytest.mark.parametrize(
        ("key", "param", "kind"),
        [
            ("sampleText", {"content": "x"}, "text"),
            ("sampleMarkdown", {"title": "t", "text": "# x"}, "markdown"),
            ("sampleLink", {"title": "t", "text": "x", "messageUrl": "https://example.com"}, "link"),
            (
                "sampleActionCard",
                {"title": "t", "text": "x", "singleTitle": "a", "singleURL": "https://e.com"},
                "actionCard",
            ),
            (
                "sampleActionCard2",
                {
                    "title": "t",
                    "text": "x",
                    "actionTitle1": "a",
                    "actionURL1": "b",
                    "actionTitle2": "c",
                    "actionURL2": "d",
                },
                "actionCard",
            ),
            (
                "sampleActionCard6",
                {
                    "title": "t",
                    "text": "x",
                    "buttonTitle1": "a",
                    "buttonUrl1": "b",
                    "buttonTitle2": "c",
                    "buttonUrl2": "d",
                },
                "actionCard",
            ),
            ("sampleImageMsg", {"photoURL": "https://example.com/a.png"}, "sampleImageMsg"),
        ],
    )
    def test_every_template_is_taken(
        self, space: Space, token: str, key: str, param: dict[str, str], kind: str
    ) -> None:
        answer = newer(space, "POST", GROUP, token, to_group(key, **param)).json()

        (message,) = space.messages(count=1)
        assert (message.way, message.group, message.kind, message.key) == (
            "group",
            "cidProject",
            kind,
            answer["processQueryKey"],
        )
        for name in param:
            incomplete = {field: value for field, value in param.items() if field != name}
            refused = newer(space, "POST", GROUP, token, to_group(key, **incomplete))
            assert refused.status_code == 400
            assert refused.json()["code"].startswith("miss.param.")

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"robotCode": None}, "invalidParameter.robotCode.empty"),
            ({"openConversationId": None}, "miss.openConversationId"),
            ({"openConversationId": "cidElsewhere"}, "invalid.openConversationId"),
            ({"msgKey": None}, "invalidParameter.msgKey.empty"),
            ({"msgKey": "sampleFeed"}, "invalidParameter.msgKey.invalid"),
            ({"msgParam": None}, "invalidParameter.msgParam.invalid"),
            ({"msgParam": {"content": "x"}}, "invalidParameter.msgParam.invalid"),
            ({"msgParam": "hello"}, "invalidParameter.msgParam.invalid"),
            ({"msgParam": "[]"}, "invalidParameter.msgParam.invalid"),
            ({"msgParam": json.dumps({"content": "x" * 15_000})}, "invalidParameter.msgParam.tooLong"),
        ],
    )
    def test_a_malformed_message_is_refused(self, space: Space, token: str, changes: dict[str, Any], code: str) -> None:
        body = {k: v for k, v in (to_group("sampleText", content="x") | changes).items() if v is not None}

        refused = newer(space, "POST", GROUP, token, body)

        assert (refused.status_code, refused.json()["code"]) == (400, code)
        (message,) = space.messages(count=1, state="refused")
        assert message.reason
        assert message.way == "group"

    def test_a_stopped_robot_says_so(self, space: Space, app: App, token: str) -> None:
        space.app(app.key, app.secret, name=app.name, robot_code="dingrobot", state="stopped")

        assert newer(space, "POST", GROUP, token, to_group("sampleText", content="x")).json()["code"] == "bot.stopped"

    def test_nobody_is_rung(self, space: Space, token: str) -> None:
        newer(space, "POST", GROUP, token, to_group("sampleText", content="@13800000000 hi"))

        (message,) = space.messages(count=1)
        assert message.rings == ()
        assert "rings nobody" in message.warnings[0]

    def test_recalls_reach_their_own_messages_for_a_day(self, space: Space, token: str) -> None:
        space.set_clock(1_700_000_000_000, stands=True)
        token = app_token(space, space.app("k", "s", name="b", robot_code="dingb", token_life_s=1_000_000))
        body = to_group("sampleText", content="x") | {"robotCode": "dingb"}
        old = newer(space, "POST", GROUP, token, body).json()["processQueryKey"]
        space.advance(86_400)
        new = newer(space, "POST", GROUP, token, body).json()["processQueryKey"]
        recall = {"robotCode": "dingb", "openConversationId": "cidProject", "processQueryKeys": [new, old, "nothing"]}

        answer = newer(space, "POST", "/v1.0/robot/groupMessages/recall", token, recall).json()

        assert answer["successResult"] == [new]
        assert set(answer["failedResult"]) == {old, "nothing"}
        assert [one.recalled for one in space.messages(count=2)] == [False, True]


class TestPeople:
    def test_an_answer_may_be_partial(self, space: Space, token: str) -> None:
        space.person("carol", held_back=1)
        space.person("gone", active=False)
        body = template("sampleText", content="x") | {"userIds": ["alice", "nobody", "carol", "gone"]}

        first = newer(space, "POST", PEOPLE, token, body).json()
        second = newer(space, "POST", PEOPLE, token, body).json()

        assert (first["invalidStaffIdList"], first["flowControlledStaffIdList"]) == (["nobody", "gone"], ["carol"])
        assert second["flowControlledStaffIdList"] == []
        assert [one.to for one in space.messages(count=2)] == [("alice",), ("alice", "carol")]

    def test_when_it_reaches_nobody_nobody_sees_it(self, space: Space, token: str) -> None:
        assert newer(space, "POST", PEOPLE, token, template("sampleText", content="x") | {"userIds": ["nobody"]}).ok

        assert space.messages() == []
        assert "nobody knows nobody" in space.messages(1, state="failed")[0].note

    @pytest.mark.parametrize(
        ("users", "code"),
        [
            ([], "invalidParameter.userIds.empty"),
            (None, "invalidParameter.userIds.empty"),
            ([""], "invalidParameter.userIds.empty"),
            ("alice", "invalidParameter.userIds.empty"),
            ([f"u{number}" for number in range(21)], "invalidParameter.userIds.overMax"),
        ],
    )
    def test_twenty_at_a_time_and_not_none(self, space: Space, token: str, users: Any, code: str) -> None:
        body = template("sampleText", content="x") | {"userIds": users}

        assert newer(space, "POST", PEOPLE, token, body).json()["code"] == code

    def test_read_status_and_recall(self, space: Space, token: str) -> None:
        body = template("sampleText", content="x") | {"userIds": ["alice"]}
        key = newer(space, "POST", PEOPLE, token, body).json()["processQueryKey"]
        query = {"robotCode": "dingrobot", "processQueryKey": key}

        before = newer(space, "GET", "/v1.0/robot/oToMessages/readStatus", token, params=query).json()
        recall = {"robotCode": "dingrobot", "processQueryKeys": [key]}
        assert newer(space, "POST", "/v1.0/robot/otoMessages/batchRecall", token, recall).json()["successResult"] == [
            key
        ]
        after = newer(space, "GET", "/v1.0/robot/oToMessages/readStatus", token, params=query).json()
        unknown = newer(
            space, "GET", "/v1.0/robot/oToMessages/readStatus", token, params=query | {"processQueryKey": "x"}
        )

        assert (before["sendStatus"], after["sendStatus"]) == ("SUCCESS", "RECALLED")
        assert before["messageReadInfoList"][0]["userId"] == "alice"
        assert unknown.json()["code"] == "processQueryKey.expireTime"


class TestNotices:
    @staticmethod
    def notice(words: str = "hello", **more: Any) -> dict[str, Any]:
        return {
            "agent_id": 77,
            "userid_list": "alice,bob",
            "msg": {"msgtype": "text", "text": {"content": words}},
            **more,
        }

    def test_it_is_taken_and_its_result_asked_for(self, space: Space, token: str) -> None:
        sent = older(space, f"{NOTICES}/asyncsend_v2", token, self.notice(userid_list="alice,nobody"))
        result = older(space, f"{NOTICES}/getsendresult", token, {"agent_id": 77, "task_id": sent["task_id"]})
        progress = older(space, f"{NOTICES}/getsendprogress", token, {"agent_id": 77, "task_id": sent["task_id"]})

        assert (sent["errcode"], isinstance(sent["task_id"], int)) == (0, True)
        assert result["send_result"]["unread_user_id_list"] == ["alice"]
        assert result["send_result"]["invalid_user_id_list"] == ["nobody"]
        assert progress["progress"]["status"] == 2
        (message,) = space.messages(count=1)
        assert (message.way, message.to, message.text, message.key) == (
            "notice",
            ("alice",),
            "hello",
            str(sent["task_id"]),
        )

    def test_the_same_text_reaches_a_person_once_a_day_and_the_answer_lies(self, space: Space, token: str) -> None:
        for words in ("hello", "hello", "hello "):
            assert older(space, f"{NOTICES}/asyncsend_v2", token, self.notice(words))["errcode"] == 0
        third = older(space, f"{NOTICES}/asyncsend_v2", token, self.notice("hello", userid_list="alice,carol"))
        result = older(space, f"{NOTICES}/getsendresult", token, {"agent_id": 77, "task_id": third["task_id"]})

        assert [one.to for one in space.messages(count=3)] == [("alice", "bob"), ("alice", "bob"), ("carol",)]
        assert len(space.messages(1, state="failed")) == 1
        assert result["send_result"]["forbidden_list"] == [{"code": "143106", "count": 1, "userid": "alice"}]
        assert "dropped in silence" in space.messages(1, state="failed")[0].note

    def test_tomorrow_it_may_come_again(self, space: Space, app: App) -> None:
        space.set_clock(1_700_000_000_000, stands=True)
        older(space, f"{NOTICES}/asyncsend_v2", app_token(space, app), self.notice())
        space.advance(86_400)
        older(space, f"{NOTICES}/asyncsend_v2", app_token(space, app), self.notice())

        assert len(space.messages(count=2)) == 2

    def test_a_recall_takes_it_back(self, space: Space, token: str) -> None:
        task_id = older(space, f"{NOTICES}/asyncsend_v2", token, self.notice())["task_id"]

        assert older(space, f"{NOTICES}/recall", token, {"agent_id": 77, "task_id": task_id})["errcode"] == 400002
        assert older(space, f"{NOTICES}/recall", token, {"agent_id": 77, "msg_task_id": task_id})["errcode"] == 0
        assert space.messages(count=1)[0].recalled

    def test_a_form_will_do(self, space: Space, token: str) -> None:
        form = self.notice() | {"msg": json.dumps(self.notice()["msg"])}

        assert older(space, f"{NOTICES}/asyncsend_v2", token, data=form)["errcode"] == 0

    @pytest.mark.parametrize(
        ("changes", "errcode"),
        [
            ({"agent_id": 5}, 40056),
            ({"agent_id": None}, 40035),
            ({"userid_list": ["alice"]}, 40035),
            ({"userid_list": ""}, 40035),
            ({"userid_list": ",".join(f"u{number}" for number in range(101))}, 41029),
            ({"dept_id_list": "sales"}, 40035),
            ({"msg": None}, 40035),
            ({"msg": {"msgtype": "feed"}}, 40035),
            ({"msg": {"msgtype": "text", "text": {"content": ""}}}, 40035),
            ({"msg": {"msgtype": "text", "text": {"content": "x" * 2_048}}}, 41101),
            (
                {
                    "msg": {
                        "msgtype": "link",
                        "link": {"title": "x" * 101, "text": "x", "messageUrl": "x", "picUrl": "x"},
                    }
                },
                34016,
            ),
            ({"msg": {"msgtype": "link", "link": {"title": "x", "text": "x", "messageUrl": "x"}}}, 40035),
            ({"msg": {"msgtype": "file", "file": {"media_id": "@nothing"}}}, 40007),
            ({"msg": {"msgtype": "action_card", "action_card": {"title": "x", "markdown": "x"}}}, 40035),
            (
                {
                    "msg": {
                        "msgtype": "action_card",
                        "action_card": {"title": "x", "markdown": "x", "btn_json_list": []},
                    }
                },
                40035,
            ),
        ],
    )
    def test_a_malformed_one_is_refused(self, space: Space, token: str, changes: dict[str, Any], errcode: int) -> None:
        body = {k: v for k, v in (self.notice() | changes).items() if v is not None}

        assert older(space, f"{NOTICES}/asyncsend_v2", token, body)["errcode"] == errcode
        assert space.messages(1, state="refused")[0].reason


class TestFiles:
    def test_a_file_is_kept_byte_for_byte_and_sent(self, space: Space, token: str) -> None:
        content = bytes(range(256)) * 40 + b"\r\n--boundary\r\n"
        media_id = upload(space, token, "季度报表(终稿).xlsx", content)["media_id"]
        assert newer(
            space,
            "POST",
            GROUP,
            token,
            to_group("sampleFile", mediaId=media_id, fileName="季度报表(终稿).xlsx", fileType="xlsx"),
        ).ok
        notice = {"agent_id": 77, "userid_list": "alice", "msg": {"msgtype": "file", "file": {"media_id": media_id}}}
        assert older(space, f"{NOTICES}/asyncsend_v2", token, notice)["errcode"] == 0

        (file,) = space.files(count=1)
        assert (file.name, file.kind, file.size_bytes) == ("季度报表(终稿).xlsx", "file", len(content))
        assert file.sha256 == hashlib.sha256(content).hexdigest()
        assert space.content(file) == content
        message, _ = space.messages(count=2)
        assert (message.kind, message.text) == ("file", "季度报表(终稿).xlsx")
        page = requests.get(f"{space.url}/", timeout=5).text
        assert page.count(f'href="/ns/{space.url.rpartition("/")[2]}/file/') == 2
        download = requests.get(file.url, timeout=5)
        assert download.headers["content-disposition"].startswith("attachment")
        assert download.headers["content-type"] == "application/octet-stream"
        assert download.headers["content-security-policy"] == "default-src 'none'; sandbox"

    @pytest.mark.parametrize(
        ("kind", "name", "size_bytes", "errcode"),
        [
            ("file", "a.pdf", 20 * 1024 * 1024, 0),
            ("file", "a.pdf", 20 * 1024 * 1024 + 1, 45001),
            ("voice", "a.mp3", 2 * 1024 * 1024 + 1, 45001),
            ("file", "a.pdf", 0, 44001),
            ("file", "a.txt", 1, 40005),
            ("file", "a", 1, 40005),
            ("image", "a.pdf", 1, 40005),
            ("image", "A.PNG", 1, 0),
            ("picture", "a.png", 1, 40004),
        ],
    )
    def test_types_and_sizes(
        self, space: Space, token: str, kind: str, name: str, size_bytes: int, errcode: int
    ) -> None:
        assert upload(space, token, name, b"x" * size_bytes, kind)["errcode"] == errcode
        assert len(space.files()) == (errcode == 0)

    def test_the_form_must_be_one_with_a_named_file_in_media(self, space: Space, token: str) -> None:
        def sent(**options: Any) -> int:
            return int(older(space, "/media/upload", token, query={"type": "file"}, **options)["errcode"])

        assert sent(data=b"x") == 43008
        assert sent(files={"file": ("a.pdf", b"x")}) == 41005
        assert sent(files={"media": (None, b"x")}) == 41005
        head, tail = b'--b\r\nContent-Disposition: form-data; name="media"; ', b"\r\n\r\nx\r\n--b--\r\n"
        multipart = {"Content-Type": "multipart/form-data; boundary=b"}
        assert sent(data=head + b"filename*=UTF-8''%E5%AD%A3.pdf" + tail, headers=multipart) == 41005
        assert "filename*" in space.calls(4, path="/media", state="refused")[-1].reason
        assert sent(data=head + 'filename="季.pdf"'.encode() + tail, headers=multipart) == 0
        assert sent(data=head + b'filename="a.pdf"\r\n\r\nx', headers=multipart) == 43008

    def test_the_type_may_stand_in_the_form(self, space: Space, token: str) -> None:
        answer = older(space, "/media/upload", token, data={"type": "file"}, files={"media": ("a.zip", b"x")})

        assert (answer["errcode"], answer["type"]) == (0, "file")

    def test_another_app_s_file_cannot_be_sent(self, space: Space, token: str) -> None:
        other = app_token(space, space.app(name="other", robot_code="dingother"))
        media_id = upload(space, other, "a.pdf", b"x")["media_id"]

        body = to_group("sampleFile", mediaId=media_id, fileName="a.pdf", fileType="pdf")
        assert newer(space, "POST", GROUP, token, body).json()["code"] == "invalidParameter.msgParam.invalid"
        assert "another app" in space.messages(1, state="refused")[0].reason

    def test_ppt_can_be_uploaded_and_is_no_file_message(self, space: Space, token: str) -> None:
        media_id = upload(space, token, "a.pptx", b"x")["media_id"]

        body = to_group("sampleFile", mediaId=media_id, fileName="a.pptx", fileType="pptx")
        assert newer(space, "POST", GROUP, token, body).status_code == 400
