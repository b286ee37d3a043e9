"""What DingTalk thought of a message, check by check. Pure; secrets masked."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from dingqueue_worker.sandbox import view, webhook
from dingqueue_worker.sandbox.space import Message, mask

Mark = Literal["passed", "failed", "unseen", "absent"]


@dataclass(frozen=True, slots=True)
class Step:
    """One check.

    Attributes:
        name: Of ``webhook.STEPS``.
        mark: ``passed``, ``failed``, ``unseen`` (an earlier one failed) or ``absent`` (the robot has no such rule).
        says: In words.
        lines: The working, a label and a value each.
    """

    name: str
    mark: Mark
    says: str
    lines: tuple[tuple[str, str], ...] = ()


def steps(one: Message) -> list[Step]:
    """Every check in DingTalk's order; none where a fault was played instead."""
    if one.fault and one.state == "failed" and one.done is None:
        return []
    if one.way != "webhook":
        return _api_steps(one)
    failed = webhook.STEPS.index(one.verdict.step) if one.verdict.errcode else len(webhook.STEPS)
    found = []
    for number, name in enumerate(webhook.STEPS):
        says, lines, absent = _EXPLAIN[name](one)
        if number > failed:
            found.append(Step(name, "unseen", "not looked at any more"))
        elif number == failed:
            found.append(Step(name, "failed", one.verdict.reason or one.verdict.errmsg, lines))
        else:
            found.append(Step(name, "absent" if absent else "passed", says, lines))
    return found


#: The checks of an app's call, in order; the last three stand for what the call itself looks at.
_API_STEPS = (
    ("call", "DingTalk has this call"),
    ("token", ""),
    ("permission", "the app may do this"),
    ("per second", "not too many in this second"),
    ("per minute", "not too many in this minute"),
    ("month", "the organisation's month has room"),
    ("json", "the body could be read"),
    ("fields", "every field is right"),
)
_OWN_STEPS = {"robot", "place", "agent", "people", "file", "size", "sourceId"}


def _api_steps(one: Message) -> list[Step]:
    failed = one.verdict.step if one.verdict.errcode else ""
    found: list[Step] = []
    for name, says in _API_STEPS:
        if found and found[-1].mark in {"failed", "unseen"}:
            found.append(Step(name, "unseen", "not looked at any more"))
        elif name == failed or (name == "fields" and failed in _OWN_STEPS):
            found.append(Step(failed, "failed", one.verdict.reason or one.verdict.errmsg))
        elif name == "token":
            found.append(Step(name, "passed", f"{one.token} is {one.name}'s" if one.sender else "this call needs none"))
        else:
            found.append(Step(name, "passed", says))
    if one.done and one.done.note:
        found.append(Step("outcome", "passed", one.done.note))
    return found


_Said = tuple[str, tuple[tuple[str, str], ...], bool]


def _method(one: Message) -> _Said:
    return one.method, (), False


def _token(one: Message) -> _Said:
    name = one.settings.name if one.settings else "nobody"
    return f"{one.token} belongs to {name}", (), False


def _robot(one: Message) -> _Said:
    return (f"stands in {one.settings.group}" if one.settings else ""), (), False


def _limit(one: Message) -> _Said:
    if one.settings is None or one.places_ms is None:
        return "within the limit", (), False
    used, limit = len(one.places_ms), one.settings.limit
    return f"place {min(used + 1, limit)} of {limit} within {one.settings.window_s:g} s", (), False


def _content_type(one: Message) -> _Said:
    return one.content_type or "none", (), False


def _address(one: Message) -> _Said:
    ip = one.connection.rpartition(":")[0]
    if not one.settings or not one.settings.allow_ips:
        return "the robot takes messages from every address", (), True
    return f"{ip} is on the list", (("list", ", ".join(one.settings.allow_ips)),), False


def _signature(one: Message) -> _Said:
    if not one.settings or not one.settings.secret:
        return "the robot does not sign", (), True
    fields = webhook.fields_of(one.query)
    timestamp, sign = fields.get("timestamp", [""])[0], fields.get("sign", [""])[0]
    if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 15:
        return "", (("timestamp", timestamp[:40] or "missing"),), False
    right = webhook.signature(one.settings.secret, timestamp)
    age_s = (one.at_ms - int(timestamp)) / 1_000
    secret = masked_secret(one.settings.secret)
    when = f" = {instant(int(timestamp))}" if len(timestamp) == 13 else ""
    lines = (
        ("1  timestamp", f"{timestamp}{when}, {age_s:,.1f} s old; 3,600 s are allowed"),
        ("2  text to sign", f"{timestamp}\\n{secret}"),
        ("3  key", secret),
        ("4  HMAC-SHA256, Base64", masked_sign(right)),
        ("5  arrived, URL-decoded", masked_sign(sign) if sign else "missing"),
    )
    return "fits the secret and the timestamp", lines, False


def _size(one: Message) -> _Said:
    return f"{len(one.body):,} of {webhook.MAX_BODY_BYTES:,} bytes", (), False


def _json(one: Message) -> _Said:
    return "UTF-8, JSON, an object", (), False


def _fields(one: Message) -> _Said:
    return f"a {view.kind(view.parsed(one.body)) or '?'} message, complete", (), False


def _mentions(one: Message) -> _Said:
    body = view.parsed(one.body)
    at = body.get("at") if isinstance(body, dict) else None
    if not at or not isinstance(at, dict):
        return "nobody is to be rung", (), True
    rings = view.rings_of(one)
    return (f"rings {', '.join(rings)}" if rings else "rings nobody"), (), False


def _uuid(one: Message) -> _Said:
    body = view.parsed(one.body)
    uuid = body.get("msgUuid") if isinstance(body, dict) else None
    if uuid is None:
        return "none: a repeat would be a second message", (), True
    if one.double_of is not None:
        return f"{uuid} came with message {one.double_of} already: taken, and not shown again", (), False
    return f"{uuid}, new here", (), False


def _keywords(one: Message) -> _Said:
    if not one.settings or not one.settings.keywords:
        return "the robot wants none", (), True
    text = view.text(view.parsed(one.body))
    found = [word for word in one.settings.keywords if word in text]
    return f"the text has {', '.join(found)}", (("wanted, one of", ", ".join(one.settings.keywords)),), False


def _quota(one: Message) -> _Said:
    if not one.settings or one.settings.month is None:
        return "the robot has none", (), True
    return f"within its {one.settings.month:,} of the month", (), False


_EXPLAIN = {
    "method": _method, "token": _token, "robot": _robot, "limit": _limit, "content type": _content_type,
    "address": _address, "signature": _signature, "size": _size, "json": _json, "fields": _fields,
    "mentions": _mentions, "msgUuid": _uuid, "keywords": _keywords, "quota": _quota,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """One of a window's places.

    Attributes:
        use: ``taken`` before, ``this`` message's, ``free``.
        says: When it was taken and when it is free again.
    """

    use: Literal["taken", "this", "free"]
    says: str


def places(one: Message) -> list[Place]:
    """The window as the message met it; empty where it has too many places to draw."""
    if one.settings is None or one.places_ms is None:
        return []
    window_ms = round(one.settings.window_s * 1_000)
    row = [
        Place(
            "taken",
            f"taken {(one.at_ms - taken) / 1_000:.1f} s before, free in {(taken + window_ms - one.at_ms) / 1_000:.1f} s",
        )
        for taken in one.places_ms[-one.settings.limit :]
    ]
    takes = one.verdict.step != "limit" and one.state != "failed"
    if takes and len(row) < one.settings.limit:
        row.append(Place("this", f"this message's, free again in {one.settings.window_s:g} s"))
    return row + [Place("free", "free")] * (one.settings.limit - len(row))


def curl(one: Message, base_url: str) -> str:
    """The request as a shell command, token and signature masked."""
    fields = "&".join(f"{name}={_for_shell(name, value)}" for name, value in view.masked_query(one.query).items())
    words = ["curl", "-X", one.method, shlex.quote(f"{base_url}{one.path}" + (f"?{fields}" if fields else ""))]
    if one.content_type:
        words += ["-H", shlex.quote(f"Content-Type: {one.content_type}")]
    if one.path.startswith("/v"):
        words += ["-H", "'x-acs-dingtalk-access-token: TOKEN'"]
    if one.body:
        words += ["--data-binary", shlex.quote(one.body.decode(errors="replace"))]
    return " ".join(words)


def _for_shell(name: str, value: str) -> str:
    return {"access_token": "TOKEN", "sign": "SIGN", "appsecret": "SECRET", "corpsecret": "SECRET"}.get(name, value)


def answer(one: Message) -> dict[str, Any]:
    """What went back: status, headers worth a look, the body."""
    reply = one.reply
    if reply.reset:
        return {"status": None, "says": "nothing: the connection was reset", "body": ""}
    where = dict(reply.headers).get(b"location", b"").decode(errors="replace")
    says = f"HTTP {reply.status}, {reply.content_type}" + (f", to {where}" if where else "")
    if reply.delay_s:
        says += f", after {reply.delay_s:g} s"
    return {"status": reply.status, "says": says, "body": reply.body.decode(errors="replace")}


def masked_secret(secret: str) -> str:
    """A secret's beginning."""
    return f"{secret[:3]}…({len(secret)} characters)" if len(secret) > 8 else "…"


def masked_sign(sign: str) -> str:
    """Enough of a signature to compare two by eye."""
    return f"{sign[:4]}…{sign[-4:]}" if len(sign) >= 24 else mask(sign)


def instant(at_ms: int) -> str:
    """A moment, UTC, to the millisecond; "" where no calendar has it."""
    try:
        return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"
    except (OverflowError, ValueError, OSError):
        return ""
