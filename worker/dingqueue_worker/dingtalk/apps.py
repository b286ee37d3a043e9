"""The calls that an app makes: one method each, with its address and its body. Knows no job, and not what an answer means."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

from dingqueue_worker.dingtalk.answers import Answer
from dingqueue_worker.settings import Secret

_NOTICE = "/topapi/message/corpconversation"


class Hosts(Protocol):
    """What the calls need of ``dingtalk.api``."""

    def newer(
        self, method: str, path: str, *, token: Secret, body: bytes | None = None, query: Mapping[str, str] = ...
    ) -> Answer: ...
    def older(self, path: str, *, token: Secret, body: bytes) -> Answer: ...


class AppCalls:
    """What an app can ask of DingTalk. Every method raises ``NotSent`` or ``Unanswered`` as ``dingtalk.api`` does.

    Page names are of ``https://open.dingtalk.com/document/development/``.
    """

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    # --- Messages by the app's robot ---

    def group_send(self, token: Secret, *, robot_code: str, conversation: str, key: str, param: str) -> Answer:
        """A message to a group; proof ``processQueryKey``. Page: the-robot-sends-a-group-message."""
        body = {"robotCode": robot_code, "openConversationId": conversation, "msgKey": key, "msgParam": param}
        return self._post("/v1.0/robot/groupMessages/send", token, body)

    def people_send(self, token: Secret, *, robot_code: str, user_ids: Sequence[str], key: str, param: str) -> Answer:
        """A message to at most 20 people; proof ``processQueryKey``. It may be refused for some of them.

        Page: chatbots-send-one-on-one-chat-messages-in-batches.
        """
        body = {"robotCode": robot_code, "userIds": list(user_ids), "msgKey": key, "msgParam": param}
        return self._post("/v1.0/robot/oToMessages/batchSend", token, body)

    def group_recall(self, token: Secret, *, robot_code: str, conversation: str, keys: Sequence[str]) -> Answer:
        """Take back at most 20 messages of a group; proof ``successResult``.

        Page: enterprise-chatbot-withdraws-internal-group-messages.
        """
        body = {"robotCode": robot_code, "openConversationId": conversation, "processQueryKeys": list(keys)}
        return self._post("/v1.0/robot/groupMessages/recall", token, body)

    def people_recall(self, token: Secret, *, robot_code: str, keys: Sequence[str]) -> Answer:
        """Take back at most 20 messages to people; proof ``successResult``. Page: batch-message-recall-chat."""
        # "oto" in lower case here, and "oTo" in the call that sends: both as documented.
        body = {"robotCode": robot_code, "processQueryKeys": list(keys)}
        return self._post("/v1.0/robot/otoMessages/batchRecall", token, body)

    def group_read(self, token: Secret, *, robot_code: str, conversation: str, key: str, after: str) -> Answer:
        """Who has read a message of a group, at most 200 a call; ``after`` is the ``nextToken`` of the call before.

        Page: chatbot-queries-the-read-status-of-a-message.
        """
        body = {
            "robotCode": robot_code, "openConversationId": conversation, "processQueryKey": key, "maxResults": 200,
        }  # fmt: skip
        return self._post("/v1.0/robot/groupMessages/query", token, body | ({"nextToken": after} if after else {}))

    def people_read(self, token: Secret, *, robot_code: str, key: str) -> Answer:
        """Who has read a message to people, for 24 hours; proof ``sendStatus``.

        Page: chatbot-batch-query-the-read-status-of-messages.
        """
        query = {"robotCode": robot_code, "processQueryKey": key}
        return self._hosts.newer("GET", "/v1.0/robot/oToMessages/readStatus", token=token, query=query)

    # --- Work notifications ---

    def notice_send(
        self,
        token: Secret,
        *,
        agent_id: int,
        user_ids: Sequence[str],
        departments: Sequence[int],
        msg: Mapping[str, Any],
    ) -> Answer:
        """A work notification to at most 100 people, or to 20 departments; proof ``task_id``.

        Page: asynchronous-sending-of-enterprise-session-messages.
        """
        body: dict[str, Any] = {"agent_id": agent_id, "msg": msg}
        if user_ids:
            body["userid_list"] = ",".join(user_ids)
        if departments:
            body["dept_id_list"] = ",".join(map(str, departments))
        return self._older(f"{_NOTICE}/asyncsend_v2", token, body)

    def notice_result(self, token: Secret, *, agent_id: int, task_id: int) -> Answer:
        """What became of it, for 24 hours; proof ``send_result``.

        Page: gets-the-result-of-sending-messages-asynchronously-to-the-enterprise.
        """
        return self._older(f"{_NOTICE}/getsendresult", token, {"agent_id": agent_id, "task_id": task_id})

    def notice_recall(self, token: Secret, *, agent_id: int, task_id: int) -> Answer:
        """Take it back within 24 hours. Page: notification-of-work-withdrawal."""
        return self._older(f"{_NOTICE}/recall", token, {"agent_id": agent_id, "msg_task_id": task_id})

    # --- People ---

    def user_get(self, token: Secret, *, user_id: str) -> Answer:
        """A person by user id; proof ``result``. Page: query-user-details."""
        return self._older("/topapi/v2/user/get", token, {"userid": user_id, "language": "zh_CN"})

    def user_by_mobile(self, token: Secret, *, mobile: str) -> Answer:
        """A person's user id by mobile; proof ``result``. Page: query-users-by-phone-number."""
        return self._older("/topapi/v2/user/getbymobile", token, {"mobile": mobile})

    def user_by_union(self, token: Secret, *, union_id: str) -> Answer:
        """A person's user id by union id; proof ``result``. Page: query-a-user-by-the-union-id."""
        return self._older("/topapi/user/getbyunionid", token, {"unionid": union_id})

    # --- Todos ---

    def todo_create(self, token: Secret, *, creator: str, todo: Mapping[str, Any]) -> Answer:
        """A todo in the creator's name; proof ``id``. Page: add-dingtalk-to-do-task."""
        path = f"/v1.0/todo/users/{quote(creator, safe='')}/tasks"
        return self._hosts.newer("POST", path, token=token, body=_json(todo), query={"operatorId": creator})

    def todo_find(self, token: Secret, *, creator: str, source_id: str) -> Answer:
        """The todo that was made for a job; proof ``id``. In DingTalk's own SDK, without a page."""
        path = f"/v1.0/todo/users/{quote(creator, safe='')}/tasks/sources/{quote(source_id, safe='')}"
        return self._hosts.newer("GET", path, token=token)

    def todo_update(self, token: Secret, *, creator: str, todo_id: str, changes: Mapping[str, Any]) -> Answer:
        """Change a todo, or say that it is done; proof ``result``. Page: updates-dingtalk-to-do-tasks."""
        path = f"/v1.0/todo/users/{quote(creator, safe='')}/tasks/{quote(todo_id, safe='')}"
        return self._hosts.newer("PUT", path, token=token, body=_json(changes), query={"operatorId": creator})

    def todo_delete(self, token: Secret, *, creator: str, todo_id: str) -> Answer:
        """Take a todo away; proof ``result``. Page: delete-dingtalk-to-do-tasks."""
        path = f"/v1.0/todo/users/{quote(creator, safe='')}/tasks/{quote(todo_id, safe='')}"
        return self._hosts.newer("DELETE", path, token=token, query={"operatorId": creator})

    def _post(self, path: str, token: Secret, body: Mapping[str, Any]) -> Answer:
        return self._hosts.newer("POST", path, token=token, body=_json(body))

    def _older(self, path: str, token: Secret, body: Mapping[str, Any]) -> Answer:
        return self._hosts.older(path, token=token, body=_json(body))


def _json(body: Mapping[str, Any]) -> bytes:
    # Unescaped: DingTalk's error list calls the escaped form illegal (40033), and it costs twice the bytes.
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
