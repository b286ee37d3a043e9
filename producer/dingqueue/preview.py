"""What DingTalk would get for a job, with bytes and warnings. Sends nothing; knows no Redis, no Celery."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dingqueue.contract import Job, ShareJob, StoredFile
from dingqueue.messages import MAX_BODY_BYTES, Rung, encode, render_webhook

#: One robot's messages a minute.
#: https://open.dingtalk.com/document/development/custom-bot-to-send-group-chat-messages
_MESSAGES_A_MINUTE = 20


@dataclass(frozen=True, slots=True)
class Preview:
    """A job as DingTalk would get it.

    Attributes:
        bodies: The JSON bodies, in order.
        sizes_bytes: The size of each as sent, of at most ``MAX_BODY_BYTES``; of a file, its own.
        warnings: What a person should know before it is sent.
    """

    bodies: tuple[dict[str, Any], ...]
    sizes_bytes: tuple[int, ...]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        """For a terminal: each message with its size and text, then the warnings."""
        lines: list[str] = []
        for number, (body, size_bytes) in enumerate(zip(self.bodies, self.sizes_bytes, strict=True), start=1):
            most = "" if body["msgtype"] == "file" else f" of {MAX_BODY_BYTES:,}"
            lines.append(f"message {number} of {len(self.bodies)}: {body['msgtype']}, {size_bytes:,}{most} bytes")
            lines.extend(f"  rings {who}" for who in _rings(body))
            if body["msgtype"] in {"markdown", "actionCard"}:
                lines.append(f"  in the conversation list: {body[body['msgtype']]['title']}")
            lines.extend(f"  | {line}" for line in _shown(body))
        lines.extend(f"warning: {warning}" for warning in self.warnings)
        return "\n".join(lines)


def preview(job: Job, *, keywords: Sequence[str] = (), people: Mapping[str, Rung] | None = None) -> Preview:
    """What a webhook robot would send for a job; a kept file by itself.

    Args:
        job: From ``send_job``, ``assign_job`` or ``share_job``.
        keywords: The robot's; a producer does not know them.
        people: The fleet's ``[people]``; None shows names as they are, with a warning.

    Raises:
        InvalidJob: It could not be sent so.
    """
    if isinstance(job, ShareJob) and job.file:
        return _preview_file(job.file, job.note)
    rendered = render_webhook(job, keywords=keywords, people=people or {}, check_names=people is not None)
    bodies = tuple(json.loads(encode(body)) for body in rendered.bodies)
    sizes_bytes = tuple(len(encode(body)) for body in rendered.bodies)
    warnings = [*rendered.warnings]
    if len(bodies) > _MESSAGES_A_MINUTE:
        warnings.append(f"at {_MESSAGES_A_MINUTE} messages a minute one robot needs {_minutes(len(bodies))} minutes")
    return Preview(bodies, sizes_bytes, tuple(warnings))


def _preview_file(file: StoredFile, note: str) -> Preview:
    """What people see of a file; DingTalk gets its content and a message about it."""
    inner = {"name": file.name, "type": file.type} | ({"note": note} if note else {})
    warning = "needs a destination with an app: a webhook robot cannot carry a file"
    return Preview(({"msgtype": "file", "file": inner},), (file.size_bytes,), (warning,))


def _minutes(messages: int) -> int:
    return -(-messages // _MESSAGES_A_MINUTE)


def _rings(body: Mapping[str, Any]) -> list[str]:
    at = body.get("at", {})
    everyone = ["everyone"] if at.get("isAtAll") else []
    return [*everyone, *at.get("atMobiles", ()), *at.get("atUserIds", ())]


def _shown(body: Mapping[str, Any]) -> list[str]:
    """The lines that people would read."""
    inner = body[body["msgtype"]]
    match body["msgtype"]:
        case "text":
            lines = [inner["content"]]
        case "file":
            lines = [f"{inner['name']} ({inner['type']})", *filter(None, [inner.get("note")])]
        case "feedCard":
            lines = [f"{link['title']} <{link['messageURL']}>" for link in inner["links"]]
        case "link":
            lines = [inner["title"], inner["text"], f"<{inner['messageUrl']}>"]
        case _:
            lines = [inner["text"], *_buttons(inner)]
    return "\n".join(lines).split("\n")


def _buttons(inner: Mapping[str, Any]) -> list[str]:
    if "singleTitle" in inner:
        return [f"[{inner['singleTitle']}] <{inner['singleURL']}>"]
    return [f"[{button['title']}] <{button['actionURL']}>" for button in inner.get("btns", ())]
