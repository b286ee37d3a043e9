"""The same POST for every contender: one message to a robot, and a look at what the answer says."""

from __future__ import annotations

import json
import os
import threading

import requests
import urllib3
from requests.adapters import HTTPAdapter

URL = os.environ.get("BENCH_URL", "")
REDIS_URL = os.environ.get("BENCH_REDIS_URL", "redis://127.0.0.1:6379/0")
_TIMEOUT_S = (3.0, 8.0)
_HEADERS = {"Content-Type": "application/json; charset=utf-8"}
_lock = threading.Lock()
_session: requests.Session | None = None
_pool = urllib3.PoolManager(maxsize=64)


def body(text: str) -> bytes:
    """A text message as a robot takes it."""
    return json.dumps({"msgtype": "text", "text": {"content": text}}, ensure_ascii=False).encode()


def _check(status: int, answer: bytes) -> None:
    if status != 200 or json.loads(answer)["errcode"] != 0:
        raise RuntimeError("refused")


def _shared(pool: int) -> requests.Session:
    global _session
    if _session is None:
        with _lock:
            if _session is None:
                session = requests.Session()
                for scheme in ("http://", "https://"):
                    session.mount(scheme, HTTPAdapter(pool_connections=4, pool_maxsize=pool))
                _session = session
    return _session


def session_post(text: str, *, token: str = "t", pool: int = 64) -> None:
    """With one session that the process keeps: what a careful user of requests writes."""
    answer = _shared(pool).post(
        f"{URL}/robot/send?access_token={token}", data=body(text), headers=_HEADERS, timeout=_TIMEOUT_S
    )
    _check(answer.status_code, answer.content)


def pool_post(text: str, *, token: str = "t") -> None:
    """With urllib3's pool, as dingqueue's workers: half the cost of a session."""
    answer = _pool.request(
        "POST",
        f"{URL}/robot/send?access_token={token}",
        body=body(text),
        headers=_HEADERS,
        timeout=urllib3.Timeout(*_TIMEOUT_S),
        retries=False,
    )
    _check(answer.status, answer.data)


def naive_post(text: str, *, token: str = "t") -> None:
    """With ``requests.post``: a new session and a new connection each time."""
    answer = requests.post(
        f"{URL}/robot/send?access_token={token}", data=body(text), headers=_HEADERS, timeout=_TIMEOUT_S
    )
    _check(answer.status_code, answer.content)
