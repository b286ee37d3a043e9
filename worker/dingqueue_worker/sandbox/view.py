"""What is shown of robots and messages: secrets masked, warnings worked out. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from dingqueue_worker.sandbox import webhook
from dingqueue_worker.sandbox.calls import CHATS, File
from dingqueue_worker.sandbox.organisation import AppState, Todo
from dingqueue_worker.sandbox.space import Message, RobotState, mask
from dingqueue_worker.sandbox.warnings import content_warnings, rung, warnings

#: Query fields that may be shown as they came.
_PLAIN_FIELDS = {"timestamp"}


def robot(state: RobotState) -> dict[str, Any]:
    """A robot's settings without token and secret."""
    settings = state.robot.model_dump(exclude={"token", "secret"})
    return settings | {"token": mask(state.robot.token), "signs": state.robot.secret is not None}


def message(one: Message) -> dict[str, Any]:
    """A message with all that is known of it."""
    body, seen = parsed(one.body), content(one)
    uuid = body.get("msgUuid") if isinstance(body, dict) else None
    return {
        "number": one.number,
        "at_ms": one.at_ms,
        "at": datetime.fromtimestamp(one.at_ms / 1_000, UTC).isoformat(timespec="milliseconds"),
        "way": one.way,
        "state": one.state,
        "robot": one.name,
        "group": one.place,
        "to": list(one.done.to) if one.done else [],
        "key": one.done.key if one.done else "",
        "note": one.done.note if one.done else "",
        "recalled": one.done is not None and getattr(one.done.record, "recalled", False) is True,
        "token": one.token,
        "errcode": one.verdict.errcode,
        "errmsg": one.verdict.errmsg,
        "reason": one.verdict.reason,
        "assumed": one.verdict.assumed,
        "step": one.verdict.step,
        "kind": kind(seen),
        "text": text(seen),
        "uuid": uuid if isinstance(uuid, str) else None,
        "double_of": one.double_of,
        "rings": rings_of(one),
        "warnings": warnings_of(one),
        "content": seen,
        "body": body,
        "raw": one.body.decode(errors="replace"),
        "size_bytes": one.size_bytes,
        "method": one.method,
        "path": one.path,
        "query": masked_query(one.query),
        "content_type": one.content_type,
        "connection": one.connection,
        "fault": one.fault,
        "answered": one.answered,
    }


def content(one: Message) -> Any:
    """What people see, in a webhook robot's fields; the body itself where that is not known."""
    if one.way == "webhook":
        return parsed(one.body)
    if one.way == "todo":
        body = parsed(one.body)
        return {"msgtype": "todo", "todo": body} if isinstance(body, dict) else None
    return dict(one.done.content) if one.done and one.done.content else None


def todo(one: Todo) -> dict[str, Any]:
    """A todo as it stands."""
    return {
        "id": one.id,
        "app": one.app,
        "source_id": one.source_id,
        "subject": one.subject,
        "description": one.description,
        "due_ms": one.due_ms,
        "executors": list(one.executors),
        "participants": list(one.participants),
        "creator": one.creator,
        "url": one.url,
        "priority": one.priority,
        "created_ms": one.created_ms,
        "number": one.number,
        "done": one.done,
        "done_by": sorted(one.done_by),
        "deleted": one.deleted,
    }


def file(one: File) -> dict[str, Any]:
    """A file without its bytes."""
    return {
        "media_id": one.media_id,
        "name": one.name,
        "kind": one.kind,
        "size_bytes": len(one.content),
        "sha256": one.sha256,
        "app": one.app,
        "at_ms": one.at_ms,
        "number": one.number,
    }


def app(state: AppState) -> dict[str, Any]:
    """An app's settings without its secret."""
    return state.app.model_dump(exclude={"secret"}, mode="json")


def rings_of(one: Message) -> list[str]:
    """Who is rung by it: numbers, user ids, ``everyone``. An app's robot rings nobody by name."""
    return rung(one.settings, parsed(one.body)) if one.state == "accepted" and one.way == "webhook" else []


def warnings_of(one: Message) -> list[str]:
    """What people do not see or hear as the sender may think."""
    if one.way == "webhook":
        return warnings(one.settings, parsed(one.body), one.body)
    if one.way in CHATS and one.done and one.done.content:
        return content_warnings(dict(one.done.content))
    return []


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
    msgtype = kind(body)
    inner = body.get(msgtype) if msgtype else None
    if not isinstance(inner, dict):
        return ""
    name = {"file": "fileName", "todo": "subject"}.get(msgtype or "")
    return str(inner.get(name) or "") if name else webhook.searched_text(body)


def masked_query(query: str) -> dict[str, str]:
    """The query's fields with their values masked, but for the timestamp."""
    fields: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        fields[name[:100]] = value[:40] if name in _PLAIN_FIELDS else mask(value) if value else ""
    return fields
