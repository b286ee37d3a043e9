"""A job as DingTalk's JSON bodies. Pure: knows neither Celery, Redis nor HTTP."""

from __future__ import annotations

from dingqueue.messages.app import (
    MAX_NOTICE_BYTES,
    MAX_PARAM_BYTES,
    RobotMessage,
    masked_mobile,
    notice_file,
    notice_share,
    people_shown,
    render_notice,
    render_robot,
    robot_file,
    robot_link,
)
from dingqueue.messages.mentions import by_union_id
from dingqueue.messages.mobiles import documented_mobile, looks_like_mobile
from dingqueue.messages.model import (
    MAX_BODY_BYTES,
    MAX_KEYWORD_BYTES,
    MAX_MENTIONS,
    MAX_USER_ID_CHARS,
    Rendered,
    Rung,
    encode,
)
from dingqueue.messages.webhook import MAX_PARTS, check_webhook, render_webhook

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_KEYWORD_BYTES",
    "MAX_MENTIONS",
    "MAX_NOTICE_BYTES",
    "MAX_PARAM_BYTES",
    "MAX_PARTS",
    "MAX_USER_ID_CHARS",
    "Rendered",
    "RobotMessage",
    "Rung",
    "by_union_id",
    "check_webhook",
    "documented_mobile",
    "encode",
    "looks_like_mobile",
    "masked_mobile",
    "notice_file",
    "notice_share",
    "people_shown",
    "render_notice",
    "render_robot",
    "render_webhook",
    "robot_file",
    "robot_link",
]
