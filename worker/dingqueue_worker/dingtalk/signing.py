"""A robot's signature and the query that carries it. Pure: knows no clock and no HTTP.

https://open.dingtalk.com/document/dingstart/customize-robot-security-settings
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import urlencode


def sign(secret: str, timestamp_ms: int) -> str:
    """The signature of a moment, standard Base64 with padding and *not* URL-encoded.

    It holds for an hour at most, so it is made when the request is made, never when the job is enqueued.

    Args:
        secret: The whole ``SEC…`` string of the robot's settings, prefix included.
        timestamp_ms: Unix time in milliseconds; the same number must travel beside the signature.
    """
    # The secret is both the key and a part of the message; DingTalk wants a real newline between the two.
    message = f"{timestamp_ms}\n{secret}"
    return base64.b64encode(hmac.digest(secret.encode(), message.encode(), hashlib.sha256)).decode("ascii")


def robot_query(token: str, secret: str | None, timestamp_ms: int) -> str:
    """The query of one robot request: ``access_token``, and ``timestamp`` and ``sign`` where the robot signs.

    Built anew from its parts each time and percent-encoded exactly once (``+`` is ``%2B``, ``/`` ``%2F``,
    ``=`` ``%3D``), so it neither grows with the hours nor arrives encoded twice.
    """
    fields = {"access_token": token}
    if secret is not None:
        fields |= {"timestamp": str(timestamp_ms), "sign": sign(secret, timestamp_ms)}
    return urlencode(fields)
