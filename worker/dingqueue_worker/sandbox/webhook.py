"""The rules of ``POST /robot/send``: what DingTalk refuses and in which words. Pure: knows no HTTP, no clock, no state.

https://open.dingtalk.com/document/development/custom-robots-send-group-messages; where that page is silent, public
reports of real answers; where nobody has reported one, the sandbox refuses and says that the code is its own guess.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from dingqueue_worker.sandbox.model import Robot, Rules

MAX_BODY_BYTES = 20_000
MAX_MENTIONS = 50
#: A signature holds for an hour. https://open.dingtalk.com/document/dingstart/customize-robot-security-settings
SIGNATURE_HOLDS_MS = 3_600_000
TYPES = ("text", "link", "markdown", "actionCard", "feedCard")


class Verdict(NamedTuple):
    """DingTalk's answer, and what the sandbox knows beyond it.

    Attributes:
        errcode: 0 is "taken".
        errmsg: In DingTalk's words.
        reason: For a person: what is wrong and what to change; "" when nothing is.
        assumed: Nobody has documented or reported this code: it is the sandbox's guess.
        step: The check that refused it, one of ``STEPS``.
    """

    errcode: int | str
    errmsg: str
    reason: str = ""
    assumed: bool = False
    step: str = ""

    def at(self, step: str) -> Verdict:
        """The same, refused by that check; "taken" stays as it is."""
        return self._replace(step=step) if self.errcode else self


#: The checks, in the order in which a message passes them.
STEPS = (
    "method", "token", "robot", "limit", "content type", "address", "signature", "size", "json", "fields", "mentions",
    "msgUuid", "keywords", "quota",
)  # fmt: skip
OK = Verdict(0, "ok")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to ``/robot/send``."""

    method: str
    query: str
    content_type: str
    body: bytes
    ip: str


def fields_of(query: str) -> dict[str, list[str]]:
    """The query's fields, decoded once."""
    return parse_qs(query, keep_blank_values=True)


def check_envelope(request: Request, fields: Mapping[str, list[str]]) -> Verdict:
    """What DingTalk looks at before it looks for the robot."""
    if request.method != "POST":
        why = f"the method is {request.method}, DingTalk wants POST"
        return Verdict(43002, "require POST method", why).at("method")
    if not fields.get("access_token", [""])[0]:
        return Verdict(40035, "missing parameter: access_token", "the URL has no access_token").at("token")
    return OK


def no_robot(rules: Rules) -> Verdict:
    """The token belongs to no robot."""
    return Verdict(rules.no_robot_errcode, "token is not exist", "no robot of this space has this token").at("token")


def check_robot(robot: Robot) -> Verdict:
    """What the group's owner did to the robot."""
    return _TAKEN_AWAY.get(robot.state, OK)


_TAKEN_AWAY = {
    "disabled": Verdict(400102, "robot is disabled", "the group's owner has disabled this robot").at("robot"),
    "removed": Verdict(400106, "robot does not exist", "the robot is no longer in the group").at("robot"),
    "group gone": Verdict(400013, "group is disbanded", "the group has been dissolved").at("robot"),
}


def too_fast(rules: Rules, why: str) -> Verdict:
    """One message too many, or during the mute."""
    words = {
        130101: "send too fast, exceed 20 times per minute",
        410100: "sending too fast and throttled",
        660026: "sending too many messages per minute",
    }
    return Verdict(rules.too_fast_errcode, words[rules.too_fast_errcode], why).at("limit")


def check_security(
    robot: Robot, rules: Rules, fields: Mapping[str, list[str]], request: Request, now_ms: int
) -> Verdict:
    """Content type, address and signature."""
    verdict = _check_content_type(request.content_type)
    if not verdict.errcode and robot.allow_ips and not _allowed(request.ip, robot.allow_ips):
        words = f"ip {request.ip} not in whitelist" if rules.wording == "en" else f"ip {request.ip} 不在白名单中"
        why = f"{request.ip} is not on the robot's list of addresses"
        verdict = Verdict(310000, _wrapped(words, rules), why).at("address")
    if not verdict.errcode and robot.secret:
        verdict = _check_signature(robot, rules, fields, now_ms).at("signature")
    return verdict


def _check_content_type(content_type: str) -> Verdict:
    kind, _, parameters = content_type.partition(";")
    words = "invalid HTTP header Content-Type"
    if kind.strip().lower() != "application/json":
        found = f"it is {kind.strip()!r}" if kind else "there is none"
        return Verdict(43004, words, f"the content type must be application/json, and {found}").at("content type")
    if "charset" in parameters.lower() and "utf-8" not in parameters.lower():
        return Verdict(43004, words, "the charset must be utf-8", assumed=True).at("content type")
    return OK


def signature(secret: str, timestamp: str) -> str:
    """The signature as DingTalk computes it, Base64 and not URL-encoded."""
    digest = hmac.digest(secret.encode(), f"{timestamp}\n{secret}".encode(), hashlib.sha256)
    return base64.b64encode(digest).decode("ascii")


def _check_signature(robot: Robot, rules: Rules, fields: Mapping[str, list[str]], now_ms: int) -> Verdict:
    timestamps, signs = fields.get("timestamp", []), fields.get("sign", [])

    def late(reason: str, *, assumed: bool = False) -> Verdict:
        words = (
            "invalid timestamp"
            if rules.wording == "en"
            else "机器人发送签名过期;solution:签名生成时间和发送时间请保持在 timestampms 以内"
        )
        return Verdict(310000, _wrapped(words, rules), reason, assumed)

    def wrong(reason: str, *, assumed: bool = False) -> Verdict:
        words = (
            "sign not match"
            if rules.wording == "en"
            else "机器人发送签名不匹配;solution:请确认签名和生成签名的时间戳必须都放在调用的网址中"
        )
        return Verdict(310000, _wrapped(words, rules), reason, assumed)

    if not timestamps:
        return late("the robot signs, and the URL has no timestamp")
    if not signs:
        return wrong("the robot signs, and the URL has no sign")
    if len(timestamps) > 1 or len(signs) > 1:
        return wrong("timestamp or sign stands in the URL more than once: sign a fresh URL each time", assumed=True)
    timestamp = timestamps[0]
    if not re.fullmatch(r"[0-9]{1,15}", timestamp):
        return late("the timestamp is not a number of milliseconds")
    age_ms = now_ms - int(timestamp)
    if abs(age_ms) > SIGNATURE_HOLDS_MS:
        if len(timestamp) == 10:
            return late("the timestamp is in seconds; DingTalk wants milliseconds")
        if age_ms < 0:
            return late(f"the timestamp is {_span(-age_ms)} ahead: the sender's clock is wrong", assumed=True)
        return late(f"the timestamp is {_span(age_ms)} old, it holds for an hour: sign when the request is sent")
    right = signature(robot.secret or "", timestamp)
    if not hmac.compare_digest(right.encode(), signs[0].encode()):
        if signs[0].replace(" ", "+") == right:
            return wrong("the + of the signature arrived as a space: URL-encode it")
        if "%" in signs[0]:
            return wrong("the signature arrived with % in it: it was URL-encoded twice")
        return wrong("the signature does not fit the secret and the timestamp")
    return OK


def _span(ms: int) -> str:
    for size_ms, unit in ((86_400_000, "days"), (3_600_000, "hours")):
        if ms >= 2 * size_ms:
            return f"{ms / size_ms:,.1f} {unit}"
    return f"{ms / 60_000:.0f} minutes"


def _wrapped(words: str, rules: Rules) -> str:
    if rules.wording == "en":
        return words
    return f"错误描述:{words};参考链接:请参考本接口对应文档查看错误码说明"


def _allowed(ip: str, networks: tuple[str, ...]) -> bool:
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(network) for network in networks)


class Unreadable(Exception):
    """The body is not JSON as DingTalk reads it; the text says why."""


def read(body: bytes) -> Any:
    """The body's JSON.

    Raises:
        Unreadable: Not UTF-8, not JSON, or with half a surrogate pair.
    """
    try:
        text = body.decode()
        data = json.loads(text, parse_constant=_no_constant)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Unreadable("the body escapes half a surrogate pair") from error
    except UnicodeDecodeError as error:
        raise Unreadable(f"the body is not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise Unreadable("the body is nested too deeply") from error
    except ValueError as error:
        raise Unreadable(f"the body is not JSON: {error}" if body else "the body is empty") from error
    return data


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def check_message(robot: Robot, rules: Rules, body: bytes) -> tuple[Verdict, Mapping[str, Any] | None]:
    """Size, form, fields, mentions and keywords; the message itself where the form is right."""
    if len(body) > MAX_BODY_BYTES:
        words = f"body size illegal, please keep body size within {MAX_BODY_BYTES} bytes"
        why = f"the body has {len(body):,} bytes, DingTalk takes {MAX_BODY_BYTES:,}"
        return Verdict(460101, words, why).at("size"), None
    try:
        message = read(body)
    except Unreadable as error:
        return Verdict(40035, "missing parameter: json", str(error)).at("json"), None
    if not isinstance(message, dict):
        return Verdict(40035, "missing parameter: json", "the body is JSON, but no object").at("json"), None
    if rules.refuse_escapes and re.search(rb"(?<!\\)(?:\\\\)*\\u[0-9a-fA-F]{4}", body):
        why = "the body has \\uXXXX in it: send UTF-8 unescaped"
        return Verdict(40033, "invalid charset", why).at("json"), message
    for step, check in _MESSAGE_CHECKS:
        verdict = check(robot, rules, message)
        if verdict.errcode:
            return verdict.at(step), message
    return OK, message


def _check_fields(_: Robot, __: Rules, message: Mapping[str, Any]) -> Verdict:
    msgtype = message.get("msgtype")
    if not isinstance(msgtype, str) or not msgtype:
        return Verdict(40035, "missing parameter: msgtype", "msgtype must be a string", assumed=True)
    if msgtype not in TYPES:
        why = f"a custom robot cannot send {msgtype!r}, only {', '.join(TYPES)}"
        return Verdict(400105, "unsupported msgtype", why)
    return next((verdict for verdict in _FIELDS[msgtype](message.get(msgtype)) if verdict.errcode), OK)


def _check_uuid(_: Robot, __: Rules, message: Mapping[str, Any]) -> Verdict:
    uuid = message.get("msgUuid")
    if uuid is None or (isinstance(uuid, str) and uuid.strip()):
        return OK
    return Verdict(40035, "invalid parameter: msgUuid", "msgUuid must be a string that is not blank", assumed=True)


def _check_keywords(robot: Robot, rules: Rules, message: Mapping[str, Any]) -> Verdict:
    if not robot.keywords or any(word in searched_text(message) for word in robot.keywords):
        return OK
    words = "关键词不匹配;solution:请联系群管理员查看此机器人的关键词"
    return Verdict(
        310000,
        _wrapped(words, rules) if rules.wording == "zh" else "keywords not in content",
        f"the text has none of the robot's keywords: {', '.join(robot.keywords)}",
    )


def _text(content: Any) -> Iterator[Verdict]:
    if not isinstance(content, dict):
        yield Verdict(400201, "miss parameter: text", "text must be an object")
    else:
        yield _string(content, "content", 400201, "text", assumed=False)


def _markdown(content: Any) -> Iterator[Verdict]:
    if not isinstance(content, dict):
        yield Verdict(400401, "miss parameter: markdown", "markdown must be an object")
        return
    yield _string(content, "title", 400402, "markdown", assumed=False)
    yield _string(content, "text", 400403, "markdown", assumed=False)


def _link(content: Any) -> Iterator[Verdict]:
    if not isinstance(content, dict):
        yield Verdict(400301, "miss parameter: link", "link must be an object", assumed=True)
        return
    yield _string(content, "title", 400302, "link")
    yield _string(content, "text", 400303, "link")
    yield _string(content, "messageUrl", 400304, "link", other="messageURL")
    yield _optional(content, "picUrl", 400305, "link")


def _action_card(content: Any) -> Iterator[Verdict]:
    name = "actionCard"
    if not isinstance(content, dict):
        yield Verdict(400501, f"miss parameter: {name}", f"{name} must be an object", assumed=True)
        return
    yield _string(content, "title", 400502, name)
    yield _string(content, "text", 400503, name)
    for field in ("btnOrientation", "hideAvatar"):
        if content.get(field, "0") not in ("0", "1"):
            yield Verdict(400505, f"invalid parameter: {name}.{field}", f'{field} must be "0" or "1"', assumed=True)
    if "singleTitle" in content or "singleURL" in content:
        yield _string(content, "singleTitle", 400504, name)
        yield _string(content, "singleURL", 400504, name, other="singleUrl")
        return
    buttons = content.get("btns")
    if not isinstance(buttons, list) or not buttons:
        why = "a card needs singleTitle and singleURL, or a list btns that is not empty"
        yield Verdict(400504, f"miss parameter: {name}.btns", why, assumed=True)
        return
    for number, button in enumerate(buttons):
        if not isinstance(button, dict):
            yield Verdict(400504, f"invalid parameter: {name}.btns", "a button must be an object", assumed=True)
            return
        yield _string(button, "title", 400504, f"{name}.btns[{number}]")
        yield _string(button, "actionURL", 400504, f"{name}.btns[{number}]", other="actionUrl")


def _feed_card(content: Any) -> Iterator[Verdict]:
    if not isinstance(content, dict):
        yield Verdict(400601, "miss parameter: feedCard", "feedCard must be an object", assumed=True)
        return
    links = content.get("links")
    if not isinstance(links, list) or not links:
        yield Verdict(400602, "miss parameter: feedCard.links", "links must be a list that is not empty")
        return
    for number, link in enumerate(links):
        if not isinstance(link, dict):
            yield Verdict(400602, "invalid parameter: feedCard.links", "a link must be an object")
            return
        yield _string(link, "title", 400603, f"feedCard.links[{number}]")
        yield _string(link, "messageURL", 400603, f"feedCard.links[{number}]", other="messageUrl")
        yield _string(link, "picURL", 400603, f"feedCard.links[{number}]", other="picUrl")


_FIELDS = {"text": _text, "link": _link, "markdown": _markdown, "actionCard": _action_card, "feedCard": _feed_card}


def _string(
    content: Mapping[str, Any], field: str, errcode: int, place: str, *, other: str = "", assumed: bool = True
) -> Verdict:
    value = content.get(field)
    if isinstance(value, str) and value.strip():
        return OK
    if value is None and other and other in content:
        why = f"{place} spells this field {field}, not {other}"
    elif value is None:
        why = f"{place}.{field} is missing"
    elif isinstance(value, str):
        why = f"{place}.{field} is blank"
    else:
        why = f"{place}.{field} must be a string"
    return Verdict(errcode, f"miss parameter: {place}.{field}", why, assumed)


def _optional(content: Mapping[str, Any], field: str, errcode: int, place: str) -> Verdict:
    if content.get(field) is None or isinstance(content[field], str):
        return OK
    return Verdict(errcode, f"invalid parameter: {place}.{field}", f"{place}.{field} must be a string", assumed=True)


def _check_at(_: Robot, __: Rules, message: Mapping[str, Any]) -> Verdict:
    at = message.get("at")
    if at is None:
        return OK
    if not isinstance(at, dict):
        return Verdict(40035, "invalid parameter: at", "at must be an object", assumed=True)
    for field in ("atMobiles", "atUserIds"):
        people = at.get(field)
        if people is not None and not (isinstance(people, list) and all(isinstance(one, str) for one in people)):
            return Verdict(
                40035, f"invalid parameter: at.{field}", f"at.{field} must be a list of strings", assumed=True
            )
    if not isinstance(at.get("isAtAll", False), bool | None):
        return Verdict(40035, "invalid parameter: at.isAtAll", "at.isAtAll must be true or false", assumed=True)
    people = [*(at.get("atMobiles") or ()), *(at.get("atUserIds") or ())]
    if len(people) > MAX_MENTIONS:
        why = f"{len(people)} people to ring; DingTalk takes {MAX_MENTIONS}"
        return Verdict(40035, "invalid parameter: at", why, assumed=True)
    return OK


_MESSAGE_CHECKS = (
    ("fields", _check_fields),
    ("mentions", _check_at),
    ("msgUuid", _check_uuid),
    ("keywords", _check_keywords),
)


def searched_text(message: Mapping[str, Any]) -> str:
    """Where keywords are looked for: what people read, not the title that only the notification shows."""
    msgtype = message["msgtype"]
    content = message.get(msgtype)
    if not isinstance(content, dict):
        return ""
    if msgtype == "feedCard":
        links = content.get("links")
        titles = (link.get("title") for link in links if isinstance(link, dict)) if isinstance(links, list) else ()
        return "\n".join(str(title) for title in titles)
    return str(content.get("content" if msgtype == "text" else "text") or "")
