"""Posts to a sandbox as a sender would, without the fleet's code: the two must not share a mistake."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Any

import requests

from dingqueue_worker.sandbox.client import App, Robot, Space


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


def app_token(space: Space, app: App) -> str:
    """An app's token, by the present call."""
    response = newer(space, "POST", "/v1.0/oauth2/accessToken", None, {"appKey": app.key, "appSecret": app.secret})
    assert response.status_code == 200, response.text
    return str(response.json()["accessToken"])


def newer(
    space: Space, method: str, path: str, token: str | None, body: Any = None, **options: Any
) -> requests.Response:
    """A call of the newer host."""
    headers = {"x-acs-dingtalk-access-token": token} if token is not None else {}
    return requests.request(method, f"{space.api_url}{path}", headers=headers, json=body, timeout=10, **options)


def older(space: Space, path: str, token: str | None, body: Any = None, **options: Any) -> dict[str, Any]:
    """A POST to the older host."""
    query = {"access_token": token} if token is not None else {}
    if "data" not in options and "files" not in options:
        options["json"] = body
    response = requests.post(
        f"{space.oapi_url}{path}", params={**query, **options.pop("query", {})}, timeout=10, **options
    )
    assert response.status_code == 200, response.text
    data: dict[str, Any] = response.json()
    return data
