"""What each answer means: a case for every row of the table, in the spellings that were seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from dingqueue_worker.dingtalk import answers
from dingqueue_worker.dingtalk.answers import ROWS, Answer, Row, Taken, classify, read_newer, read_older
from dingqueue_worker.outcome import EVERY_SENDER, Accepted, Dead, Delivered, Outcome, Retry, Snooze, Unknown


def answer(fields: Mapping[str, Any] | str | None = None, status: int = 200, **more: Any) -> Answer:
    body = fields if isinstance(fields, str) else json.dumps({**(fields or {}), **more}, ensure_ascii=False)
    return Answer(status=status, content_type="application/json", body=body)


def said(outcome: Outcome) -> tuple[Any, ...]:
    """An outcome as a row of the tables below: what it is, its cause, and what else matters about it."""
    match outcome:
        case Snooze(close=close) if close is not None:
            return close.cause, outcome.cause, close.for_s, close.sender
        case Retry():
            return "retry", outcome.cause, outcome.at_most
        case Dead() | Unknown():
            return type(outcome).__name__.lower(), outcome.cause
        case _:
            return (type(outcome).__name__.lower(),)


def cooldown(cause: str = "too_fast") -> tuple[Any, ...]:
    return "cooldown", cause, None, None


def busy(cause: str, for_s: float) -> tuple[Any, ...]:
    return "busy", cause, for_s, None


def fault(cause: str) -> tuple[Any, ...]:
    return "fault", cause, None, None


def ban(for_s: float = 300.0) -> tuple[Any, ...]:
    return "ban", "ban", for_s, EVERY_SENDER


def quota(cause: str = "quota", for_s: float | None = None) -> tuple[Any, ...]:
    return "quota", cause, for_s, None


def retry(cause: str = "busy", at_most: int | None = None) -> tuple[Any, ...]:
    return "retry", cause, at_most


def dead(cause: str = "content") -> tuple[Any, ...]:
    return "dead", cause


def old(code: int | str, errmsg: str = "", **more: Any) -> Answer:
    return answer({"errcode": code, "errmsg": errmsg}, **more)


def new(code: str, message: str = "", *, status: int = 400) -> Answer:
    return answer({"code": code, "message": message, "requestid": "0F5A-1"}, status)


TOKEN = retry("token", 2)
GONE = fault("robot")
KEYWORD = dead("keyword")
UNKNOWN_RESULT = ("unknown", "unknown_result")

#: Answer, and what must follow. In the order of the table that they test.
CASES: list[tuple[Answer, tuple[Any, ...]]] = [
    # A robot's limit: all the codes that it has had.
    (old(130101, "send too fast, exceed 20 times per minute"), cooldown()),
    (old(410100, "发送速度太快而限流"), cooldown()),
    (old(660026, "sending too many messages per minute"), cooldown()),
    (old(450101, "sending too fast"), cooldown()),
    (old("130101"), cooldown()),
    (old(90030, "webhook over limit"), quota()),
    (old(-1, "系统繁忙"), retry("busy", 3)),
    (old("-1"), retry("busy", 3)),
    # The security check, in the wordings of several years.
    (old(310000, "keywords not in content"), KEYWORD),
    (old(310000, "keywords not in content, more: [https://example.com/sign-timestamp-ip]"), KEYWORD),
    (old(310000, "description:关键词不匹配;solution:请联系群管理员查看此机器人的关键词，并检查 sign;link:请参考"), KEYWORD),
    (old(310000, "错误描述:关键词不匹配;解决方案:请检查签名和时间戳;参考链接:https://example.com"), KEYWORD),
    (old(310000, "ip 203.0.113.7 not in whitelist"), fault("ip")),
    (old(310000, "错误描述：IP 不在白名单；解决方案：检查签名"), fault("ip")),
    (old(310000, "invalid timestamp"), fault("timestamp")),
    (old(310000, "description:机器人发送签名过期;solution:签名生成时间和发送时间请保持在一小时以内;link:"), fault("timestamp")),
    (old(310000, "sign not match"), fault("sign")),
    (old(310000, "sign not match, more: [https://example.com/timestamp]"), fault("sign")),
    (old(310000, "description:机器人发送签名不匹配;solution:请确认签名和生成签名的时间戳必须都放在调用的网址中;link:"), fault("sign")),
    (old(310000, "something new"), fault("security")),
    (old(310000), fault("security")),
    # A robot that is gone, or never was.
    (old(300001, "keywords not in content"), KEYWORD),
    (old(300001, "param error"), dead()),
    (old(300001, "token is not exist"), GONE),
    (old(300005, "token is not exist"), GONE),
    (old(400101, "access_token不存在"), GONE),
    (old(400102, "机器人已停用"), GONE),
    (old(400106, "机器人不存在"), GONE),
    (old(400013, "群已被解散"), GONE),
    # The message.
    (old(400105, "unsupported msgtype"), dead()),
    (old(400201, "text missing"), dead()),
    (old(400402, "markdown title missing"), dead()),
    (old(400602, "feedCard.links missing"), dead()),
    (old(401104, "fileType missing"), dead()),
    (old(430101, "content contains unsafe link"), dead()),
    (old(430102), dead()),
    (old(430103), dead()),
    (old(430104), dead()),
    (old(460101, "body size illegal, keep within 20000 bytes"), dead("too_long")),
    (old(101002, "message is too long"), dead("too_long")),
    # Our own mistakes.
    (old(40035, "缺少参数 access_token"), fault("request")),
    (old(40035, "缺少参数 json"), dead("request")),
    (old(43002, "require POST"), fault("request")),
    (old(43004, "无效的HTTP HEADER Content-Type"), fault("request")),
    (new("Missingbody"), dead("request")),
    (new("MissingmsgParam"), dead("request")),
    (new("Invalidbody"), dead("request")),
    (old(22, "Invalid method"), fault("request")),
    (old(404, "请求的URI地址不存在"), fault("request")),
    # An app's token, in all its spellings, on both hosts.
    (old(88, "ding talk error[subcode=40014,submsg=不合法的access_token]", sub_code="40014", sub_msg="不合法的access_token"), TOKEN),
    (old(88, sub_code=40014), TOKEN),
    (old(88, subCode="40014"), TOKEN),
    (old("88", "ding talk error[subcode=40014,submsg=x]"), TOKEN),
    (old(40014, "不合法的access_token"), TOKEN),
    (old(42001, "access_token timeout"), TOKEN),
    (new("InvalidAuthentication", "不合法的access_token"), TOKEN),
    (answer({"Code": "InvalidAuthentication", "Message": "x", "RequestId": "1"}, 400), TOKEN),
    (old(40001, "invalid credential"), TOKEN),
    (old(33001, "无效的企业ID"), TOKEN),
    (old(41001, "缺少access_token参数"), fault("request")),
    (old(88, sub_code="40000", sub_msg="access_token is blank"), fault("request")),
    (new("AuthenticationFailed.MissingParameter"), fault("request")),
    (new("invalidParameter.token.invalid"), fault("credentials")),
    (new("token.notExisted"), fault("credentials")),
    # Credentials, rights, addresses.
    (old(40096, "不合法的appKey或appSecret"), fault("credentials")),
    (old(40089, "不合法的corpid或corpsecret"), fault("credentials")),
    (new("unsupported.grant.type"), fault("request")),
    (new("server.error", status=500), retry()),
    (new("unknownError", status=500), retry("server_error", 3)),
    (new("invalidClientIdOrSecret"), fault("credentials")),
    (new("invalid.client"), fault("credentials")),
    (new("unauthorized.client", status=401), fault("credentials")),
    (old(60011, "没有权限"), fault("permission")),
    (old(88, sub_code="60011"), fault("permission")),
    (new("Forbidden.AccessDenied.AccessTokenPermissionDenied", status=403), fault("permission")),
    (old(60020, "访问ip不在白名单之中"), fault("ip")),
    (new("Forbidden.AccessDenied.IpNotInWhiteList", status=403), fault("ip")),
    (old(90001), fault("disabled")),
    *((old(code), fault("disabled")) for code in (90003, 90004, 90005, 90006)),
    # Throttles, in all their spellings, on both hosts.
    (old(90018, "您的应用对该接口的调用已超过每秒限制"), busy("qps", 1.0)),
    (old(90002, "您的服务器调用钉钉开放平台所有接口的请求过多，punishment ends at 12:00:01"), busy("qps", 1.0)),
    (old(88, "ding talk error[subcode=90002,submsg=x]", sub_code="90002"), busy("qps", 1.0)),
    (old(88, sub_code="90018"), busy("qps", 1.0)),
    *((old(code), busy("qps", 1.0)) for code in (90007, 90008, 90009, 90010, 90011, 90012, 90013, 90014)),
    *((new(f"Forbidden.AccessDenied.{name}", status=403), busy("qps", 1.0))
      for name in ("QpsLimitForAppkeyAndApi", "QpsLimitForApi", "QpsLimitForSuitekeyAndOrgAndApi")),
    (new("Forbidden.AccessDenied.QpmLimitForAppkeyAndApi", status=403), busy("qpm", 60.0)),
    (new("Forbidden.AccessDenied.QpmLimitForSuitekeyAndOrgAndApi", status=403), busy("qpm", 60.0)),
    (new("qps.exceed.limit"), busy("qps", 1.0)),
    (new("request.overlimit"), busy("throttled", 10.0)),
    (new("request.overlimit", status=500), busy("throttled", 10.0)),
    (new("oaplus.query.limit"), busy("throttled", 10.0)),
    (old(45009), busy("throttled", 10.0)),
    (new("send.too.fast"), busy("too_fast", 60.0)),
    (new("send.byToken.tooFast"), busy("too_fast", 60.0)),
    (new("too.many.group"), busy("too_fast", 60.0)),
    (new("too.many.people"), busy("too_fast", 60.0)),
    (old(90020), quota()),
    (new("Forbidden.AccessDenied.ApiCountLimitForOrg", status=403), quota()),
    (new("system.busy", status=429), retry()),
    (new("systemBusy", status=429), retry()),
    (new("systemError.busy", status=500), retry()),
    # App robots.
    (new("unknown.send.result"), UNKNOWN_RESULT),
    (new("system.error", status=500), UNKNOWN_RESULT),
    (new("system.error"), UNKNOWN_RESULT),
    *((new(f"contain.{what}"), dead())
      for what in ("unsafe.url", "notAllowed.text", "notAllowed.picture", "notAllowed.content")),
    (new("invalidParameter.msgParam.tooLong"), dead("too_long")),
    (new("miss.param.markdownTotitle"), dead()),
    (new("keywords.not.match"), KEYWORD),
    *((new(f"invalidParameter.{what}"), dead()) for what in
      ("msgKey.empty", "msgKey.invalid", "msgParam.invalid", "msg.unsupport", "msgBody.invalid")),
    (new("invalid.param.actionCard.btns"), dead()),
    (new("sendMessage.model.notMatch"), dead()),
    *((new(f"invalidParameter.robotCode.{what}"), GONE)
      for what in ("empty", "missing", "invalid", "notExsit", "auth", "coolApp")),
    (new("resource.not.found"), GONE),
    (new("resource.unavailable"), GONE),
    (new("bot.stopped"), GONE),
    (new("template.stopped"), GONE),
    (new("template.not.existed"), GONE),
    (new("bot.forbidden.sendMessage"), dead("conversation")),
    (new("group.disbanded"), dead("conversation")),
    (new("invalid.openConversationId"), dead("conversation")),
    (new("miss.openConversationId"), dead("conversation")),
    (new("conversation.org.notMatch"), dead("conversation")),
    (new("only.groupAdmin.canAtAll"), dead("conversation")),
    (new("session.notExisted"), dead("conversation")),
    (new("session.expired"), dead("conversation")),
    (new("send.forbidden"), fault("permission")),
    (new("chatbotId.notAllow.sendOTO"), fault("permission")),
    (new("robot.oto.notExist"), GONE),
    (new("unauthorized", status=401), fault("credentials")),
    (new("auth.error"), fault("credentials")),
    (new("ip.not.match"), fault("ip")),
    (new("sign.not.match"), fault("sign")),
    (new("invalidParameter.userIds.empty"), dead("recipients")),
    (new("invalidParameter.userIds.overMax"), dead("recipients")),
    (new("invalidParameter.userId.empty"), dead("recipients")),
    (new("staffId.notExisted"), dead("recipients")),
    (new("illegal.receivers"), dead("recipients")),
    (new("receivers.exceed"), dead("recipients")),
    (new("processQueryKey.expireTime"), retry("not_yet", 5)),
    # Work notifications.
    (old(143106, "duplicate content"), ("delivered",)),
    (old(143105), quota("daily_quota", 3600.0)),
    (old(143103), busy("throttled", 60.0)),
    (old(143104), busy("throttled", 60.0)),
    *((old(code), busy("throttled", 60.0)) for code in (41046, 41047, 41048)),
    (old(1430003), retry()),
    (old(1430002), dead()),
    (old(41049), dead()),
    (old(40048), dead()),
    (old(34016), dead("too_long")),
    (old(45002), dead("too_long")),
    (old(41101), dead("too_long")),
    (old(41028), dead("recipients")),
    (old(41029), dead("recipients")),
    (old(41044), dead("recipients")),
    (old(41045), quota("daily_quota", 3600.0)),
    (old(40104), dead("recipients")),
    (old(400002), dead("request")),
    (old(1430000), dead("recipients")),
    (old(1430004), dead("recipients")),
    (old(40056), fault("agent")),
    (old(33012), dead("recipients")),
    (old(50002), dead("recipients")),
    (old(60121), dead("recipients")),
    # Uploads.
    *((old(code), dead()) for code in (40004, 40005, 40006, 40007, 41005, 43008, 44001)),
    (old(45001), dead("too_long")),
    (new("operationTimeout", status=503), retry()),
    (new("dingSpaceError", status=503), retry()),
    # Todos.
    (new("todo.taskCreate.paramError", "task exist, taskId: task1"), ("delivered",)),
    (new("todo.taskDelete.paramError", "task not exist"), ("delivered",)),
    (new("todo.taskCreate.paramError", "subject is oversize"), dead()),
    (new("todo.taskUpdate.paramError", "task not belong to bizTag"), dead()),
    (new("todo.taskCreate.lockError"), retry()),
    (new("todo.taskCreate.flowControlError"), retry()),
    (new("todo.taskCreate.systemError", status=500), retry()),
    (new("todo.taskCreate.tokenTypeError"), fault("credentials")),
    # Only the status speaks.
    (answer({}, 401), TOKEN),
    (answer({"message": "no"}, 404), fault("request")),
    (answer("<h1>Not Found</h1>", 404), fault("request")),
    (answer("<h1>Proxy Authentication Required</h1>", 407), fault("request")),
    (answer("<h1>Request Entity Too Large</h1>", 413), dead("too_long")),
    (answer("slow down", 429), busy("throttled", 60.0)),
    (answer("<h1>Bad Gateway</h1>", 502), ("unknown", "gateway")),
    (answer("", 503), ("unknown", "gateway")),
    (answer({"message": "timeout"}, 504), ("unknown", "gateway")),
    (answer("<h1>Internal Server Error</h1>", 500), retry("server_error")),
    (answer({}, 500), retry("server_error")),
    # Codes that nobody told us about.
    (old(999999, "something new"), dead("unknown_code")),
    (old("weird", "something new"), dead("unknown_code")),
    (new("some.new.code"), dead("unknown_code")),
    (new("some.new.code", status=401), TOKEN),
    (new("some.new.code", status=500), retry("server_error", 3)),
    (new("some.new.code", status=503), ("unknown", "gateway")),
    (old(88, "no code inside"), dead("unknown_code")),
    # A block at the edge: the whole address, so every sender.
    (answer("<html><body>Access denied</body></html>"), ban()),
    (answer("<html><body>Access denied</body></html>", 403), ban()),
    (answer("", 302), ban()),
    (answer("<a href='https://h5.dingtalk.com/'>moved</a>", 302), ban()),
    (answer({}, 302), ban()),
    (answer("not json", 200), ban()),
    (answer({"status": 1111, "wait": 5, "source": "x5", "punish": "deny", "uuid": "1"}), ban()),
    (answer({"status": "1111"}), ban()),
    (answer({"punish": "deny"}), ban()),
    (answer({"punish": "deny", "errcode": 0}), ban()),
    (answer({"punish": "deny", "errcode": 130101}), ban(600.0)),
    # Neither yes nor no.
    (answer(""), ("unknown", "unreadable")),
    (answer(" \n"), ("unknown", "unreadable")),
    (answer("", 204), ("unknown", "unreadable")),
    (answer('{"errcode":0,"err'), ("unknown", "unreadable")),
    (answer('["errcode", 0]'), ("unknown", "unreadable")),
    (answer("null"), ("unknown", "unreadable")),
    (answer({}), ("unknown", "unreadable")),
    (answer({"errmsg": "ok"}), ("unknown", "unreadable")),
    (answer({"errcode": None}), ("unknown", "unreadable")),
    (answer({"errcode": False}), ("unknown", "unreadable")),
    (answer({"errcode": ""}), ("unknown", "unreadable")),
    (answer({"errcode": 0}, 400), ("unknown", "unreadable")),
    (answer({"errcode": 0}, 500), ("unknown", "unreadable")),
    (answer("[" * 100_000), ("unknown", "unreadable")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("got", "expected"),
    CASES,
    ids=[f"{got.status}-{got.body[:40]!a}-{number}" for number, (got, _) in enumerate(CASES)],
)
def test_an_answer_means_one_thing(got: Answer, expected: tuple[Any, ...]) -> None:
    outcome = classify(got)

    assert said(outcome) == expected
    if not isinstance(outcome, Delivered | Accepted):
        assert outcome.why
        assert len(outcome.why) < 450


def test_every_row_has_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    hit: list[Row | None] = []
    find = answers._find

    def noted(code: str, errmsg: str) -> Row | None:
        hit.append(find(code, errmsg))
        return hit[-1]

    monkeypatch.setattr(answers, "_find", noted)
    for got, _ in CASES:
        classify(got)

    assert [row.code for row in ROWS if row not in hit] == []


def test_no_row_is_hidden_by_an_earlier_one() -> None:
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for row in ROWS:
        assert (row.code, row.text) not in seen
        assert (row.code, ()) not in seen, f"{row.code} is answered by an earlier row whatever its text"
        assert row.code == row.code.lower()
        assert row.meaning
        assert row.source
        seen.add((row.code, row.text))


@pytest.mark.parametrize(
    "got",
    [
        answer({"errcode": 0, "errmsg": "ok"}),
        answer({"errcode": "0", "errmsg": "ok"}),
        answer({"errcode": " 0 "}),
        answer('{"errcode":0}'),
        answer({"errcode": 0}, 201),
    ],
)
def test_only_an_errcode_of_0_is_delivered(got: Answer) -> None:
    assert classify(got) == Delivered(receipt={"errcode": "0"})


def test_a_200_with_a_refusing_code_is_not_success() -> None:
    """Case B01."""
    outcome = classify(old(400402, "markdown title missing"))

    assert outcome == Dead(
        why="the markdown text or its title is missing or malformed (code 400402): markdown title missing",
        cause="content",
    )


def test_a_page_pauses_every_lane_and_leaves_a_short_clean_excerpt() -> None:
    """Case B03."""
    page = "<html><head><style>body{color:red}</style><script>var sign='abc'</script></head><body>Access\n<b>denied</b></body>"

    outcome = classify(Answer(status=200, content_type="text/html", body=page))

    assert isinstance(outcome, Snooze)
    assert outcome.why == "HTTP 200: DingTalk's edge blocks this address: Access denied"
    assert outcome.close is not None
    assert outcome.close.sender == EVERY_SENDER


def test_the_receipt_keeps_the_clock_and_the_request() -> None:
    got = Answer(
        status=200, content_type="", body='{"errcode":0,"request_id":"req1"}', date="Wed, 25 Nov 2026 08:00:00 GMT"
    )

    assert classify(got) == Delivered(
        receipt={"errcode": "0", "date": "Wed, 25 Nov 2026 08:00:00 GMT", "request_id": "req1"}
    )


def test_a_refusal_names_the_request() -> None:
    assert classify(new("staffId.notExisted", "no such person")) == Dead(
        why="there is no such person in the organisation (code staffId.notExisted, request 0F5A-1): no such person",
        cause="recipients",
    )


# --- The two hosts' yes -------------------------------------------------------------------------------------------


def test_the_older_hosts_yes_needs_its_proof() -> None:
    uploaded = answer({"errcode": 0, "media_id": "@m1", "created_at": 1700000000000})

    taken = read_older(uploaded, proof="media_id")

    assert isinstance(taken, Taken)
    assert taken.text("media_id") == "@m1"
    assert taken.text("created_at") == "1700000000000"
    assert taken.text("type") == ""
    assert said(taken_or_not(read_older(answer({"errcode": 0}), proof="media_id"))) == ("unknown", "unreadable")
    assert said(taken_or_not(read_older(answer({"media_id": "@m1"}), proof="media_id"))) == ("unknown", "unreadable")


def taken_or_not(read: Taken | Outcome) -> Outcome:
    assert not isinstance(read, Taken)
    return read


@pytest.mark.parametrize(
    ("fields", "proof"),
    [
        ({"accessToken": "a1", "expireIn": 7200}, "accessToken"),
        ({"access_token": "a1", "expires_in": 7200}, "access_token"),
        ({"processQueryKey": "key1"}, "processQueryKey"),
        ({"errcode": 0, "processQueryKey": "key1"}, "processQueryKey"),
        ({"id": "task1", "createdTime": 1, "bizTag": "b", "requestId": "r1"}, "id"),
        ({"result": True}, "result"),
    ],
)
def test_the_newer_hosts_yes_has_no_errcode(fields: Mapping[str, Any], proof: str) -> None:
    taken = read_newer(answer(fields), proof=proof)

    assert isinstance(taken, Taken)
    assert taken.fields == fields
    assert str(fields[proof]) not in repr(taken) or proof == "result"


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (answer({"errcode": 404, "errmsg": "no such path"}), fault("request")),
        (answer({"errcode": 404, "processQueryKey": "k"}), fault("request")),
        (answer({}), ("unknown", "unreadable")),
        (answer({"processQueryKey": ""}), ("unknown", "unreadable")),
        (answer({"processQueryKey": None}), ("unknown", "unreadable")),
        (answer({"processQueryKey": "k"}, 500), retry("server_error")),
        (answer({"processQueryKey": "k"}, 302), ban()),
        (answer({"processQueryKey": "k", "punish": "deny"}), ban()),
        (new("InvalidAuthentication"), TOKEN),
        (answer("<html>"), ban()),
        (answer(""), ("unknown", "unreadable")),
    ],
)
def test_anything_else_from_the_newer_host_is_no_yes(got: Answer, expected: tuple[Any, ...]) -> None:
    assert said(taken_or_not(read_newer(got, proof="processQueryKey"))) == expected


def test_a_batch_says_who_was_left_out() -> None:
    taken = read_newer(
        answer({"processQueryKey": "k", "invalidStaffIdList": ["u1", "", 7, None], "flowControlledStaffIdList": None}),
        proof="processQueryKey",
    )

    assert isinstance(taken, Taken)
    assert taken.names("invalidStaffIdList") == ("u1", "7")
    assert taken.names("flowControlledStaffIdList") == ()
    assert taken.names("filteredStaffIdList") == ()


# --- Words without secrets and without the message ----------------------------------------------------------------

HEX_TOKEN = "0123456789abcdef" * 4
ROBOT_SECRET = "SEC" + "89abcdef01234567" * 4
SIGNATURE = "hmPWwU+7lVdm3ZZz0r9tSfx0L4Q26jWOZr9+Gs6EZQM="
SIGNATURE_IN_URL = "hmPWwU%2B7lVdm3ZZz0r9tSfx0L4Q26jWOZr9%2BGs6EZQM%3D"


@pytest.mark.parametrize(
    ("echoed", "secret"),
    [
        (f"token {HEX_TOKEN} is not exist", HEX_TOKEN),
        ("access_token=T1abc&timestamp=1 refused", "T1abc"),
        ('{"access_token":"T1abc"}', "T1abc"),
        ("secret: hush", "hush"),
        (f"secret {ROBOT_SECRET} wrong", ROBOT_SECRET),
        (f"sign not match: {SIGNATURE}", SIGNATURE),
        (f"/robot/send?timestamp=1&sign={SIGNATURE_IN_URL}", SIGNATURE_IN_URL),
        (f"bad {SIGNATURE_IN_URL}", SIGNATURE_IN_URL),
    ],
)
@pytest.mark.parametrize("code", [310000, 300005, 999999, "<page>"])
def test_a_secret_that_dingtalk_echoes_is_masked(code: Any, echoed: str, secret: str) -> None:
    got = answer(f"<p>{echoed}</p>") if code == "<page>" else old(code, echoed)

    outcome = classify(got)

    assert not isinstance(outcome, Delivered | Accepted)
    assert secret not in repr(outcome)
    assert "***" in outcome.why


def test_a_code_or_request_id_that_is_a_secret_is_masked() -> None:
    assert HEX_TOKEN not in repr(classify(old(HEX_TOKEN, request_id=HEX_TOKEN)))
    assert HEX_TOKEN not in repr(classify(old(0, request_id=HEX_TOKEN)))


@pytest.mark.parametrize(
    ("sent", "errmsg", "why"),
    [
        ("salary 123 of Alice", "illegal text: salary 123 of Alice", "illegal text: …"),
        ("salary 123 of Alice", "near 'ary 123 of Al'", "near '…'"),
        ("第一行\n工资一二三四五六七八九", "content 工资一二三四五六七八九 refused", "content … refused"),
        ("pay\n4711", "word 4711 is bad", "word … is bad"),
        ("ok", "ok is ok", "ok is ok"),
        ("A" * 5000, "A" * 5000, "…"),
    ],
)
def test_what_dingtalk_echoes_of_the_message_is_cut_out(sent: str, errmsg: str, why: str) -> None:
    outcome = classify(old(430102, errmsg), said=[sent])

    assert isinstance(outcome, Dead)
    assert outcome.why == f"DingTalk finds the text unsuitable (code 430102): {why}"


def test_a_long_complaint_is_cut_to_one_printable_line() -> None:
    outcome = classify(old(999999, "x\x00\x1b[31m\n\t  y " + "много слов " * 500))

    assert isinstance(outcome, Dead)
    words = outcome.why.split(": ", 1)[1]
    assert words.startswith("x [31m y много слов")
    assert words.endswith("…")
    assert len(words) == answers.MAX_EXCERPT


def test_classifying_is_quick_whatever_comes() -> None:
    """64 KiB of the worst text that the masks and the echo search can meet."""
    sent = ["ab" * 10_000, "<" * 10_000]

    for body in ("<" * 65_536, "a" * 65_536, json.dumps({"errcode": 1, "errmsg": "ab" * 30_000}), "sign=" * 13_000):
        assert not isinstance(classify(answer(body), said=sent), Delivered)
