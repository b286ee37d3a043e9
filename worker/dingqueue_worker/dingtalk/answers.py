"""What each answer means: one table, one row per signal, each with its source. Knows no HTTP library and no queue.

Most rows name an ``errcode`` of the older host or a ``code`` of the newer one; a few name an HTTP status. The page behind
a source is ``https://open.dingtalk.com/document/development/<page>``; "seen" means public reports of real answers,
not documentation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Literal, TypeAlias, assert_never

from dingqueue_worker.outcome import (
    EVERY_SENDER,
    Close,
    CloseCause,
    Dead,
    Delivered,
    Outcome,
    Retry,
    Snooze,
    Unknown,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back over HTTP, as values.

    Attributes:
        status: The HTTP status.
        content_type: The header as it was, "" without one.
        body: The text, at most 64 KiB of it.
        date: The ``Date`` header: the far side's clock.
    """

    status: int
    content_type: str
    body: str
    date: str | None = None


#: DingTalk blocks an address for five minutes after 10,000 calls in 20 s, on every call.
#: https://open.dingtalk.com/document/development/how-to-process-api-throttling-on-the-dingtalk-server
BAN_S = 300.0
#: A robot's own mute; the shape of a block that also names the robot's limit lasts this long.
MUTE_S = 600.0
#: "System busy" may be repeated three times. https://open.dingtalk.com/document/development/server-api-error-codes-1
BUSY_AT_MOST = 3
MAX_EXCERPT = 200

#: What happens to the job and its sender.
#: ``delivered``: it is there, whoever brought it. ``retry``: later. ``token``: with a new app token, once.
#: ``unknown``: DingTalk may have done it. ``dead``: never, because of this job.
#: ``cooldown``, ``busy``, ``quota``, ``ban``, ``fault``: the job waits, its sender is closed for that cause.
Verdict: TypeAlias = Literal["delivered", "retry", "token", "unknown", "dead", CloseCause]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one signal means.

    Attributes:
        code: ``errcode``, ``88/sub_code`` or the newer host's ``code``, a shell pattern, in lower case; ``http NNN`` for a status.
        text: Any of these in ``errmsg`` (lower case) narrows the row; empty is any text. Earlier rows win.
        verdict: What follows.
        cause: A short stable slug, safe as a metric label.
        meaning: In words, for a person.
        source: Where this was learned.
        for_s: How long the sender is closed; None is that cause's own time (a fault's second proof follows within
            seconds, and then its sender is broken).
        at_most: Attempts after which a retry is given up; None is the fleet's own cap.
    """

    code: str
    verdict: Verdict
    cause: str
    meaning: str
    source: str
    text: tuple[str, ...] = ()
    for_s: float | None = None
    at_most: int | None = None


_ROBOT = "custom-robots-send-group-messages"
_ERRORS = "server-api-error-codes-1"
_THROTTLING = "how-to-process-api-throttling-on-the-dingtalk-server"
_APP_ROBOT = "the-robot-sends-a-group-message"
_READ_STATUS = "chatbot-batch-query-the-read-status-of-messages"
_PERSONAL_TODO = "api-createpersonaltodotask"
_NOTICE_RESULT = "gets-the-result-of-sending-messages-asynchronously-to-the-enterprise"
_TODO = "add-dingtalk-to-do-task"
_APP_KEYS = "api-gettoken"
_TODO_DELETE = "delete-dingtalk-to-do-tasks"
_MOBILE = "query-users-by-phone-number"
_USER = "query-user-details"
_SEEN = "seen"


def _row(code: str, verdict: Verdict, cause: str, meaning: str, source: str, **more: Any) -> Row:
    return Row(code=code.lower(), verdict=verdict, cause=cause, meaning=meaning, source=source, **more)


#: Looked up from the top: for the answer's code, the first row whose pattern and text fit.
ROWS: tuple[Row, ...] = (
    # Custom robots: rate and quota. The code for "too fast" has changed twice; all three are alive.
    _row("130101", "cooldown", "too_fast", "the robot sent more than 20 messages in a minute", _SEEN),
    _row("410100", "cooldown", "too_fast", "the robot sent more than 20 messages in a minute", _ROBOT),
    _row("660026", "cooldown", "too_fast", "the robot sent too many messages in a minute", _SEEN),
    _row("450101", "cooldown", "too_fast", "the robot sent too many messages in a minute", _SEEN),
    _row("90030", "quota", "quota", "the organisation's or the robot's quota of webhook calls is used up", _SEEN),
    _row("-1", "retry", "busy", "DingTalk's system is busy", _ERRORS, at_most=BUSY_AT_MOST),
    # Custom robots: the four security checks share one code, and their wording changes: match either language.
    _row(
        "310000",
        "dead",
        "keyword",
        "the message has none of the robot's keywords: set `keyword` for this robot, then replay the job",
        _ROBOT,
        text=("keyword", "关键词", "关键字"),
    ),
    _row(
        "310000",
        "fault",
        "ip",
        "this address is not on the robot's IP list",
        _ROBOT,
        text=("whitelist", "white list", "白名单"),
    ),
    # The second proof comes with a fresh signature: then the clock is wrong.
    _row(
        "310000",
        "fault",
        "timestamp",
        "the signature's time was refused: this machine's clock may be wrong",
        _ROBOT,
        text=("timestamp", "签名过期", "签名已过期", "时间戳"),
    ),
    _row(
        "310000",
        "fault",
        "sign",
        "the signature was refused: check the robot's `secret`",
        _ROBOT,
        text=("sign", "签名"),
    ),
    _row("310000", "fault", "security", "the robot's security check refused the message", _ROBOT),
    # Custom robots: gone, or never there. One test double used 300001 for other things too.
    _row(
        "300001", "dead", "keyword", "the message has none of the robot's keywords", _SEEN, text=("keyword", "关键词")
    ),
    _row("300001", "dead", "content", "a parameter was refused", _SEEN, text=("param", "参数")),
    _row("300001", "fault", "robot", "there is no robot with this token", _SEEN),
    _row("300005", "fault", "robot", "there is no robot with this token", _SEEN),
    _row("400101", "fault", "robot", "there is no robot with this token", _ROBOT),
    _row("400102", "fault", "robot", "the robot has been disabled", _ROBOT),
    _row("400106", "fault", "robot", "the robot is no longer in the group", _ROBOT),
    _row("400013", "fault", "robot", "the group has been dissolved", _ROBOT),
    # Custom robots: the message.
    _row("400105", "dead", "content", "the robot cannot send this type of message", _ROBOT),
    _row("4002[0-9][0-9]", "dead", "content", "the text is missing or malformed", _SEEN),
    _row("4004[0-9][0-9]", "dead", "content", "the markdown text or its title is missing or malformed", _SEEN),
    _row("4006[0-9][0-9]", "dead", "content", "the feed's links are missing or malformed", _SEEN),
    _row("401104", "dead", "content", "the file's type is missing", _SEEN),
    _row("430101", "dead", "content", "DingTalk finds a link unsafe", _ROBOT),
    _row("430102", "dead", "content", "DingTalk finds the text unsuitable", _ROBOT),
    _row("430103", "dead", "content", "DingTalk finds a picture unsuitable", _ROBOT),
    _row("430104", "dead", "content", "DingTalk finds the content unsuitable", _ROBOT),
    _row("460101", "dead", "too_long", "the body has more than 20,000 bytes", _SEEN),
    _row("101002", "dead", "too_long", "the body has more than 20,000 bytes", _SEEN),
    # Our own mistakes. What would hit every job closes the sender, so that jobs survive until it is mended.
    _row("40035", "fault", "request", "the token did not arrive", _SEEN, text=("access_token",)),
    _row("40035", "dead", "request", "the body is empty or not valid JSON", _ROBOT),
    _row("43002", "fault", "request", "the request did not arrive as a POST: is a proxy in between?", _SEEN),
    _row("43004", "fault", "request", "the content type did not arrive: is a proxy in between?", _ROBOT),
    _row("Missing*", "dead", "request", "the body or a field of it did not arrive", _SEEN),
    _row("Invalidbody", "dead", "request", "the body is not what this call takes", _SEEN),
    _row("22", "fault", "request", "there is no such call at this address: check the base URL", _SEEN),
    _row("404", "fault", "request", "there is no such call at this address: check the base URL", _SEEN),
    # App tokens.
    _row("40014", "token", "token", "the app token is not valid", _ERRORS, at_most=2),
    _row("42001", "token", "token", "the app token has run out", _ERRORS, at_most=2),
    _row("InvalidAuthentication", "token", "token", "the app token is not valid", _ERRORS, at_most=2),
    _row("40001", "token", "token", "the app token or the app's secret is not valid", _ERRORS, at_most=2),
    _row("33001", "token", "token", "the app token does not fit the organisation", _ERRORS, at_most=2),
    _row("41001", "fault", "request", "no app token arrived", _ERRORS),
    _row("40000", "fault", "request", "a parameter of the call is missing", _SEEN),
    _row("AuthenticationFailed.MissingParameter", "fault", "request", "no app token arrived", _SEEN),
    _row("invalidParameter.token.*", "fault", "credentials", "the app token was refused", _APP_ROBOT),
    _row("token.notExisted", "fault", "credentials", "the app token was refused", _APP_ROBOT),
    # Credentials, rights, addresses.
    _row("40096", "fault", "credentials", "the app's key or secret is wrong", _ERRORS),
    _row("40089", "fault", "credentials", "the app's key or secret is wrong", _ERRORS),
    _row("unsupported.grant.type", "fault", "request", "this is no way to ask for a token", _APP_KEYS),
    _row("server.error", "retry", "busy", "DingTalk's token service failed", _APP_KEYS),
    # An organisation that does not exist is answered so, and so is a bad moment.
    _row(
        "unknownError",
        "retry",
        "server_error",
        "DingTalk failed: if it goes on, check the corpId",
        _SEEN,
        at_most=BUSY_AT_MOST,
    ),
    _row("invalidClientIdOrSecret", "fault", "credentials", "the app's key or secret is wrong", _ERRORS),
    _row("invalid.client", "fault", "credentials", "the app's key or secret is wrong", _ERRORS),
    _row("unauthorized.client", "fault", "credentials", "the app may not do this", _ERRORS),
    _row("60011", "fault", "permission", "the app lacks the permission for this call", _ERRORS),
    _row("*.AccessTokenPermissionDenied", "fault", "permission", "the app lacks the permission for this call", _ERRORS),
    _row("60020", "fault", "ip", "this address is not on the app's IP list", _ERRORS),
    _row("*.IpNotInWhiteList", "fault", "ip", "this address is not on the app's IP list", _ERRORS),
    _row("90001", "fault", "disabled", "DingTalk has disabled calls from here", _ERRORS),
    _row("9000[3-6]", "fault", "disabled", "DingTalk has disabled calls from here", _ERRORS),
    # Throttles that are over in moments: waiting is not failing.
    _row("90018", "busy", "qps", "too many calls of this app in a second", _THROTTLING, for_s=1.0),
    _row("90002", "busy", "qps", "too many calls of everybody in a second", _THROTTLING, for_s=1.0),
    _row("9000[7-9]", "busy", "qps", "too many calls in a second", _THROTTLING, for_s=1.0),
    _row("9001[0-4]", "busy", "qps", "too many calls in a second", _THROTTLING, for_s=1.0),
    _row("*.QpsLimitFor*", "busy", "qps", "too many calls in a second", _THROTTLING, for_s=1.0),
    _row("*.QpmLimitFor*", "busy", "qpm", "too many calls in a minute", _ERRORS, for_s=60.0),
    _row("qps.exceed.limit", "busy", "qps", "too many calls in a second", _ERRORS, for_s=1.0),
    _row("request.overlimit", "busy", "throttled", "too many calls", _ERRORS, for_s=10.0),
    _row("oaplus.query.limit", "busy", "throttled", "too many calls", _ERRORS, for_s=10.0),
    _row("45009", "busy", "throttled", "too many calls", _ERRORS, for_s=10.0),
    _row("send.too.fast", "busy", "too_fast", "the app's robot sends too fast", _APP_ROBOT, for_s=60.0),
    _row("send.byToken.tooFast", "busy", "too_fast", "the robot sends too fast", _APP_ROBOT, for_s=60.0),
    _row("too.many.group", "busy", "too_fast", "too many groups in a short time", _APP_ROBOT, for_s=60.0),
    _row("too.many.people", "busy", "too_fast", "too many people in a short time", _APP_ROBOT, for_s=60.0),
    _row("90020", "quota", "quota", "the organisation's quota of calls is used up", _THROTTLING),
    _row("*.ApiCountLimitForOrg", "quota", "quota", "the organisation's quota of calls is used up", _THROTTLING),
    _row("system.busy", "retry", "busy", "DingTalk's system is busy", _ERRORS),
    _row("systemBusy", "retry", "busy", "DingTalk's system is busy", _ERRORS),
    _row("systemError.busy", "retry", "busy", "DingTalk's system is busy", _ERRORS),
    # App robots.
    _row("unknown.send.result", "unknown", "unknown_result", "DingTalk does not know whether it was sent", _APP_ROBOT),
    _row("system.error", "unknown", "unknown_result", "DingTalk failed in the middle of sending", _APP_ROBOT),
    _row("contain.*", "dead", "content", "DingTalk finds the content unsuitable", _APP_ROBOT),
    _row("invalidParameter.msgParam.tooLong", "dead", "too_long", "the message is too long", _APP_ROBOT),
    _row("miss.param.*", "dead", "content", "a field of the message is missing", _APP_ROBOT),
    _row("keywords.not.match", "dead", "keyword", "the message has none of the robot's keywords", _APP_ROBOT),
    _row("invalidParameter.msg*", "dead", "content", "the message was refused", _APP_ROBOT),
    _row("invalid.param.actionCard*", "dead", "content", "the card was refused", _APP_ROBOT),
    _row("sendMessage.model.notMatch", "dead", "content", "the message's template was refused", _APP_ROBOT),
    _row("invalidParameter.robotCode.*", "fault", "robot", "the robot code was refused", _APP_ROBOT),
    _row("resource.not.found", "fault", "robot", "there is no such robot", _APP_ROBOT),
    _row("resource.unavailable", "fault", "robot", "the robot is not available", _APP_ROBOT),
    _row("bot.stopped", "fault", "robot", "the robot has been stopped", _APP_ROBOT),
    _row("template.*", "fault", "robot", "the robot's template is stopped or gone", _APP_ROBOT),
    # One group's trouble is that job's alone: the app speaks in other groups too.
    _row("bot.forbidden.sendMessage", "dead", "conversation", "the robot has been muted in this group", _APP_ROBOT),
    _row("group.disbanded", "dead", "conversation", "the group has been dissolved", _APP_ROBOT),
    _row("*.openConversationId", "dead", "conversation", "there is no such conversation", _APP_ROBOT),
    _row("conversation.org.notMatch", "dead", "conversation", "it is another organisation's group", _APP_ROBOT),
    _row("only.groupAdmin.canAtAll", "dead", "conversation", "only the group's admins may ring everyone", _APP_ROBOT),
    _row("session.*", "dead", "conversation", "the conversation's reply address has run out", _APP_ROBOT),
    _row("send.forbidden", "fault", "permission", "the robot may not send here", _APP_ROBOT),
    _row("chatbotId.notAllow.sendOTO", "fault", "permission", "the robot may not write to people", _APP_ROBOT),
    _row("robot.oto.notExist", "fault", "robot", "the robot cannot write to people", _APP_ROBOT),
    _row("unauthorized", "fault", "credentials", "the app may not do this", _APP_ROBOT),
    _row("auth.error", "fault", "credentials", "the app's credentials were refused", _APP_ROBOT),
    _row("ip.not.match", "fault", "ip", "this address is not on the robot's IP list", _APP_ROBOT),
    _row("sign.not.match", "fault", "sign", "the signature was refused: check the robot's `secret`", _APP_ROBOT),
    # So are people whom the app cannot reach.
    _row("invalidParameter.userId*", "dead", "recipients", "the people named were refused", _APP_ROBOT),
    _row("staffId.notExisted", "dead", "recipients", "there is no such person in the organisation", _APP_ROBOT),
    _row("illegal.receivers", "dead", "recipients", "the people named were refused", _APP_ROBOT),
    _row("receivers.exceed", "dead", "recipients", "too many people in one call", _APP_ROBOT),
    _row("processQueryKey.expireTime", "retry", "not_yet", "the result is not there (yet)", _READ_STATUS, at_most=5),
    # Work notifications.
    _row("143106", "delivered", "duplicate", "the same message reached them today already", _NOTICE_RESULT),
    _row("143105", "quota", "daily_quota", "the people's quota of today is used up", _NOTICE_RESULT, for_s=3_600.0),
    _row("14310[34]", "busy", "throttled", "too many notifications in a minute", _NOTICE_RESULT, for_s=60.0),
    _row("4104[678]", "busy", "throttled", "too many notifications in a minute", _ERRORS, for_s=60.0),
    _row("1430003", "retry", "busy", "the notification was not sent", _NOTICE_RESULT),
    _row("1430002", "dead", "content", "DingTalk finds the content unsuitable", _NOTICE_RESULT),
    _row("41049", "dead", "content", "DingTalk finds the content unsuitable", _ERRORS),
    _row("40048", "dead", "content", "DingTalk finds a link unsafe", _ERRORS),
    _row("34016", "dead", "too_long", "the message is too long", _ERRORS),
    _row("45002", "dead", "too_long", "the message is too long", _ERRORS),
    _row("41101", "dead", "too_long", "the message is too long", _ERRORS),
    _row("4102[89]", "dead", "recipients", "the app cannot reach these people", _ERRORS),
    _row(
        "41045",
        "quota",
        "daily_quota",
        "today's notifications to the whole company are used up",
        _ERRORS,
        for_s=3_600.0,
    ),
    _row("40104", "dead", "recipients", "it is no mobile number", _MOBILE),
    _row("400002", "dead", "request", "a parameter of the call was refused", _USER),
    _row("1430000", "dead", "recipients", "the notification has nobody to go to", _NOTICE_RESULT),
    _row("1430004", "dead", "recipients", "these people are shielded from notifications", _NOTICE_RESULT),
    _row("41044", "dead", "recipients", "the app cannot reach these people", _ERRORS),
    _row("40056", "fault", "agent", "the app's agent_id is not valid", _ERRORS),
    _row("33012", "dead", "recipients", "there is no such person in the organisation", _ERRORS),
    _row("50002", "dead", "recipients", "these people are outside the app's scope", _ERRORS),
    _row("60121", "dead", "recipients", "there is no such person in the organisation", _ERRORS),
    # Uploads.
    _row("4000[4-7]", "dead", "content", "the file or its type was refused", _ERRORS),
    _row("41005", "dead", "content", "the file did not arrive", _ERRORS),
    _row("43008", "dead", "content", "the file did not arrive as a form", _ERRORS),
    _row("44001", "dead", "content", "the file is empty", _ERRORS),
    _row("45001", "dead", "too_long", "the file is too large", _ERRORS),
    _row("operationTimeout", "retry", "busy", "DingTalk's storage took too long", _ERRORS),
    _row("dingSpaceError", "retry", "busy", "DingTalk's storage failed", _ERRORS),
    # Todos.
    _row(
        "todo.taskCreate.paramError", "delivered", "duplicate", "the todo exists already", _TODO, text=("task exist",)
    ),
    _row(
        "todo.taskDelete.paramError",
        "delivered",
        "duplicate",
        "the todo is gone already",
        _TODO_DELETE,
        text=("not exist",),
    ),
    _row("todo.*paramError", "dead", "content", "a field of the todo was refused", _TODO),
    _row("todo.taskCreate.lockError", "retry", "busy", "DingTalk's todo service is busy", _TODO),
    _row("todo.*flowControlError", "retry", "busy", "DingTalk's todo service is busy", _TODO),
    _row("todo.*systemError", "retry", "busy", "DingTalk's todo service failed", _TODO),
    _row(
        "todo.taskCreate.tokenTypeError",
        "fault",
        "credentials",
        "a todo without a link needs a user's token",
        _PERSONAL_TODO,
    ),
    # Answers without a code that we know. A gateway speaks for a server whose end it did not see.
    _row("http 401", "token", "token", "the app token is missing or not valid", _ERRORS, at_most=2),
    _row("http 404", "fault", "request", "there is no such call at this address: check the base URL", _SEEN),
    _row("http 407", "fault", "request", "the proxy wants a user and a password", _SEEN),
    _row("http 413", "dead", "too_long", "the body is too large for the server or a proxy", _SEEN),
    _row("http 429", "busy", "throttled", "too many calls", _ERRORS, for_s=60.0),
    _row("http 50[234]", "unknown", "gateway", "a gateway lost the server behind it", _SEEN),
    _row("http 5[0-9][0-9]", "retry", "server_error", "the server failed", _SEEN),
)
_UNKNOWN_SERVER_CODE = Row(
    code="",
    verdict="retry",
    cause="server_error",
    meaning="the server failed with a code that we do not know",
    source=_SEEN,
    at_most=BUSY_AT_MOST,
)
_UNKNOWN_CODE = Row(
    code="",
    verdict="dead",
    cause="unknown_code",
    meaning="DingTalk refused it with a code that we do not know",
    source=_SEEN,
)
_UNREADABLE = Row(
    code="", verdict="unknown", cause="unreadable", meaning="an answer that says neither yes nor no", source=_SEEN
)
_BLOCKED = Row(code="", verdict="ban", cause="ban", meaning="DingTalk's edge blocks this address", source=_THROTTLING)
_BLOCKED_AND_MUTED = Row(
    code="",
    verdict="ban",
    cause="ban",
    meaning="DingTalk's edge blocks this address, and the robot sent too fast",
    source=_SEEN,
    for_s=MUTE_S,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """DingTalk said yes.

    Attributes:
        fields: The answer as it was; it may hold a token, so it is for the caller and not for a log.
        receipt: What to keep of it with the job.
    """

    fields: Mapping[str, Any] = field(repr=False)
    receipt: Mapping[str, str]

    def text(self, name: str) -> str:
        """A field's text or number as text, "" where it is neither."""
        return _scalar(self.fields.get(name)) or ""

    def names(self, name: str) -> tuple[str, ...]:
        """A list of ids, which DingTalk leaves out where it is empty: ``invalidStaffIdList``."""
        found = self.fields.get(name)
        return tuple(text for one in found if (text := _scalar(one))) if isinstance(found, list) else ()


def classify(answer: Answer, *, said: Iterable[str] = ()) -> Outcome:
    """How the attempt ended that got this answer to a webhook robot's message.

    Args:
        answer: What came back.
        said: The texts that were sent; what DingTalk echoes of them is cut out of ``why``.
    """
    read = read_older(answer, said=said)
    return Delivered(receipt=read.receipt) if isinstance(read, Taken) else read


def meaning_of(code: str) -> tuple[Verdict, str]:
    """What a code means that stands beside one person in an answer that is a yes (``forbidden_list``)."""
    row = _find(code, "") or _UNKNOWN_CODE
    return row.verdict, f"{row.meaning} (code {_cleaned(code)})"


def read_older(answer: Answer, *, proof: str | None = None, said: Iterable[str] = ()) -> Taken | Outcome:
    """An answer of the older host (``oapi.dingtalk.com``): yes is a 2xx with an ``errcode`` of 0, and nothing else is.

    Robots, ``gettoken``, uploads (proof ``media_id``), work notifications (``task_id``), look-ups of people (``result``).

    Args:
        answer: What came back.
        proof: A field without which the yes is worth nothing.
        said: The texts that were sent; what DingTalk echoes of them is cut out of ``why``.

    Returns:
        The yes, or the outcome that a refusal means: a block at the edge first (its body may carry a code too), then
        the ``errcode``, then the HTTP status, then a redirect or a page that is no JSON (a block again).
    """
    return _read(answer, yes=frozenset({"0"}), proof=proof, said=said)


def read_newer(answer: Answer, *, proof: str | None, said: Iterable[str] = ()) -> Taken | Outcome:
    """An answer of the newer host (``api.dingtalk.com``): yes is a 2xx without a code that has the field ``proof``.

    Tokens (proof ``accessToken``), app robots (``processQueryKey``), new todos (``id``), changed ones (``result``).
    A 2xx does not prove it: an unknown path is answered with ``200 {"errcode": 404}``.

    Args:
        answer: What came back.
        proof: The field that a yes to this call always has, with a value that is not empty; None where there is none,
            and the caller looks closer.
        said: The texts that were sent; what DingTalk echoes of them is cut out of ``why``.

    Returns:
        The yes, or the outcome that a refusal means, read as ``read_older`` does. A batch may be refused in part:
        look at ``Taken.names("invalidStaffIdList")`` and ``("flowControlledStaffIdList")``.
    """
    return _read(answer, yes=frozenset({None, "0"}), proof=proof, said=said)


def _read(answer: Answer, *, yes: frozenset[str | None], proof: str | None, said: Iterable[str]) -> Taken | Outcome:
    fields = _json_object(answer.body)
    if fields is None:
        row = _row_without_json(answer)
        return _outcome(row, f"HTTP {answer.status}: {row.meaning}{_quoted(_page_excerpt(answer.body), said)}")
    errmsg = _errmsg(fields)
    code = _code(fields, errmsg)
    refusal = _refusal(answer, fields, code, errmsg)
    if refusal is None:
        if code in yes and (proof is None or fields.get(proof)):
            return Taken(fields=fields, receipt=_receipt(answer, fields, code))
        refusal = _UNREADABLE
    signal = f"code {code}" if code is not None else f"HTTP {answer.status}"
    request_id = _request_id(fields)
    named = f"{signal}, request {request_id}" if request_id else signal
    return _outcome(refusal, f"{refusal.meaning} ({_cleaned(named)}){_quoted(errmsg, said)}")


def _refusal(answer: Answer, fields: Mapping[str, Any], code: str | None, errmsg: str) -> Row | None:
    """What an answer in JSON refuses; None where nothing in it is a refusal."""
    known = _find(code, errmsg) if code is not None else None
    if fields.get("punish") or str(fields.get("status")) == "1111":
        return _BLOCKED_AND_MUTED if known and known.verdict == "cooldown" else _BLOCKED
    if known:
        return known
    if 300 <= answer.status < 400:
        return _BLOCKED
    good = 200 <= answer.status < 300
    if code == "0":
        # "0" beside a refusing status contradicts itself: it may be there.
        return None if good else _UNREADABLE
    by_status = _find(f"http {answer.status}", "")
    if code is None:
        return None if good else by_status or _UNREADABLE
    if by_status and by_status.verdict == "retry":
        return _UNKNOWN_SERVER_CODE
    return by_status or _UNKNOWN_CODE


def _row_without_json(answer: Answer) -> Row:
    if row := _find(f"http {answer.status}", ""):
        return row
    text = answer.body.lstrip()
    if 200 <= answer.status < 300 and text[:1] in {"", "{", "["}:
        # Nothing at all, or JSON cut short: the yes may be in the part that we do not have.
        return _UNREADABLE
    return _BLOCKED


def _find(code: str, errmsg: str) -> Row | None:
    errmsg = _complaint(errmsg).lower()
    rows = _rows_of(code.lower())
    return next((row for row in rows if not row.text or any(text in errmsg for text in row.text)), None)


@lru_cache(maxsize=512)
def _rows_of(code: str) -> tuple[Row, ...]:
    return tuple(row for row in ROWS if fnmatchcase(code, row.code))


def _outcome(row: Row, why: str) -> Outcome:
    match row.verdict:
        case "delivered":
            return Delivered(receipt={"note": why})
        case "retry" | "token":
            return Retry(why=why, cause=row.cause, at_most=row.at_most)
        case "unknown":
            return Unknown(why=why, cause=row.cause)
        case "dead":
            return Dead(why=why, cause=row.cause)
        case "ban":
            return _closed(row, "ban", why, for_s=row.for_s or BAN_S, sender=EVERY_SENDER)
        case "fault":
            return _closed(row, "fault", why, for_s=row.for_s)
        case "cooldown" | "quota" | "busy" as cause:
            return _closed(row, cause, why, for_s=row.for_s)
        case other:
            assert_never(other)


def _closed(row: Row, cause: CloseCause, why: str, *, for_s: float | None, sender: str | None = None) -> Snooze:
    return Snooze(why=why, cause=row.cause, close=Close(cause=cause, why=why, for_s=for_s, sender=sender))


# --- Reading the body -------------------------------------------------------------------------------------------


def _json_object(body: str) -> Mapping[str, Any] | None:
    """The body's fields; None for no JSON, or JSON that is cut short. JSON that is no object has no fields."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else {}


def _code(fields: Mapping[str, Any], errmsg: str) -> str | None:
    """The answer's code as text: ``errcode`` (number or text), for 88 the code inside it, or the newer host's ``code``.

    None where there is none, and where it is of a type that DingTalk does not use: ``false`` must not pass for 0.
    """
    code = _scalar(_first(fields, "errcode", "code", "Code"))
    if code != "88":
        return code
    inside = _scalar(_first(fields, "sub_code", "subCode"))
    if inside is None:
        named = re.search(r"subcode=(\w[\w.]*)", errmsg)
        inside = named[1] if named else None
    return inside or code


def _first(fields: Mapping[str, Any], *names: str) -> object:
    return next((value for name in names if (value := fields.get(name)) is not None), None)


def _scalar(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return str(value).strip() or None


def _errmsg(fields: Mapping[str, Any]) -> str:
    found = [fields.get(name) for name in ("errmsg", "sub_msg", "message", "Message")]
    return next((text for text in found if isinstance(text, str) and text), "")


def _complaint(errmsg: str) -> str:
    """Without the advice that follows it (``description:…;solution:…;link:…``), which names all the checks."""
    return re.split(r"[;；]\s*(?:solution|link|解决方案|参考链接)|, more:", errmsg, maxsplit=1)[0]


def _receipt(answer: Answer, fields: Mapping[str, Any], code: str | None) -> Mapping[str, str]:
    receipt = {"errcode": code} if code is not None else {}
    if answer.date:
        receipt["date"] = _cleaned(answer.date)
    if request_id := _request_id(fields):
        receipt["request_id"] = _cleaned(request_id)
    return receipt


def _request_id(fields: Mapping[str, Any]) -> str | None:
    return _scalar(_first(fields, "request_id", "requestid", "requestId", "RequestId"))


# --- Words for people, without secrets and without the message --------------------------------------------------

_SECRETS = re.compile(
    r"""(?P<name>(?:access_token|token|sign|secret)["']?\s*[=:]\s*["']?)[^\s&"',;\]})]+  # name=value
    | \b(?-i:SEC)[0-9A-Za-z]{8,}                                                          # a robot's secret
    | \b[0-9a-fA-F]{32,}\b                                                                 # tokens are long hex
    | [0-9A-Za-z+/%]{40,}={0,2}                                                            # signatures are Base64
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ECHO_LENGTH = 8


def _quoted(text: str, said: Iterable[str]) -> str:
    excerpt = _cleaned(_without_echo(text[: 4 * MAX_EXCERPT], said))
    return f": {excerpt}" if excerpt else ""


def _cleaned(text: str) -> str:
    """One line of at most 200 characters, without control characters and whatever looks like a secret."""
    text = _SECRETS.sub(lambda found: f"{found['name'] or ''}***", text)
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= MAX_EXCERPT else text[: MAX_EXCERPT - 1] + "…"


def _page_excerpt(body: str) -> str:
    """A page's visible words."""
    body = re.sub(r"(?is)<(script|style)\b.*?(</\1\s*>|$)", " ", body[:4096])
    return re.sub(r"<[^>]*>?", " ", body)


def _without_echo(text: str, said: Iterable[str]) -> str:
    """``text`` without whatever 8 or more characters (or a whole shorter line, from 4) it shares with what was sent."""
    lines = [line.strip() for part in said for line in part.splitlines()]
    for line in lines:
        if 4 <= len(line) < _ECHO_LENGTH:
            text = text.replace(line, "…")
    sent = "\n".join(lines)
    return re.sub(r"…+", "…", "".join(_masked(text, sent)))


def _masked(text: str, sent: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        length = _ECHO_LENGTH
        if text[at : at + length] not in sent or at + length > len(text):
            yield text[at]
            at += 1
            continue
        while at + length < len(text) and text[at : at + length + 1] in sent:
            length += 1
        yield "…"
        at += length
