"""What is shown of robots and messages: secrets masked, warnings worked out. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from dingqueue_worker.sandbox import webhook
from dingqueue_worker.sandbox.space import Message, RobotState, mask
from dingqueue_worker.sandbox.warnings import rung, warnings

#: Query fields that may be shown as they came.
_PLAIN_FIELDS = {"timestamp"}


def robot(state: RobotState) -> dict[str, Any]:
    """A robot's settings without token and secret."""
    settings = state.robot.model_dump(exclude={"token", "secret"})
    return settings | {"token": mask(state.robot.token), "signs": state.robot.secret is not None}


def message(one: Message) -> dict[str, Any]:
    """A message with all that is known of it."""
    body = parsed(one.body)
    settings = one.settings
    return {
        "number": one.number,
        "at_ms": one.at_ms,
        "at": datetime.fromtimestamp(one.at_ms / 1_000, UTC).isoformat(timespec="milliseconds"),
        "state": one.state,
        "robot": settings.name if settings else None,
        "group": settings.group if settings else None,
        "token": one.token,
        "errcode": one.verdict.errcode,
        "errmsg": one.verdict.errmsg,
        "reason": one.verdict.reason,
        "assumed": one.verdict.assumed,
        "step": one.verdict.step,
        "kind": kind(body),
        "text": text(body),
        "uuid": body.get("msgUuid") if isinstance(body, dict) and isinstance(body.get("msgUuid"), str) else None,
        "double_of": one.double_of,
        "rings": rings_of(one),
        "warnings": warnings(settings, body, one.body),
        "body": body,
        "raw": one.body.decode(errors="replace"),
        "size_bytes": len(one.body),
        "method": one.method,
        "query": masked_query(one.query),
        "content_type": one.content_type,
        "connection": one.connection,
        "fault": one.fault,
        "answered": one.answered,
    }


def rings_of(one: Message) -> list[str]:
    """Who is rung by it: numbers, user ids, ``everyone``."""
    return rung(one.settings, parsed(one.body)) if one.state == "accepted" else []


def warnings_of(one: Message) -> list[str]:
    """What people do not see or hear as the sender may think."""
    return warnings(one.settings, parsed(one.body), one.body)


def parsed(body: bytes) -> Any:
    """The JSON of a body, None where it is none."""
    try:
        return webhook.read(body)
    except webhook.Unreadable:
        return None


def kind(body: Any) -> str | None:
    """The message's type as it names it."""
    msgtype = body.get("msgtype") if isinstance(body, dict) else None
    return msgtype if isinstance(msgtype, str) else None


def text(body: Any) -> str:
    """What a person reads, without the title that only notifications show."""
    return webhook.searched_text(body) if kind(body) else ""


def masked_query(query: str) -> dict[str, str]:
    """The query's fields with their values masked, but for the timestamp."""
    fields: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        fields[name[:100]] = value[:40] if name in _PLAIN_FIELDS else mask(value) if value else ""
    return fields
