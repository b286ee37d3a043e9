"""Work notifications: taken at once, and what became of them only on asking.

https://open.dingtalk.com/document/development/asynchronous-sending-of-enterprise-session-messages
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dingqueue_worker.sandbox.calls import Done, Refused
from dingqueue_worker.sandbox.organisation import Call, Notice, Route, day_of, names, new_key, within_a_day
from dingqueue_worker.sandbox.webhook import Unreadable, read

MAX_MSG_BYTES = 2_048
MAX_LISTED = 100
MAX_DEPARTMENTS = 20
#: Of one app to one employee in a day.
MAX_A_DAY = 500
#: Type -> fields: (name, most characters or None, needed).
_FIELDS: dict[str, tuple[tuple[str, int | None, bool], ...]] = {
    "text": (("content", None, True),),
    "image": (("media_id", None, True),),
    "voice": (("media_id", None, True), ("duration", None, True)),
    "file": (("media_id", None, True),),
    "link": (("messageUrl", None, True), ("picUrl", None, True), ("title", 100, True), ("text", 500, True)),
    "oa": (),
    "markdown": (("title", None, True), ("text", 5_000, True)),
    "action_card": (("title", None, True), ("markdown", 1_000, True)),
}


def _send(call: Call) -> Done:
    _check_agent(call)
    users = _users(call)
    msg = _message(call)
    sent, day = dict(msg), day_of(call.now_ms)
    same = new_key(json.dumps(sent, sort_keys=True, ensure_ascii=False))
    notice = Notice(call.app, call.now_ms, call.number, users)
    for user_id in users:
        person = call.org.person(user_id, call.rules)
        repeated = call.org.notice_days.get((call.app.name, user_id, same)) == day
        if person is None or not person.active:
            notice.invalid.append(user_id)
        elif repeated:
            notice.forbidden.setdefault(143106, []).append(user_id)
        elif call.org.notice_counts[call.app.name, user_id, day] >= MAX_A_DAY:
            notice.forbidden.setdefault(143105, []).append(user_id)
        else:
            call.org.notice_days[call.app.name, user_id, same] = day
            call.org.notice_counts[call.app.name, user_id, day] += 1
            notice.unread.append(user_id)
    task_id = 10_000_000_000 + call.number
    call.org.notices[task_id] = notice
    everyone = bool(_flag(call.data.get("to_all_user")) or call.data.get("dept_id_list"))
    notes = [f"nobody knows {names(notice.invalid)}"] * bool(notice.invalid)
    if dropped := notice.forbidden.get(143106):
        notes.append(f"dropped in silence: {names(dropped)} had the same text today")
    if dropped := notice.forbidden.get(143105):
        notes.append(f"dropped in silence: {names(dropped)} had {MAX_A_DAY} today")
    body = {"errcode": 0, "errmsg": "ok", "task_id": task_id, "request_id": new_key(call.number)[:16]}
    return Done(
        body=body, content=_as_webhook(msg), record=notice, to=notice.unread, key=str(task_id), note="; ".join(notes),
        seen=bool(notice.unread) or everyone, place="everyone" if everyone else "",
    )  # fmt: skip


def _flag(value: Any) -> bool:
    return value is True or str(value).lower() == "true"


def _check_agent(call: Call) -> None:
    agent_id = call.data.get("agent_id")
    if agent_id is None:
        raise Refused(40035, "missing parameter: agent_id", "agent_id is missing", step="agent", assumed=True)
    own = call.app.app.agent_id
    if str(agent_id) != str(own) and not (own is None and call.rules.any_token):
        raise Refused(40056, "invalid agentid", f"agent_id is not that of the app {call.app.name}", step="agent")


def _listed(call: Call, name: str, most: int) -> list[str]:
    value = call.data.get(name)
    if value is None or value == "":
        return []
    if not isinstance(value, str):
        reason = f"{name} must be one string with commas, not a list"
        raise Refused(40035, f"invalid parameter: {name}", reason, assumed=True)
    listed = list(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    if len(listed) > most:
        raise Refused(41029, "too many receivers", f"{name} has {len(listed)} entries, {most} are allowed")
    return listed


def _users(call: Call) -> list[str]:
    users = _listed(call, "userid_list", MAX_LISTED)
    departments = _listed(call, "dept_id_list", MAX_DEPARTMENTS)
    if not users and not departments and not _flag(call.data.get("to_all_user")):
        reason = "one of userid_list, dept_id_list and to_all_user must say who gets it"
        raise Refused(40035, "missing parameter: userid_list", reason, assumed=True)
    if not all(part.isdigit() for part in departments):
        raise Refused(40035, "invalid parameter: dept_id_list", "departments are numbers with commas", assumed=True)
    return users


def _message(call: Call) -> Mapping[str, Any]:
    msg = call.data.get("msg")
    if isinstance(msg, str):
        try:
            msg = read(msg.encode())
        except Unreadable as error:
            raise Refused(40035, "invalid parameter: msg", "msg is not JSON", assumed=True) from error
    if not isinstance(msg, dict):
        raise Refused(40035, "missing parameter: msg", "msg must be an object", assumed=True)
    size_bytes = len(json.dumps(msg, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"))
    if size_bytes > MAX_MSG_BYTES:
        reason = f"msg has {size_bytes:,} bytes, {MAX_MSG_BYTES:,} are allowed"
        raise Refused(41101, "message is too long", reason, step="size", assumed=True)
    msgtype = msg.get("msgtype")
    if not isinstance(msgtype, str) or msgtype not in _FIELDS:
        raise Refused(40035, "invalid parameter: msgtype", f"msgtype must be one of {', '.join(_FIELDS)}", assumed=True)
    content = msg.get(msgtype)
    if not isinstance(content, dict):
        raise Refused(40035, f"missing parameter: msg.{msgtype}", f"msg.{msgtype} must be an object", assumed=True)
    for name, most, needed in _FIELDS[msgtype]:
        _check_field(content, f"{msgtype}.{name}", name, most, needed)
    if msgtype == "action_card":
        _check_card(content)
    if "media_id" in content and msgtype in {"image", "voice", "file"}:
        file = call.org.files.get(content["media_id"])
        if file is None or file.app != call.app.name:
            raise Refused(40007, "invalid media_id", "this app has uploaded nothing under this media_id", step="file")
    return msg


def _check_field(content: Mapping[str, Any], place: str, name: str, most: int | None, needed: bool) -> None:
    value = content.get(name)
    if value is None and not needed:
        return
    if not isinstance(value, str) or not value.strip():
        raise Refused(
            40035, f"missing parameter: {place}", f"msg.{place} must be a string that is not blank", assumed=True
        )
    if most is not None and len(value) > most:
        raise Refused(34016, "message is too long", f"msg.{place} has {len(value)} characters, {most} are allowed")


def _check_card(content: Mapping[str, Any]) -> None:
    buttons = content.get("btn_json_list")
    if buttons is None:
        _check_field(content, "action_card.single_title", "single_title", 20, True)
        _check_field(content, "action_card.single_url", "single_url", 500, True)
        return
    if not isinstance(buttons, list) or not buttons or not all(isinstance(one, dict) for one in buttons):
        reason = "action_card.btn_json_list must be a list of objects"
        raise Refused(40035, "invalid parameter: btn_json_list", reason, assumed=True)
    for button in buttons:
        _check_field(button, "action_card.btn_json_list.title", "title", 20, True)
        _check_field(button, "action_card.btn_json_list.action_url", "action_url", 700, True)


def _as_webhook(msg: Mapping[str, Any]) -> Mapping[str, Any]:
    msgtype = msg["msgtype"]
    content = msg[msgtype]
    if msgtype == "action_card":
        shown = {"title": content["title"], "text": content["markdown"]}
        if "btn_json_list" in content:
            buttons = [{"title": one["title"], "actionURL": one["action_url"]} for one in content["btn_json_list"]]
            orientation = str(content.get("btn_orientation", "0"))
            return {"msgtype": "actionCard", "actionCard": shown | {"btns": buttons, "btnOrientation": orientation}}
        single = {"singleTitle": content["single_title"], "singleURL": content["single_url"]}
        return {"msgtype": "actionCard", "actionCard": shown | single}
    if msgtype == "file":
        return {"msgtype": "file", "file": {"mediaId": content["media_id"]}}
    return msg


def _task(call: Call, name: str) -> Notice:
    _check_agent(call)
    given = str(call.data.get(name, ""))
    notice = call.org.notices.get(int(given)) if given.isascii() and given.isdigit() and len(given) < 20 else None
    if notice is None or notice.app is not call.app or not within_a_day(notice.at_ms, call.now_ms):
        reason = f"there is no notification with this {name}, or it is more than 24 hours old"
        raise Refused(400002, "参数错误", reason)
    return notice


def _result(call: Call) -> Done:
    notice = _task(call, "task_id")
    forbidden = [
        {"code": str(code), "count": len(users), "userid": user_id}
        for code, users in notice.forbidden.items()
        for user_id in users
    ]
    result = {
        "invalid_user_id_list": notice.invalid,
        "forbidden_user_id_list": [one["userid"] for one in forbidden],
        "failed_user_id_list": [],
        "read_user_id_list": [],
        "unread_user_id_list": [] if notice.recalled else notice.unread,
        "invalid_dept_id_list": [],
        "forbidden_list": forbidden,
    }
    return Done(body={"errcode": 0, "errmsg": "ok", "send_result": result})


def _progress(call: Call) -> Done:
    _task(call, "task_id")
    return Done(body={"errcode": 0, "errmsg": "ok", "progress": {"progress_in_percent": 100, "status": 2}})


def _recall(call: Call) -> Done:
    notice = _task(call, "msg_task_id")
    notice.recalled = True
    return Done(body={"errcode": 0, "errmsg": "ok"}, note=f"takes back #{notice.number}")


_BASE = "/topapi/message/corpconversation"
ROUTES = (
    Route("POST", f"{_BASE}/asyncsend_v2", _send, way="notice", body="json or form"),
    Route("POST", f"{_BASE}/getsendresult", _result, body="json or form"),
    Route("POST", f"{_BASE}/getsendprogress", _progress, body="json or form"),
    Route("POST", f"{_BASE}/recall", _recall, body="json or form"),
)
