"""An app's robot: messages to groups and people, recalls, who has read them.

https://open.dingtalk.com/document/development/the-robot-sends-a-group-message and
https://open.dingtalk.com/document/development/chatbots-send-one-on-one-chat-messages-in-batches
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dingqueue_worker.sandbox.calls import Done, Refused, strings_of, text_of
from dingqueue_worker.sandbox.organisation import Call, Route, Sent, names, new_key, within_a_day
from dingqueue_worker.sandbox.webhook import Unreadable, read

MAX_PARAM_BYTES = 15_000
MAX_PEOPLE = 20
MAX_KEYS = 20
#: What a file message may carry. https://open.dingtalk.com/document/development/robot-message-type
FILE_TYPES = {"xlsx", "pdf", "zip", "rar", "doc", "docx"}

_BUTTONS = {
    number: [(f"actionTitle{one}", f"actionURL{one}") for one in range(1, number + 1)] for number in (2, 3, 4, 5)
}
#: Template -> the fields that it needs.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "sampleText": ("content",),
    "sampleMarkdown": ("title", "text"),
    "sampleImageMsg": ("photoURL",),
    "sampleLink": ("title", "text", "messageUrl"),
    "sampleActionCard": ("title", "text", "singleTitle", "singleURL"),
    **{
        f"sampleActionCard{number}": ("title", "text", *(name for pair in pairs for name in pair))
        for number, pairs in _BUTTONS.items()
    },
    "sampleActionCard6": ("title", "text", "buttonTitle1", "buttonUrl1", "buttonTitle2", "buttonUrl2"),
    "sampleAudio": ("mediaId", "duration"),
    "sampleFile": ("mediaId", "fileName", "fileType"),
    "sampleVideo": ("videoMediaId", "videoType", "picMediaId", "duration"),
}


def _send_to_group(call: Call) -> Done:
    _check_robot(call)
    place = text_of(call.data, "openConversationId", Refused("miss.openConversationId", "miss openConversationId"))
    _check_conversation(call, place)
    content = _content(call)
    key = new_key("group", call.number, place, call.now_ms)
    sent = call.org.sent[key] = Sent(call.app, place, (), call.now_ms, call.number)
    return Done(body={"processQueryKey": key}, content=content, place=place, key=key, record=sent)


def _send_to_people(call: Call) -> Done:
    _check_robot(call)
    user_ids = strings_of(call.data, "userIds", Refused("invalidParameter.userIds.empty", "userIds is empty"))
    if len(user_ids) > MAX_PEOPLE:
        reason = f"{len(user_ids)} people in one call, {MAX_PEOPLE} are allowed"
        raise Refused("invalidParameter.userIds.overMax", "userIds over max", reason)
    content = _content(call)
    invalid, held, reached = [], [], []
    for user_id in dict.fromkeys(user_ids):
        if not _may_be_reached(call, user_id):
            invalid.append(user_id)
        elif call.org.held_back[user_id]:
            call.org.held_back[user_id] -= 1
            held.append(user_id)
        else:
            reached.append(user_id)
    key = new_key("people", call.number, call.now_ms)
    sent = call.org.sent[key] = Sent(call.app, "", tuple(reached), call.now_ms, call.number)
    notes = [f"nobody knows {names(invalid)}"] * bool(invalid) + [f"held back as too fast: {names(held)}"] * bool(held)
    body = {"processQueryKey": key, "invalidStaffIdList": invalid, "flowControlledStaffIdList": held}
    return Done(
        body=body, content=content, to=reached, key=key, note="; ".join(notes), seen=bool(reached), record=sent
    )  # fmt: skip


def _may_be_reached(call: Call, user_id: str) -> bool:
    person = call.org.person(user_id, call.rules)
    return person is not None and person.active


def _check_robot(call: Call) -> None:
    code = call.data.get("robotCode")
    prefix = "invalidParameter.robotCode"
    if not isinstance(code, str) or not code:
        raise Refused(f"{prefix}.empty", "robotCode is empty", "robotCode is missing", step="robot")
    own = call.app.app.robot_code or (call.app.app.key if call.rules.any_token else None)
    if code != own:
        others = {state.app.robot_code for state in call.org.apps.values()} - {None}
        if code in others:
            reason = f"the robot belongs to another app than {call.app.name}, whose token this is"
            raise Refused(f"{prefix}.auth", "robotCode has no auth", reason, step="robot")
        raise Refused(f"{prefix}.notExsit", "robotCode not exist", "no app of this space has this robot", step="robot")
    if call.app.app.state == "stopped":
        raise Refused("bot.stopped", "the bot is stopped", "the app's robot has been stopped", step="robot")


def _check_conversation(call: Call, place: str) -> None:
    groups = call.app.app.conversations
    if (groups and place not in groups) or not place.startswith("cid"):
        reason = "the app's robot is not in this group" if groups else "a conversation's id begins with cid"
        raise Refused("invalid.openConversationId", "openConversationId is invalid", reason, step="place")


def _content(call: Call) -> Mapping[str, Any]:
    """The template and its fields, checked; as a webhook robot's message where DingTalk shows it alike."""
    key = text_of(call.data, "msgKey", Refused("invalidParameter.msgKey.empty", "msgKey is empty"))
    if key not in TEMPLATES:
        reason = f"there is no template {key!r}; there are {', '.join(TEMPLATES)}"
        raise Refused("invalidParameter.msgKey.invalid", "msgKey is invalid", reason)
    raw = call.data.get("msgParam")
    if not isinstance(raw, str):
        reason = "msgParam must be a string that holds JSON" if raw is not None else "msgParam is missing"
        raise Refused("invalidParameter.msgParam.invalid", "msgParam is invalid", reason)
    if (size_bytes := len(raw.encode(errors="replace"))) > MAX_PARAM_BYTES:
        reason = f"msgParam has {size_bytes:,} bytes, {MAX_PARAM_BYTES:,} are allowed"
        raise Refused("invalidParameter.msgParam.tooLong", "msgParam is too long", reason, step="size")
    try:
        param = read(raw.encode())
    except Unreadable as error:
        reason = f"msgParam: {error}"
        raise Refused("invalidParameter.msgParam.invalid", "msgParam is invalid", reason) from error
    if not isinstance(param, dict):
        raise Refused("invalidParameter.msgParam.invalid", "msgParam is invalid", "msgParam must hold a JSON object")
    for name in TEMPLATES[key]:
        text_of(param, name, Refused(f"miss.param.{key}.{name}", f"miss param {name}", assumed=True))
    _check_media(call, key, param)
    return _as_webhook(key, param)


def _check_media(call: Call, key: str, param: Mapping[str, Any]) -> None:
    fields = {"sampleFile": ["mediaId"], "sampleAudio": ["mediaId"], "sampleVideo": ["videoMediaId", "picMediaId"]}
    wanted = list(fields.get(key, []))
    if key == "sampleImageMsg" and not param["photoURL"].startswith(("http://", "https://")):
        wanted.append("photoURL")
    for name in wanted:
        file = call.org.files.get(param[name])
        if file is None or file.app != call.app.name:
            whose = "another app uploaded it" if file else "nothing was uploaded under this id"
            code = "invalidParameter.msgParam.invalid"
            raise Refused(code, "mediaId is invalid", f"{name}: {whose}", step="file", assumed=True)
    if key == "sampleFile" and param["fileType"] not in FILE_TYPES:
        reason = f"fileType {param['fileType']!r} is none of {', '.join(sorted(FILE_TYPES))}"
        raise Refused("invalidParameter.msgParam.invalid", "fileType is invalid", reason, step="file", assumed=True)


def _as_webhook(key: str, param: Mapping[str, Any]) -> Mapping[str, Any]:
    if key == "sampleText":
        return {"msgtype": "text", "text": param}
    if key == "sampleMarkdown":
        return {"msgtype": "markdown", "markdown": param}
    if key == "sampleLink":
        return {"msgtype": "link", "link": param}
    if key == "sampleActionCard":
        return {"msgtype": "actionCard", "actionCard": param}
    if key.startswith("sampleActionCard"):
        number = int(key[-1])
        pairs = _BUTTONS.get(number, [("buttonTitle1", "buttonUrl1"), ("buttonTitle2", "buttonUrl2")])
        buttons = [{"title": param[title], "actionURL": param[url]} for title, url in pairs]
        shown = {"title": param["title"], "text": param["text"], "btns": buttons}
        return {"msgtype": "actionCard", "actionCard": shown | {"btnOrientation": "1" if number == 6 else "0"}}
    if key == "sampleFile":
        return {"msgtype": "file", "file": param}
    return {"msgtype": key, key: param}


def _keys(call: Call) -> list[str]:
    keys = strings_of(
        call.data, "processQueryKeys", Refused("miss.param.processQueryKeys", "miss processQueryKeys", assumed=True)
    )
    if len(keys) > MAX_KEYS:
        reason = f"{len(keys)} keys in one call, {MAX_KEYS} are allowed"
        raise Refused("invalidParameter.processQueryKeys.overMax", "processQueryKeys over max", reason, assumed=True)
    return keys


def _recall(call: Call, place: str) -> Done:
    done, failed = [], {}
    for key in _keys(call):
        sent = call.org.sent.get(key)
        if sent is None or sent.app is not call.app or sent.place != place:
            failed[key] = "the message does not exist"
        elif not within_a_day(sent.at_ms, call.now_ms):
            failed[key] = "the message is more than 24 hours old"
        else:
            sent.recalled = True
            done.append(key)
    numbers = [f"#{call.org.sent[key].number}" for key in done]
    return Done(
        body={"successResult": done, "failedResult": failed}, note=f"takes back {names(numbers)}" if done else ""
    )


def _recall_in_group(call: Call) -> Done:
    _check_robot(call)
    place = text_of(call.data, "openConversationId", Refused("miss.openConversationId", "miss openConversationId"))
    return _recall(call, place)


def _recall_from_people(call: Call) -> Done:
    _check_robot(call)
    return _recall(call, "")


def _read_status(call: Call) -> Done:
    key = call.query.get("processQueryKey", [""])[0]
    sent = call.org.sent.get(key)
    if sent is None or sent.app is not call.app or not within_a_day(sent.at_ms, call.now_ms):
        reason = "there is no message with this key, or it is more than 24 hours old"
        raise Refused("processQueryKey.expireTime", "processQueryKey is expired", reason)
    people = [{"userId": one, "name": one, "readStatus": "UNREAD", "readTimestamp": 0} for one in sent.to]
    return Done(body={"sendStatus": "RECALLED" if sent.recalled else "SUCCESS", "messageReadInfoList": people})


def _read_in_group(call: Call) -> Done:
    key = text_of(
        call.data, "processQueryKey", Refused("miss.param.processQueryKey", "miss processQueryKey", assumed=True)
    )
    if key not in call.org.sent:
        raise Refused("processQueryKey.expireTime", "processQueryKey is expired", "there is no message with this key")
    return Done(body={"sendStatus": "SUCCESS", "readUserIds": [], "hasMore": False, "nextToken": ""})


ROUTES = (
    Route("POST", "/v1.0/robot/groupMessages/send", _send_to_group, way="group"),
    Route("POST", "/v1.0/robot/oToMessages/batchSend", _send_to_people, way="people"),
    Route("POST", "/v1.0/robot/groupMessages/recall", _recall_in_group),
    # The page spells this one otoMessages, the others oToMessages.
    Route("POST", "/v1.0/robot/otoMessages/batchRecall", _recall_from_people),
    Route("GET", "/v1.0/robot/oToMessages/readStatus", _read_status, body="none"),
    Route("POST", "/v1.0/robot/groupMessages/query", _read_in_group),
)
