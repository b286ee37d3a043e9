"""Apps at the gate: tokens in every spelling of their errors, limits by second, minute and month."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from dingqueue_worker.sandbox.client import App, SandboxFailed, Space
from support.sandbox import app_token, newer, older, post, send

GROUP = "/v1.0/robot/groupMessages/send"
NOTICE = "/topapi/message/corpconversation/asyncsend_v2"
USER = "/topapi/v2/user/get"


@pytest.fixture
def app(space: Space) -> App:
    space.person("alice", mobile="13800000000")
    return space.app(name="acme", agent_id=77, robot_code="dingrobot")


def message(**more: Any) -> dict[str, Any]:
    return {
        "robotCode": "dingrobot",
        "openConversationId": "cidX",
        "msgKey": "sampleText",
        "msgParam": '{"content": "hello"}',
        **more,
    }


class TestTokens:
    def test_the_same_token_is_given_again_and_lives_longer(self, space: Space) -> None:
        app = space.app(name="acme", robot_code="dingrobot", token_life_s=600)
        space.set_clock(1_700_000_000_000, stands=True)
        first = app_token(space, app)
        space.advance(599)
        assert app_token(space, app) == first
        space.advance(599)
        assert newer(space, "POST", GROUP, first, message()).status_code == 200
        space.advance(1)

        assert newer(space, "POST", GROUP, first, message()).json()["code"] == "InvalidAuthentication"
        assert app_token(space, app) != first
        assert space.stats()["apps"]["acme"]["tokens_made"] == 2

    def test_each_of_the_three_calls_gives_it(self, space: Space, app: App) -> None:
        new = newer(
            space, "POST", "/v1.0/oauth2/accessToken", None, {"appKey": app.key, "appSecret": app.secret}
        ).json()
        old = requests.get(
            f"{space.oapi_url}/gettoken", params={"appkey": app.key, "appsecret": app.secret}, timeout=5
        ).json()
        oldest = requests.get(
            f"{space.oapi_url}/gettoken", params={"corpid": app.key, "corpsecret": app.secret}, timeout=5
        ).json()
        grant = {"client_id": app.key, "client_secret": app.secret, "grant_type": "client_credentials"}
        unified = newer(space, "POST", "/v1.0/oauth2/dingcorp/token", None, grant).json()

        assert new["expireIn"] == old["expires_in"] == unified["expires_in"] == 7200
        assert (old["errcode"], old["errmsg"]) == (0, "ok")
        assert len({new["accessToken"], old["access_token"], oldest["access_token"], unified["access_token"]}) == 1

    def test_wrong_credentials_are_refused_in_each_host_s_way(self, space: Space, app: App) -> None:
        def gettoken(**fields: str) -> int:
            data = requests.get(f"{space.oapi_url}/gettoken", params=fields, timeout=5).json()
            return int(data["errcode"])

        wrong = newer(space, "POST", "/v1.0/oauth2/accessToken", None, {"appKey": app.key, "appSecret": "no"})
        missing = newer(space, "POST", "/v1.0/oauth2/accessToken", None, {"appKey": app.key})
        form = requests.post(f"{space.api_url}/v1.0/oauth2/accessToken", data={"appKey": app.key}, timeout=5)

        assert (wrong.status_code, wrong.json()["code"]) == (400, "invalidClientIdOrSecret")
        assert (missing.status_code, missing.json()["code"]) == (400, "MissingappSecret")
        assert (form.status_code, form.json()["code"]) == (400, "Missingbody")
        assert gettoken(appkey=app.key, appsecret="no") == 40096  # nobody's
        assert gettoken(corpid=app.key, corpsecret="no") == 40089
        assert gettoken() == 40035
        assert set(wrong.json()) == {"code", "message", "requestid"}

    def test_an_invalid_one_has_four_spellings(self, space: Space, app: App) -> None:
        assert newer(space, "POST", GROUP, "nobody's", message()).json()["code"] == "InvalidAuthentication"
        assert newer(space, "POST", GROUP, None, message()).json()["code"] == "AuthenticationFailed.MissingParameter"
        topapi = older(space, USER, "nobody's", {"userid": "alice"})
        assert (topapi["errcode"], topapi["sub_code"]) == (88, "40014")
        assert "subcode=40014" in topapi["errmsg"]
        blank = older(space, USER, None, {"userid": "alice"})
        assert (blank["errcode"], blank["sub_code"]) == (88, "40000")
        assert older(space, "/media/upload", "nobody's", files={"media": ("a.pdf", b"x")})["errcode"] == 40014
        assert older(space, "/media/upload", None, files={"media": ("a.pdf", b"x")})["errcode"] == 41001

    def test_one_that_was_killed_early_is_run_out(self, space: Space, app: App) -> None:
        token = app_token(space, app)
        space.expire_tokens()

        assert newer(space, "POST", GROUP, token, message()).json()["code"] == "InvalidAuthentication"
        assert older(space, "/media/upload", token, files={"media": ("a.pdf", b"x")})["errcode"] == 42001
        assert newer(space, "POST", GROUP, app_token(space, app), message()).status_code == 200

    def test_it_must_travel_where_its_host_looks(self, space: Space, app: App) -> None:
        token = app_token(space, app)
        in_url = requests.post(f"{space.api_url}{GROUP}", params={"access_token": token}, json=message(), timeout=5)
        in_header = requests.post(
            f"{space.oapi_url}{USER}",
            headers={"x-acs-dingtalk-access-token": token},
            json={"userid": "alice"},
            timeout=5,
        )

        assert in_url.json()["code"] == "AuthenticationFailed.MissingParameter"
        assert in_header.json()["sub_code"] == "40000"
        refused = space.calls(2, state="refused")
        assert "it came in the URL" in refused[0].reason
        assert "it came in a header" in refused[1].reason

    def test_an_app_s_token_is_no_robot_s(self, space: Space, app: App) -> None:
        robot = space.robot()

        assert send(space, app_token(space, app)) == 300005
        assert newer(space, "POST", GROUP, robot.token, message()).json()["code"] == "InvalidAuthentication"

    def test_a_stranger_s_robot_is_refused(self, space: Space, app: App) -> None:
        other = space.app(name="other", robot_code="dingother")
        token = app_token(space, other)

        assert newer(space, "POST", GROUP, token, message()).json()["code"] == "invalidParameter.robotCode.auth"
        wrong = newer(space, "POST", GROUP, token, message(robotCode="dingnobody"))
        assert wrong.json()["code"] == "invalidParameter.robotCode.notExsit"

    def test_secrets_and_tokens_do_not_show(self, space: Space) -> None:
        app = space.app("PLANTED-KEY", "PLANTED-SECRET", name="acme", robot_code="dingrobot")
        token = app_token(space, app)
        requests.get(f"{space.oapi_url}/gettoken", params={"appkey": app.key, "appsecret": app.secret}, timeout=5)
        newer(space, "POST", GROUP, token, message())
        older(space, USER, token, {"userid": "alice"})

        shown = [str(space.call("GET", what)) for what in ("apps", "messages?ways=calls&state=any", "stats")]
        shown += [
            requests.get(f"{space.url}{path}", timeout=5).text
            for path in ("/?q=is:call", "/message/1", "/message/2", "/message/3", "/message/4", "/message/2.json")
        ]

        assert not any("PLANTED-SECRET" in one for one in shown)
        assert not any(token in one for one in shown)
        assert "PLANTED-SECRET" not in repr(app)


class TestLimits:
    def test_one_call_too_many_in_a_second_closes_the_interface_for_a_second(self, space: Space) -> None:
        app = space.app(name="acme", robot_code="dingrobot", agent_id=7, per_second=3)
        space.person("alice")
        token = app_token(space, app)
        space.set_clock(1_700_000_000_000, stands=True)
        app_again = app_token(space, app)

        codes = [newer(space, "POST", GROUP, app_again, message()) for _ in range(4)]
        assert [one.status_code for one in codes] == [200, 200, 200, 403]
        assert codes[3].json()["code"] == "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"
        # Another interface has a second of its own.
        assert [older(space, USER, token, {"userid": "alice"})["errcode"] for _ in range(3)] == [0, 0, 0]
        throttled = older(space, USER, token, {"userid": "alice"})
        assert (throttled["errcode"], throttled["sub_code"]) == (88, "90018")
        space.advance(1)
        assert newer(space, "POST", GROUP, token, message()).status_code == 200
        assert space.stats()["apps"]["acme"]["max_per_second"][GROUP] == 4

    def test_a_minute_has_a_limit_too(self, space: Space) -> None:
        app = space.app(name="acme", robot_code="dingrobot", per_minute=2)
        token = app_token(space, app)

        answers = [newer(space, "POST", GROUP, token, message()).json() for _ in range(3)]

        assert [one.get("code") for one in answers] == [None, None, "Forbidden.AccessDenied.QpmLimitForAppkeyAndApi"]

    def test_the_month_counts_calls_but_not_look_ups_and_tokens(self, space: Space, app: App) -> None:
        # The last second of November in Beijing.
        space.set_clock(1_796_054_399_000, stands=True)
        space.rules(api_month=2)
        token = app_token(space, app)
        for _ in range(3):
            assert older(space, USER, token, {"userid": "alice"})["errcode"] == 0
        notice = {"agent_id": 77, "userid_list": "alice", "msg": {"msgtype": "text", "text": {"content": "x"}}}

        assert newer(space, "POST", GROUP, token, message()).status_code == 200
        assert older(space, NOTICE, token, notice)["errcode"] == 0
        used_up = newer(space, "POST", GROUP, token, message())
        assert (used_up.status_code, used_up.json()["code"]) == (403, "Forbidden.AccessDenied.ApiCountLimitForOrg")
        assert older(space, NOTICE, token, notice)["sub_code"] == "90020"
        space.advance(1)
        assert newer(space, "POST", GROUP, token, message()).status_code == 200

    def test_the_organisation_s_webhook_messages_have_a_month_too(self, space: Space) -> None:
        space.rules(webhook_month=2)
        one, two = space.robot(), space.robot()

        assert [send(space, one), send(space, two), send(space, one)] == [0, 0, 90030]

    def test_a_call_without_permission_is_refused(self, space: Space) -> None:
        app = space.app(name="acme", robot_code="dingrobot", forbidden=["/v1.0/robot", "/topapi/v2/user"])
        token = app_token(space, app)

        refused = newer(space, "POST", GROUP, token, message())
        assert (refused.status_code, refused.json()["code"]) == (
            403,
            "Forbidden.AccessDenied.AccessTokenPermissionDenied",
        )
        assert older(space, USER, token, {"userid": "alice"})["sub_code"] == "60011"


class TestFaults:
    def test_they_strike_apps_by_name_and_path(self, space: Space, app: App) -> None:
        token = app_token(space, app)
        space.fault("code", errcode="system.busy", status=429, sender=app, path="/v1.0/robot")
        space.fault("errcode", errcode=-1, path="/topapi")

        busy = newer(space, "POST", GROUP, token, message())
        assert (busy.status_code, busy.json()["code"]) == (429, "system.busy")
        assert older(space, USER, token, {"userid": "alice"})["errcode"] == -1
        assert newer(space, "POST", GROUP, token, message()).status_code == 200

    def test_a_lost_answer_leaves_the_message(self, space: Space, app: App) -> None:
        token = app_token(space, app)
        space.fault("lost", path=GROUP)
        with pytest.raises(requests.ConnectionError):
            newer(space, "POST", GROUP, token, message())

        (one,) = space.messages(count=1)
        assert (one.way, one.answered) == ("group", False)

    def test_a_swallowed_message_is_answered_and_never_seen(self, space: Space, app: App) -> None:
        token = app_token(space, app)
        space.fault("swallow", times=2)

        assert newer(space, "POST", GROUP, token, message()).json()["processQueryKey"]
        assert post(space, space.robot()).json()["errcode"] == 0
        assert space.messages() == []
        assert [one.fault for one in space.messages(2, state="failed")] == ["swallow", "swallow"]


def test_an_unknown_path_answers_as_it_has_been_seen(space: Space, app: App) -> None:
    token = app_token(space, app)

    assert newer(space, "POST", "/v1.0/nothing", token, {}).json()["errcode"] == 404
    assert newer(space, "POST", "/v1.0/robot/oToMessages/batchRecall", token, {}).json()["errcode"] == 404
    assert older(space, "/topapi/nothing", token, {})["errcode"] == 22
    assert older(space, "/chat/send", token, {})["errcode"] == 404


def test_senders_have_names_of_their_own(space: Space, app: App) -> None:
    with pytest.raises(SandboxFailed, match="acme"):
        space.robot("token", name="acme")
    with pytest.raises(SandboxFailed, match="acme"):
        space.app(name="acme")


def test_at_the_root_any_app_and_anybody_will_do(sandbox: Any) -> None:
    root = sandbox.root
    app = App(key="some-key", secret="some-secret", name="", agent_id=None, robot_code=None)
    token = app_token(root, app)

    sent = newer(root, "POST", "/v1.0/robot/oToMessages/batchSend", token, {
        "robotCode": "some-key", "userIds": ["anybody"], "msgKey": "sampleText", "msgParam": '{"content": "x"}',
    }).json()  # fmt: skip
    assert sent["invalidStaffIdList"] == []
    person = older(root, USER, token, {"userid": "anybody"})["result"]
    todo = {"subject": "x", "detailUrl": {"pcUrl": "https://example.com"}, "executorIds": [person["unionid"]]}
    assert newer(root, "POST", f"/v1.0/todo/users/{person['unionid']}/tasks", token, todo).status_code == 200
