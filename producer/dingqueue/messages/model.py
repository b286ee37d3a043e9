"""What rendering takes and gives: plain data and the bytes that are sent. Knows nothing of jobs or queues."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: DingTalk's "body size illegal, keep within 20000 bytes" (errcode 460101), measured on the encoded body.
MAX_BODY_BYTES = 20_000
#: At most this many people in one ``at``.
#: https://open.dingtalk.com/document/development/custom-robots-send-group-messages
MAX_MENTIONS = 50
#: The longest user id, and the longest keyword, for which a job that was accepted is sure to fit.
MAX_USER_ID_CHARS = 64
MAX_KEYWORD_BYTES = 200


@dataclass(frozen=True, slots=True)
class Rung:
    """How a person of the fleet's ``[people]`` table can be rung.

    Attributes:
        mobile: ``13800000000`` or ``+852-91234567``.
        user_id: DingTalk's staff user id.
    """

    mobile: str | None = None
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A job as DingTalk's robot takes it.

    Attributes:
        bodies: One JSON body per message; a long text has several, in the order in which they are to be sent.
        warnings: What a person should know before it is sent, in words without the message's text.
    """

    bodies: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...] = ()


def encode(body: Mapping[str, Any]) -> bytes:
    r"""The exact bytes that are sent: compact JSON in UTF-8.

    Unescaped, because a Chinese character costs 3 bytes so and 6 as ``\uXXXX``, and DingTalk's error list calls
    the escaped form illegal (40033).
    """
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
