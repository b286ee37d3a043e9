"""Posts to a sandbox as a sender would, without the fleet's code: the two must not share a mistake."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Any

import requests

from dingqueue_worker.sandbox.client import Robot, Space


def signed(secret: str, timestamp_ms: int) -> dict[str, str]:
    digest = hmac.new(secret.encode(), f"{timestamp_ms}\n{secret}".encode(), hashlib.sha256).digest()
    return {"timestamp": str(timestamp_ms), "sign": base64.b64encode(digest).decode()}


def text(words: str = "hello", **more: Any) -> dict[str, Any]:
    return {"msgtype": "text", "text": {"content": words}, **more}


def markdown(words: str, title: str = "title", **more: Any) -> dict[str, Any]:
    return {"msgtype": "markdown", "markdown": {"title": title, "text": words}, **more}


def post(
    space: Space,
    robot: Robot | str,
    body: Any = None,
    *,
    query: Mapping[str, str] | None = None,
    session: requests.Session | None = None,
    **options: Any,
) -> requests.Response:
    """POST to ``/robot/send``, signed if the robot signs; `options` go to requests as they are."""
    token = robot if isinstance(robot, str) else robot.token
    fields = {"access_token": token}
    if query is not None:
        fields |= query
    elif isinstance(robot, Robot) and robot.secret:
        fields |= signed(robot.secret, time.time_ns() // 1_000_000)
    if "data" not in options:
        options["json"] = text() if body is None else body
    options.setdefault("timeout", 10)
    options.setdefault("allow_redirects", False)
    return (session or requests).post(f"{space.oapi_url}/robot/send", params=fields, **options)


def answer(response: requests.Response) -> tuple[int, str]:
    data = response.json()
    return data["errcode"], data["errmsg"]


def send(space: Space, robot: Robot | str, body: Any = None, **options: Any) -> int:
    """Post, and give back the errcode."""
    response = post(space, robot, body, **options)
    assert response.status_code == 200, response.text
    return int(response.json()["errcode"])
